package buffer

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// grow appends until there are n segments more.
func grow(t *testing.T, b *Buffer, n int) {
	t.Helper()
	payload := bytes.Repeat([]byte("x"), 40_000)
	for target := b.Stats().Segments + n; b.Stats().Segments < target; {
		if err := b.Append(payload); err != nil {
			t.Fatal(err)
		}
	}
}

// settle waits for the writer's next look around.
func settle(t *testing.T, b *Buffer, done func(Stats) bool) Stats {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		st := b.Stats()
		if done(st) {
			return st
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to it: %+v", st)
		}
	}
}

func TestAStoreThatIsAddedLaterBeginsWhereItIsAsked(t *testing.T) {
	b := open(t, newDir(t), Options{})
	for range 5 {
		if err := b.Append([]byte("before")); err != nil {
			t.Fatal(err)
		}
	}
	for name, from := range map[string]From{"unsaid": FromUnsaid, "oldest": FromOldest, "now": FromNow} {
		if err := b.Attach(name, Attachment{Destination: name, From: from}); err != nil {
			t.Fatal(err)
		}
		want := map[From]uint64{FromNow: 5}[from]
		if p := b.Stats().Stores[name]; p.Start != want || p.Position != want {
			t.Errorf("%s: it begins behind %d at %d, want %d", name, p.Start, p.Position, want)
		}
	}
	checkConserved(t, b)
	shut(t, b)
}

func TestAnotherDestinationMustSayWhereItBegins(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	if err := b.Attach("s", Attachment{Destination: "host-a"}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := b.Append([]byte("entry")); err != nil {
			t.Fatal(err)
		}
	}
	b.Advance("s", 3, 3, 0, 0)
	shut(t, b)
	b = open(t, dir, Options{})
	err := b.Attach("s", Attachment{Destination: "host-b"})
	if err == nil || !strings.Contains(err.Error(), "host-a") || !strings.Contains(err.Error(), "from oldest") {
		t.Errorf("got %v", err)
	}
	if p := b.Stats().Stores["s"]; p.Position != 3 || p.Destination != "host-a" {
		t.Errorf("the position that was kept is %+v", p)
	}
	if err := b.Attach("s", Attachment{Destination: "host-a", MaxLag: 1 << 40}); err != nil || b.Position("s") != 3 {
		t.Errorf("other options moved it to %d: %v", b.Position("s"), err)
	}
	if err := b.Attach("s", Attachment{Destination: "host-b", From: FromOldest}); err != nil || b.Position("s") != 0 {
		t.Errorf("it begins behind %d: %v", b.Position("s"), err)
	}
	b.Advance("s", 4, 4, 0, 0)
	// What asks for the beginning of a new destination does not begin this one anew.
	if err := b.Attach("s", Attachment{Destination: "host-b", From: FromOldest}); err != nil || b.Position("s") != 4 {
		t.Errorf("it went back to %d: %v", b.Position("s"), err)
	}
	// A configuration that cannot start is taken back.
	if err := b.Attach("s", Attachment{Destination: "host-a"}); err != nil || b.Position("s") != 3 {
		t.Errorf("it does not go on where it was: %d, %v", b.Position("s"), err)
	}
	checkConserved(t, b)
	shut(t, b)
}

