package buffer

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// stuck keeps the writer from committing, as a hanging or failing disk would, until
// the returned function is called.
func stuck(t *testing.T) (heal func()) {
	t.Helper()
	var healed atomic.Bool
	planted := errors.New("planted")
	failAt(t, func(name string) error {
		if healed.Load() || name == "marker" {
			return nil
		}
		return planted
	})
	return func() { healed.Store(true) }
}

func awaitTrue(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to be: " + what)
		}
	}
}

func TestCallsThatPassAreCountedAndAGapTellsOfThem(t *testing.T) {
	told := &gaps{}
	b := open(t, newDir(t), Options{OnFault: Pass, MaxWait: 50 * time.Millisecond, Gap: told.entry})
	heal := stuck(t)
	const n = 40
	passed := 0
	for range n {
		c, err := b.Admit(100, Caller{Known: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Begin([]byte("intent")); err != nil {
			t.Fatal(err)
		}
		if c.Passed() {
			passed++
		} else if err := c.Append([]byte("entry")); err != nil && !errors.Is(err, ErrSlow) {
			t.Fatal(err)
		}
		c.Release()
	}
	if passed < n/2 {
		t.Fatalf("%d of %d passed", passed, n)
	}
	if st := b.Stats(); !st.Passing || st.Calls.Passed != uint64(passed) {
		t.Errorf("while they pass: %+v", st)
	}
	checkConserved(t, b)
	heal()
	awaitTrue(t, "a gap", func() bool { return len(told.of(GapPassed)) > 0 && !b.Stats().Passing })
	awaitTrue(t, "the others' record", func() bool { return b.Stats().Calls.Recorded == uint64(n-passed) })
	g := told.of(GapPassed)[0]
	if len(told.of(GapPassed)) != 1 || g.Count != uint64(passed) || g.AtLeast || g.Since.IsZero() || g.Cause == "" {
		t.Errorf("gaps %+v, want one of %d", told.of(GapPassed), passed)
	}
	if st := b.Stats(); st.Calls.Passed != uint64(passed) {
		t.Errorf("%+v, want %d passed", st.Calls, passed)
	}
	checkConserved(t, b)
	if _, err := b.Admit(1, Caller{}); err != nil {
		t.Errorf("after the disk has healed: %v", err)
	}
}

func TestAProcessThatDiesWhileCallsPassLeavesTheMarker(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{OnFault: Pass, MaxWait: 50 * time.Millisecond, Gap: (&gaps{}).entry})
	stuck(t)
	_ = b.Append([]byte("an event keeps the writer busy"))
	// The writer may have taken it later than it was given, and be busy for less than MaxWait.
	awaitTrue(t, "a fault", func() bool { return b.fault() != nil })
	passed := 0
	for range 30 {
		c, err := b.Admit(100, Caller{Known: true})
		if err != nil {
			t.Fatal(err)
		}
		if c.Passed() {
			passed++
		}
		c.Release()
	}
	awaitTrue(t, "the count in the marker", func() bool {
		b.marker.mu.Lock()
		defer b.marker.mu.Unlock()
		return b.marker.said.Episode.Count == uint64(passed)
	})
	abandon(t, b)

	told := &gaps{}
	b = open(t, dir, Options{Gap: told.entry})
	g := told.of(GapPassed)
	if len(g) != 1 || g[0].Count != uint64(passed) || !g[0].AtLeast {
		t.Fatalf("gaps %+v, want one of at least %d", g, passed)
	}
	if !b.Recovered().MayHavePassed {
		t.Error("that calls may have passed without a marker is not said")
	}
	if st := b.Stats(); st.Calls.Passed != uint64(passed) {
		t.Errorf("%+v", st.Calls)
	}
	checkConserved(t, b)
	shut(t, b)
	again := &gaps{}
	b = open(t, dir, Options{Gap: again.entry})
	if g := again.of(GapPassed); len(g) > 0 {
		t.Errorf("it is told twice: %+v", g)
	}
	checkConserved(t, b)
}

func TestWithoutAMarkerNobodyPassesUnlessTheDiskKnowsOrSomebodyOrdersIt(t *testing.T) {
	b := open(t, newDir(t), Options{MaxWait: 30 * time.Millisecond})
	planted := errors.New("planted")
	failAt(t, func(string) error { return planted })
	b.Configure(Options{MaxWait: 30 * time.Millisecond, OnFault: Pass}) // which the disk does not get to know
	_ = b.Append([]byte("busy"))
	awaitTrue(t, "a fault", func() bool { return b.fault() != nil })
	if c, err := b.Admit(100, Caller{Known: true}); err == nil {
		t.Fatalf("a call passes (%v) and nothing on the disk says so", c.Passed())
	}
	b.PassUntil(time.Now().Add(time.Hour))
	if c, err := b.Admit(100, Caller{Known: true}); err != nil || !c.Passed() {
		t.Fatalf("an order on a disk that takes nothing: %v", err)
	}
}

func TestAnOrderLetsCallsPassUntilItEnds(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{MaxWait: 30 * time.Millisecond, Gap: (&gaps{}).entry})
	b.PassUntil(time.Now().Add(time.Hour))
	awaitTrue(t, "the order's note", func() bool {
		b.marker.mu.Lock()
		defer b.marker.mu.Unlock()
		return b.marker.said.Ordered > 0
	})
	c, err := b.Admit(100, Caller{Known: true})
	if err != nil || c.Passed() {
		t.Fatalf("a call that can be recorded: %v", err)
	}
	c.Release()
	shut(t, b)
	b = open(t, dir, Options{MaxWait: 30 * time.Millisecond, Gap: (&gaps{}).entry})
	if b.Ordered().IsZero() {
		t.Fatal("a restart has ended the order")
	}
	heal := stuck(t)
	_ = b.Append([]byte("busy"))
	awaitTrue(t, "a fault", func() bool { return b.fault() != nil })
	if c, err = b.Admit(100, Caller{Known: true}); err != nil || !c.Passed() {
		t.Fatalf("a call that cannot be recorded: %v", err)
	}
	b.PassUntil(time.Time{})
	if _, err := b.Admit(100, Caller{Known: true}); !errors.Is(err, ErrFailing) && !errors.Is(err, ErrSlow) {
		t.Errorf("after its end: %v", err)
	}
	heal()
	awaitTrue(t, "an end", func() bool { return !b.Stats().Passing })
	checkConserved(t, b)
}

