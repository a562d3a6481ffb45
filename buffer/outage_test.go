package buffer

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// within fails the test if f does not return: nobody waits for ever.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for ever: " + what)
	}
}

// killed is a buffer's directory as a kill at this moment would leave it.
func killed(t *testing.T, dir string) string {
	t.Helper()
	to := newDir(t)
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
	return to
}

func (g *gaps) passed() (n uint64) {
	for _, gap := range g.of(GapPassed) {
		n += gap.Count
	}
	return n
}

// letPass has n calls pass.
func letPass(t *testing.T, b *Buffer, n int) {
	t.Helper()
	for range n {
		c, err := b.Admit(100, Caller{Known: true})
		if err != nil || !c.Passed() {
			t.Fatalf("it does not pass: %v", err)
		}
		c.Release()
	}
}

// full is how a buffer is full whose disk works.
func full(told *gaps) Options {
	return Options{OnFault: Pass, MinFree: 1 << 60, Gap: told.entry}
}

// sealed makes a buffer of several segments with 1 KiB in each of n entries.
func sealed(t *testing.T, dir string, n int, o Options) *Buffer {
	t.Helper()
	o.SegmentSize = 64 << 10
	b := open(t, dir, o)
	b.Hold("store")
	for range n {
		if err := b.Append(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestACloseTellsOfTheCallsThatHaveJustPassed(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	b := open(t, dir, full(told))
	letPass(t, b, 7)
	shut(t, b)
	told.list = nil
	b = open(t, dir, Options{Gap: told.entry, MinFree: 1})
	recorded := 0
	for _, e := range entries(t, b, 1) {
		if strings.HasPrefix(e, "gap passed") {
			recorded++
		}
	}
	if recorded != 1 || b.Stats().Calls.Passed != 7 {
		t.Errorf("7 calls passed before an ordered end: %d gaps in the log, %+v", recorded, b.Stats().Calls)
	}
}

func TestAnUnlinkThatHangsKeepsNobodyWaiting(t *testing.T) {
	b := sealed(t, newDir(t), 300, Options{MaxWait: 10 * time.Second})
	hangs, heal := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	failAt(t, func(name string) error {
		if name == "unlink" {
			if once.CompareAndSwap(false, true) {
				close(hangs)
			}
			<-heal
		}
		return nil
	})
	defer close(heal)
	b.Advance("store", b.Stats().Head, b.Stats().Head, 0, 0)
	<-hangs
	b.Configure(Options{MaxWait: 100 * time.Millisecond})
	within(t, "a look at the counters", func() { b.Stats() })
	within(t, "a call", func() {
		if c, err := b.Admit(100, Caller{Known: true}); err == nil {
			_ = c.Append([]byte("x"))
			c.Release()
		}
	})
}

// As with a disk that has room for a new segment's few pages and not for what waits.
func TestADiskThatTakesNewSegmentsAndNoCommitsLetsGo(t *testing.T) {
	b := open(t, newDir(t), Options{MaxWait: 50 * time.Millisecond})
	var attempts atomic.Int64
	failAt(t, func(name string) error {
		if name == "commit" {
			attempts.Add(1)
			return errors.New("planted")
		}
		return nil
	})
	if err := b.Append([]byte("x")); !errors.Is(err, ErrSlow) {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if n := attempts.Load(); n > 30 {
		t.Errorf("%d attempts in a second, want about ten", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.Close(ctx); errors.Is(err, context.DeadlineExceeded) {
		t.Error("a close waits for ever:", err)
	}
	failpoint.Store(nil)
	<-b.done
}

// Their share must come back when the stores have everything, also where nobody
// else calls.
func TestStrangersWhoseEntriesAreDeliveredAreLetIn(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{32 << 20, 256 << 20} {
		b := open(t, newDir(t), Options{MaxSize: size, MinFree: 1})
		b.Hold("store")
		network := netip.MustParsePrefix("10.1.2.0/24")
		payload := make([]byte, 64<<10)
		for i := range int(size/10/int64(len(payload))) + 10 {
			var c *Call
			var err error
			for range 100 { // the space is given back with one of the next commits
				if c, err = b.Admit(100, Caller{Network: network}); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if err != nil {
				t.Fatalf("max_size %d: call %d, and all before are delivered: %v, %+v", size, i, err, b.Stats())
			}
			if err := c.Append(payload); err != nil {
				t.Fatal(err)
			}
			c.Release()
			b.Advance("store", b.Stats().Head, 1, 0, 0)
		}
		shut(t, b)
	}
}

func TestASlowReaderKeepsNoCallWaiting(t *testing.T) {
	t.Parallel()
	b := sealed(t, newDir(t), 200, Options{})
	reads, heal := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Read(1, func(uint64, []byte) bool {
			close(reads)
			<-heal
			return false
		})
	}()
	<-reads
	time.Sleep(2 * tickEvery)
	within(t, "an append while somebody reads", func() {
		if err := b.Append([]byte("x")); err != nil {
			t.Error(err)
		}
	})
	within(t, "a close while somebody reads", func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	close(heal)
	<-done
	within(t, "the writer", func() { <-b.done })
}

func markers() int {
	var out bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&out, 2)
	return strings.Count(out.String(), "(*Buffer).mark(")
}

func TestALongFaultLeavesNoGoroutinesBehind(t *testing.T) {
	told := &gaps{}
	b := open(t, newDir(t), full(told))
	var end atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for !end.Load() {
			if c, err := b.Admit(100, Caller{Known: true}); err == nil {
				c.Release()
			}
		}
	}()
	for n := range 5 { // minutes
		awaitTrue(t, "an episode", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.passing == nil || b.passing.Count == 0 {
				return false
			}
			b.passing.began = b.passing.began.Add(-2 * passTell)
			return true
		})
		awaitTrue(t, "its gap", func() bool { return len(told.of(GapPassed)) > n })
	}
	awaitTrue(t, "one goroutine for the marker", func() bool { return markers() <= 1 })
	end.Store(true)
	<-ended
	checkConserved(t, b)
}

// A call must not pass on the marker of an episode that a gap has told of.
func TestNoCallPassesOnTheMarkerOfAnEpisodeThatIsOver(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	o := full(told)
	b := open(t, dir, o)
	waits, heal := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	failAt(t, func(name string) error {
		if name == "marker" && once.CompareAndSwap(false, true) {
			close(waits)
			<-heal
		}
		return nil
	})
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		letPass(t, b, 1)
	}()
	<-waits
	time.Sleep(passIdle + 2*tickEvery)
	close(heal)
	<-passed
	to := killed(t, dir)
	again := &gaps{}
	o.Gap, o.Adopt = again.entry, true
	b = open(t, to, o)
	if len(told.of(GapPassed))+len(again.of(GapPassed)) == 0 {
		t.Error("a call passed, the process was killed, and no gap tells of it")
	}
}

// The disk heals for one commit and fails again before the gap is on it.
func TestAnEpisodeIsToldOfThoughItsGapIsNotOnTheDiskWhenTheNextBegins(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	o := Options{OnFault: Pass, MaxWait: 50 * time.Millisecond, Gap: told.entry, MinFree: 1}
	b := open(t, dir, o)
	var works atomic.Bool
	var commits atomic.Int64
	planted := errors.New("planted")
	failAt(t, func(name string) error {
		switch {
		case name == "marker":
			return nil
		case !works.Load():
			return planted
		case name == "committed", name == "position":
			works.Store(false)
			commits.Add(1)
		}
		return nil
	})
	pass := func(n int) {
		_ = b.Append([]byte("an event keeps the writer busy"))
		awaitTrue(t, "a fault", func() bool { return b.fault() != nil })
		letPass(t, b, n)
		time.Sleep(passIdle + 2*tickEvery) // the marker's count is up to date
	}
	pass(5)
	works.Store(true)
	awaitTrue(t, "a commit", func() bool { return commits.Load() > 0 })
	awaitTrue(t, "the first gap", func() bool { return told.passed() == 5 })
	pass(3)
	to := killed(t, dir)
	again := &gaps{}
	o.Gap, o.Adopt = again.entry, true
	failpoint.Store(nil)
	b = open(t, to, o)
	if n := again.passed(); n != 8 {
		t.Errorf("8 calls passed, and the gaps that are on the disk tell of %d: %+v", n, again.of(GapPassed))
	}
	if n := b.Stats().Calls.Passed; n != 8 {
		t.Errorf("8 calls passed, and %d are counted", n)
	}
	checkConserved(t, b)
}

func TestADiskThatWasOutOfOrderOnceIsGivenItsTimeAgain(t *testing.T) {
	b := sealed(t, newDir(t), 200, Options{})
	b.segMu.Lock()
	s := b.segments[0]
	b.segMu.Unlock()
	s.mu.Lock()
	s.view, s.unreadable = nil, time.Now().Add(-time.Hour) // it could not be read then
	s.mu.Unlock()
	entries(t, b, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.patience(s) {
		t.Error("it was read since, and the next error makes its entries count as damaged at once")
	}
}

func TestManyNetworksLeaveNothingBehind(t *testing.T) {
	var s share
	network := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	}
	const n = maxNetworks + 100
	for i := range n {
		s.take(network(i), 100, 1<<40)
	}
	for i := range n {
		s.give(network(i), 100)
	}
	if s.used.all != 0 || len(s.used.parts) != 0 {
		t.Errorf("all is given back, and %d bytes are used, by networks %v", s.used.all, s.used.parts)
	}
	for i := range maxNetworks {
		s.take(network(i), 100, 1<<40)
	}
	for i := maxNetworks; i < n; i++ {
		s.take(network(i), leastOfNetwork/10, 1<<20)
	}
	if got := s.used.parts[netip.Prefix{}]; got > leastOfNetwork {
		t.Errorf("the networks beyond share one quota, and have %d bytes", got)
	}
}

func TestManyOpenCallsDoNotMakeASegmentOfEachCommit(t *testing.T) {
	t.Parallel()
	b := open(t, newDir(t), Options{SegmentSize: 64 << 10})
	for range 200 {
		c, err := b.Admit(100, Caller{Known: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Begin(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	before := b.Stats().Segments
	for range 50 {
		if err := b.Append([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Stats().Segments - before; n > 5 {
		t.Errorf("50 small entries made %d segments", n)
	}
}

func TestCountersDoNotGoBackWhileACommitHangs(t *testing.T) {
	b := open(t, newDir(t), Options{MaxWait: 50 * time.Millisecond})
	hangs, heal := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	for range 10 {
		b.Exclude()
	}
	failAt(t, func(name string) error {
		if name == "commit" {
			if once.CompareAndSwap(false, true) {
				close(hangs)
			}
			<-heal
		}
		return nil
	})
	<-hangs
	if c := b.Stats().Calls; c.Excluded != 10 || c.Seen != 10 {
		t.Errorf("10 are excluded, and while a commit hangs these count: %+v", c)
	}
	close(heal)
	awaitTrue(t, "the commit", func() bool { return !b.Stats().Slow })
	checkConserved(t, b)
}

func TestAMarkerThatHangsKeepsCallsWaitingOnce(t *testing.T) {
	b := open(t, newDir(t), Options{OnFault: Pass, MaxWait: time.Second, Gap: (&gaps{}).entry})
	awaitTrue(t, "that the disk knows", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.armed
	})
	heal := make(chan struct{})
	failAt(t, func(string) error {
		<-heal
		return nil
	})
	defer close(heal)
	_ = b.Append([]byte("an event keeps the writer busy"))
	awaitTrue(t, "a fault", func() bool { return b.fault() != nil })
	within(t, "100 calls one after the other", func() { letPass(t, b, 100) })
}

// A kill, or a disk that is full, between the segment that a start makes and its first
// commit.
func TestNoGapCountsAsToldBeforeItIsOnTheDisk(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, dir string) (from string, r Reason){
		"passed": func(t *testing.T, dir string) (string, Reason) {
			letPass(t, open(t, dir, full(&gaps{})), 7)
			return killed(t, dir), GapPassed
		},
		"copied": func(t *testing.T, dir string) (string, Reason) {
			fill(t, dir, 20, true)
			return killed(t, dir), GapOrigin
		},
		"damaged": func(t *testing.T, dir string) (string, Reason) {
			fill(t, dir, 400, true)
			files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(files[len(files)-1], os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(bytes.Repeat([]byte{0}, 32<<10), 40<<10); err != nil {
				t.Fatal(err)
			}
			return dir, GapDamaged
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, reason := make(t, newDir(t))
			o := Options{MaxWait: 50 * time.Millisecond, Adopt: reason == GapPassed, MinFree: 1}
			told := &gaps{}
			o.Gap = told.entry
			failAt(t, func(name string) error {
				if name == "append" {
					return errors.New("planted")
				}
				return nil
			})
			b := open(t, from, o)
			if len(told.of(reason)) == 0 {
				t.Fatal("there is no gap to tell of")
			}
			_ = b.Close(context.Background()) // as much as a kill would
			failpoint.Store(nil)
			told = &gaps{}
			o.Gap = told.entry
			b = open(t, from, o)
			entries := 0
			_ = b.ReadPast(1, func(_ uint64, p []byte) bool {
				if strings.HasPrefix(string(p), "gap "+string(reason)) {
					entries++
				}
				return true
			}, func(*DamagedError) {})
			awaitTrue(t, "the commit", func() bool { return len(told.of(reason)) > 0 || time.Since(b.clock) > 3*time.Second })
			if len(told.of(reason)) == 0 {
				t.Errorf("the gap is neither in the log nor told again (%d entries)", entries)
			}
			checkConserved(t, b)
		})
	}
}