func TestALaggingStoreIsDetachedWithAnExactGap(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	var g gaps
	b := open(t, dir, Options{MaxSize: 8 << 20, SegmentSize: 512 << 10, Gap: g.entry})
	if err := b.Attach("dead", Attachment{MaxLag: 2 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := b.Attach("live", Attachment{}); err != nil {
		t.Fatal(err)
	}
	live := func() { b.Advance("live", b.Stats().Head, b.Stats().Head-b.Position("live"), 0, 0) }
	b.Advance("dead", 1, 1, 0, 0)
	payload := bytes.Repeat([]byte("x"), 40_000)
	for i := range 1000 { // 40 MB, five times the bound
		call := admit(t, b)
		if err := call.Append(payload); err != nil {
			t.Fatalf("call %d noticed it: %v", i, err)
		}
		call.Release()
		if i%10 == 0 {
			live()
		}
	}
	live()
	st := settle(t, b, func(st Stats) bool { return len(g.of(GapDetached)) > 5 })
	checkConserved(t, b)
	next, sum := uint64(1), uint64(0)
	if st.Stores["dead"].Delivered > 0 {
		next = 2
	}
	for _, gap := range g.of(GapDetached) {
		if gap.First != next || gap.Count != gap.Last+1-gap.First || gap.Store != "dead" || gap.AtLeast || gap.MissingSince != g.of(GapDetached)[0].First {
			t.Errorf("the gap is of %d to %d, %d of %q; it should begin at %d", gap.First, gap.Last, gap.Count, gap.Store, next)
		}
		next, sum = gap.Last+1, sum+gap.Count
	}
	if p := b.Stats().Stores["dead"]; p.Skipped != sum || p.Position+1 != next {
		t.Errorf("position %+v, and the gaps tell of %d, up to %d", p, sum, next-1)
	}
	if st := b.Stats(); st.Lag["dead"] > 2<<20+512<<10 || st.MaxLag["dead"] != 2<<20 || st.Lag["live"] > 0 {
		t.Errorf("lag %v of at most %v", st.Lag, st.MaxLag)
	}
	if b.Advance("dead", next-1, 7, 0, 0) {
		t.Error("what was in hand when it was detached counts twice")
	}
	checkConserved(t, b)
	shut(t, b)
}

func TestARemovedStoreIsKeptForATimeAndThenForgotten(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	var g gaps
	o := Options{MaxSize: 256 << 20, SegmentSize: 256 << 10, Gap: g.entry}
	b := open(t, dir, o)
	for _, name := range []string{"removed", "stays"} {
		if err := b.Attach(name, Attachment{Destination: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	taken := func() { b.Advance("stays", b.Stats().Head, b.Stats().Head-b.Position("stays"), 0, 0) }
	grow(t, b, 2)
	b.Remove("removed", time.Now().Add(time.Hour))
	taken()
	grow(t, b, 2)
	shut(t, b)

	b = open(t, dir, o) // a start does not forget that it is kept
	if err := b.Attach("stays", Attachment{Destination: "d"}); err != nil {
		t.Fatal(err)
	}
	taken()
	grow(t, b, 2)
	taken()
	time.Sleep(2 * tickEvery)
	if st := b.Stats(); st.Oldest != 1 || st.Stores["removed"].Position != 0 {
		t.Errorf("the oldest is %d; %+v", st.Oldest, st.Stores)
	}
	if err := b.Attach("removed", Attachment{Destination: "d"}); err != nil || b.Position("removed") != 0 || len(g.of(GapSkipped)) > 0 {
		t.Errorf("it came back at %d with gaps %+v: %v", b.Position("removed"), g.of(GapSkipped), err)
	}
	b.Remove("removed", time.Now())
	st := settle(t, b, func(st Stats) bool { return st.Oldest > 1 })
	if _, there := st.Stores["removed"]; there {
		t.Errorf("it is not forgotten: %+v", st.Stores)
	}
	if err := b.Attach("removed", Attachment{Destination: "d"}); err != nil || b.Position("removed")+1 != b.Stats().Oldest {
		t.Errorf("it came back at %d: %v", b.Position("removed"), err)
	}
	checkConserved(t, b)
	shut(t, b)
}

// What nobody comes back for must not fill the buffer.
func TestARemovedStoreIsDetachedBeyondItsShare(t *testing.T) {
	t.Parallel()
	var g gaps
	b := open(t, newDir(t), Options{MaxSize: 8 << 20, SegmentSize: 256 << 10, Gap: g.entry})
	for _, name := range []string{"removed", "stays"} {
		if err := b.Attach(name, Attachment{}); err != nil {
			t.Fatal(err)
		}
	}
	b.Remove("removed", time.Now().Add(time.Hour))
	for range 16 {
		grow(t, b, 1)
		b.Advance("stays", b.Stats().Head, b.Stats().Head-b.Position("stays"), 0, 0)
	}
	settle(t, b, func(st Stats) bool { return st.Bytes < 3<<20 })
	if got := g.of(GapDetached); len(got) == 0 || got[0].First != 1 || got[0].Store != "removed" {
		t.Errorf("gaps %+v", got)
	}
	checkConserved(t, b)
	shut(t, b)
}

// With the first one attached, nothing may go that only the second one needs.
func TestAStartHoldsWhatEachStoreNeeds(t *testing.T) {
	dir := newDir(t)
	var g gaps
	o := Options{SegmentSize: 256 << 10, Gap: g.entry}
	b := open(t, dir, o)
	for _, name := range []string{"fast", "slow"} {
		if err := b.Attach(name, Attachment{Destination: name}); err != nil {
			t.Fatal(err)
		}
	}
	grow(t, b, 4)
	b.Advance("fast", b.Stats().Head, b.Stats().Head, 0, 0)
	shut(t, b)
	b = open(t, dir, o)
	if err := b.Attach("fast", Attachment{Destination: "fast"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.Append([]byte("a commit, after which drained segments go")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Attach("slow", Attachment{Destination: "slow"}); err != nil {
		t.Fatal(err)
	}
	if st := b.Stats(); st.Stores["slow"].Skipped > 0 || st.Oldest != 1 || len(g.of(GapSkipped)) > 0 {
		t.Errorf("the oldest is %d, and the gaps tell of %+v", st.Oldest, g.of(GapSkipped))
	}
	shut(t, b)
}