func TestStrangersCannotFillTheBuffer(t *testing.T) {
	b := open(t, newDir(t), Options{MaxSize: 100 << 20, Gap: (&gaps{}).entry})
	from := func(ip string) Caller {
		p, err := netip.MustParseAddr(ip).Prefix(24)
		if err != nil {
			t.Fatal(err)
		}
		return Caller{Network: p}
	}
	const size = 256 << 10
	flood := func(ip string) (n int, calls []*Call) {
		for {
			c, err := b.Admit(size, from(ip))
			if errors.Is(err, ErrShare) {
				return n, calls
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
			calls = append(calls, c)
		}
	}
	one, calls := flood("10.0.0.1")
	if one != 4 { // a tenth of a tenth
		t.Errorf("one network gets %d calls in, want 4", one)
	}
	all := one
	for i := range 20 {
		n, more := flood(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 1}).String())
		all += n
		calls = append(calls, more...)
	}
	if all != 40 { // a tenth
		t.Errorf("all networks get %d calls in, want 40", all)
	}
	if _, err := b.Admit(size, Caller{Known: true}); err != nil {
		t.Errorf("a known caller beside them: %v", err)
	}
	b.Configure(Options{MaxSize: 100 << 20, OnFault: Pass, MaxWait: time.Minute})
	if _, err := b.Admit(size, from("10.0.0.1")); !errors.Is(err, ErrShare) {
		t.Errorf("under on_fault pass a full share must not hide what comes next: %v", err)
	}
	for _, c := range calls {
		c.Release()
	}
	if got := b.Stats().StrangersBytes; got != 0 {
		t.Errorf("%d bytes are used when all are gone", got)
	}
	checkConserved(t, b)
}

func TestWhatStrangersHaveInTheBufferCountsUntilItIsGone(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	o := Options{SegmentSize: 128 << 10}
	b := open(t, dir, o)
	b.Hold("store")
	payload := make([]byte, 10<<10)
	for range 50 {
		c, err := b.Admit(100, Caller{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Append(payload); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	before := b.Stats().StrangersBytes
	if before < 50*10<<10 || before > 60*10<<10 {
		t.Errorf("%d bytes", before)
	}
	shut(t, b)
	b = open(t, dir, o)
	if after := b.Stats().StrangersBytes; after != before {
		t.Errorf("%d bytes after a restart, %d before", after, before)
	}
	b.Hold("store")
	b.Advance("store", b.Stats().Head, b.Stats().Head, 0, 0)
	awaitTrue(t, "their segments are gone", func() bool { return b.Stats().StrangersBytes == 0 })
}

func TestWithLittleOfTheDiskLeftTheBufferIsFull(t *testing.T) {
	b := open(t, newDir(t), Options{MinFree: 1 << 60})
	if b.Stats().FreeBytes < 0 {
		t.Log("this system does not say what is free")
		return
	}
	if _, err := b.Admit(1, Caller{Known: true}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	b.Configure(Options{MinFree: 1, MaxWait: time.Minute})
	if _, err := b.Admit(1, Caller{Known: true}); err != nil {
		t.Error(err)
	}
}

func TestADirectoryThatEverybodyCanReadIsRefused(t *testing.T) {
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if b, err := Open(dir, Options{}); err == nil {
		_ = b.Close(context.Background())
		t.Fatal("it is taken")
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir, Options{})
	_ = b.Append([]byte("x"))
	for _, name := range []string{"LOCK", markerName, filepath.Base(b.active().path)} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}
