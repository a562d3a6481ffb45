package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BUFFER_TEST_VICTIM"); dir != "" {
		if spec := os.Getenv("BUFFER_TEST_KILL"); spec != "" {
			killedAt(dir, spec)
		} else {
			victim(dir)
		}
		return
	}
	// bbolt cannot close a database whose file was cut while it wrote.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("go.etcd.io/bbolt.(*DB).Close"))
}

// newDir is where a buffer can be; the test's own directory is everybody's.
func newDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "b")
}

func open(t *testing.T, dir string, o Options) *Buffer {
	t.Helper()
	if o.MaxWait == 0 {
		o.MaxWait = time.Minute // a busy machine is no fault
	}
	b, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b
}

// failAt has f called at each failpoint until the test ends.
func failAt(t *testing.T, f func(name string) error) {
	t.Helper()
	failpoint.Store(&f)
	t.Cleanup(func() { failpoint.Store(nil) })
}

func shut(t *testing.T, b *Buffer) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func admit(t *testing.T, b *Buffer) *Call {
	t.Helper()
	c, err := b.Admit(100, Caller{Known: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// together appends entries with one commit.
func together(t testing.TB, b *Buffer, payloads [][]byte) {
	t.Helper()
	b.mu.Lock()
	g := b.next
	for _, p := range payloads {
		g.ops = append(g.ops, operation{kind: opEntry, payload: p, at: time.Now().UnixMicro()})
	}
	b.mu.Unlock()
	signal(b.full)
	signal(b.wake)
	if err := b.await(g); err != nil {
		t.Fatal(err)
	}
}

// entries reads everything and checks that sequences have no gap.
func entries(t *testing.T, b *Buffer, from uint64) []string {
	t.Helper()
	var got []string
	next := max(from, b.Stats().Oldest)
	err := b.Read(from, func(seq uint64, p []byte) bool {
		if seq != next {
			t.Fatalf("sequence %d, want %d", seq, next)
		}
		next++
		got = append(got, string(p))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func checkConserved(t *testing.T, b *Buffer) {
	t.Helper()
	s := b.Stats()
	c := s.Calls
	if sum := c.Recorded + c.Excluded + c.Refused + c.Passed + c.Folded + uint64(s.Open); c.Seen != sum {
		t.Errorf("calls: seen %d, terms %d: %+v, open %d", c.Seen, sum, c, s.Open)
	}
	for name, p := range s.Stores {
		if left, right := s.Head-p.Start, p.Delivered+p.Filtered+p.Quarantined+p.Skipped+p.Damaged+s.Head-p.Position; left != right {
			t.Errorf("store %s: %d, terms %d: head %d, %+v", name, left, right, s.Head, p)
		}
	}
}

func TestWhatWasAppendedIsReadBackInOrderAfterReopening(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := b.Append(fmt.Appendf(nil, "%d-%d", g, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	before := entries(t, b, 1)
	if len(before) != 400 {
		t.Fatalf("%d entries, want 400", len(before))
	}
	instance := b.Instance(1)
	if b.Recovered() != (Recovered{}) {
		t.Errorf("a new buffer recovered %+v", b.Recovered())
	}
	shut(t, b)
	b = open(t, dir, Options{})
	if r := b.Recovered(); r.Unclean || r.Unknown != 0 || time.Since(r.At) > time.Minute {
		t.Errorf("after a clean end it recovered %+v", b.Recovered())
	}
	if after := entries(t, b, 1); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Error("the order or the entries changed")
	}
	if b.Instance(1) != instance {
		t.Error("the instance changed")
	}
	for _, path := range []string{"", "LOCK", segmentName(1)} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%q has mode %v; others can read it", path, info.Mode())
		}
	}
}

func TestAnIntentWithoutAnEndIsRecordedOnceAtTheNextStart(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	lost, ended := admit(t, b), admit(t, b)
	for _, c := range []struct {
		call *Call
		p    string
	}{{lost, "lost intent"}, {ended, "ended intent"}} {
		if err := c.call.Begin([]byte(c.p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ended.Append([]byte("ended")); err != nil {
		t.Fatal(err)
	}
	if err := ended.Append([]byte("ended, revision 2")); err != nil {
		t.Fatal(err)
	}
	checkConserved(t, b)
	shut(t, b)
	for range 3 {
		b = open(t, dir, Options{})
		if got, want := strings.Join(entries(t, b, 1), "|"), "ended|ended, revision 2|lost intent"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if c := b.Stats().Calls; c.Seen != 2 || c.Recorded != 2 {
			t.Errorf("calls %+v, want 2 seen and 2 recorded", c)
		}
		checkConserved(t, b)
		shut(t, b)
	}
}

func TestOpenIntentsOutliveRotationAndDrainedSegmentsGo(t *testing.T) {
	dir := newDir(t)
	o := Options{SegmentSize: 256 << 10}
	b := open(t, dir, o)
	b.Hold("s")
	call := admit(t, b)
	if err := call.Begin([]byte("long call")); err != nil {
		t.Fatal(err)
	}
	payload := bytes.Repeat([]byte("x"), 4000)
	for b.Stats().Segments < 4 {
		if err := b.Append(payload); err != nil {
			t.Fatal(err)
		}
	}
	head := b.Stats().Head
	if got := len(entries(t, b, 1)); got != int(head) {
		t.Fatalf("%d entries, head %d", got, head)
	}
	b.Advance("s", head, head, 0, 0)
	if err := b.Append([]byte("carries the position")); err != nil {
		t.Fatal(err)
	}
	if err := b.Append([]byte("and the next commit sees it")); err != nil {
		t.Fatal(err)
	}
	if got := b.Stats().Segments; got != 1 {
		t.Errorf("%d segments are left, want the newest alone", got)
	}
	checkConserved(t, b)
	shut(t, b)
	b = open(t, dir, o)
	all := entries(t, b, b.Stats().Head)
	if got := all[len(all)-1]; got != "long call" {
		t.Errorf("newest entry %q, want the open call's intent", got)
	}
	if got := b.Position("s"); got != head {
		t.Errorf("position %d, want %d", got, head)
	}
	checkConserved(t, b)
}

func TestNothingIsRemovedWhileNoStoreHasTakenIt(t *testing.T) {
	b := open(t, newDir(t), Options{SegmentSize: 128 << 10})
	for b.Stats().Segments < 4 {
		if err := b.Append(make([]byte, 4000)); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Stats().Oldest; got != 1 {
		t.Errorf("oldest entry is %d, want 1", got)
	}
}

func TestASecondOpenerDoesNotWaitForTheFirst(t *testing.T) {
	dir := newDir(t)
	open(t, dir, Options{}) // until the test has ended
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want ErrLocked naming the directory", err)
	}
}

func TestADirectoryThatCannotBeMadeIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(file, "buffer")
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want an error naming %q", err, dir)
	}
}

func TestAFullBufferRefusesNewCallsAndTakesTheEndsOfAdmittedOnes(t *testing.T) {
	t.Parallel()
	b := open(t, newDir(t), Options{MaxSize: 1 << 20, SegmentSize: 256 << 10})
	b.Hold("s")
	admitted := admit(t, b)
	if err := admitted.Begin([]byte("intent")); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := b.Admit(8000, Caller{Known: true})
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Append(make([]byte, 8000)); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	if err := admitted.Append([]byte("end")); err != nil {
		t.Errorf("the admitted call's end: %v", err)
	}
	if got := b.Stats().Calls.Refused; got != 1 {
		t.Errorf("refused %d, want 1", got)
	}
	head := b.Stats().Head
	b.Advance("s", head, head, 0, 0)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := b.Admit(8000, Caller{Known: true}); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it stayed full after its store took everything")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAFailedCommitIsWrittenAgainAndWhatItLeftIsVoid(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	if err := b.Append([]byte("one")); err != nil {
		t.Fatal(err)
	}
	call := admit(t, b)
	if err := call.Begin([]byte("intent")); err != nil {
		t.Fatal(err)
	}
	// What a commit that reached the disk and was then reported as failed
	// leaves behind: an entry beyond the head, and a handle that fails.
	old := b.active()
	if err := old.db.Update(func(tx *bolt.Tx) error {
		f := frame{sequence: 2, payload: []byte("in doubt")}
		return tx.Bucket(bucketEntries).Put(putKey(new([8]byte), 2), f.append(nil))
	}); err != nil {
		t.Fatal(err)
	}
	if err := old.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.segMu.Lock()
	old.db, _ = bolt.Open(old.path, segmentMode, &bolt.Options{ReadOnly: true})
	b.segMu.Unlock()

	if err := call.Append([]byte("two")); err != nil {
		t.Fatalf("an append over a failing commit: %v", err)
	}
	if got := strings.Join(entries(t, b, 1), "|"); got != "one|two" {
		t.Errorf("entries %q", got)
	}
	shut(t, b)
	b = open(t, dir, Options{})
	if got := strings.Join(entries(t, b, 1), "|"); got != "one|two" {
		t.Errorf("entries after reopening %q", got)
	}
	checkConserved(t, b)
}

// A new segment whose rename may or may not be on the disk would be the whole
// truth at the next start: what is appended to the old one meanwhile would be
// void.
func TestNothingIsAppendedToTheOldSegmentWhileTheNewOneIsInDoubt(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{SegmentSize: 64 << 10})
	var failures atomic.Int64
	failures.Store(3)
	failAt(t, func(name string) error {
		if name == "renamed" && failures.Add(-1) >= 0 {
			return errors.New("planted")
		}
		return nil
	})
	payload := strings.Repeat("x", 4000)
	var want []string
	for i := range 60 {
		name := fmt.Sprint(i, payload)
		if err := b.Append([]byte(name)); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	if failures.Load() >= 0 {
		t.Fatal("no segment was ever in doubt")
	}
	shut(t, b)
	b = open(t, dir, Options{})
	if got := entries(t, b, 1); !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
}

// What the writer does behind a commit that took long has a wait of its own.
func TestWhoComesUponTheAnswerOfASlowCommitIsAdmitted(t *testing.T) {
	b := open(t, newDir(t), Options{SegmentSize: 64 << 10})
	if err := b.Append([]byte("first")); err != nil {
		t.Fatal(err)
	}
	b.Configure(Options{SegmentSize: 64 << 10, MaxWait: time.Second})
	var slow atomic.Bool
	behind := make(chan error, 1)
	failAt(t, func(name string) error {
		switch {
		case name == "commit" && slow.Load():
			time.Sleep(1500 * time.Millisecond)
		case name == "create" && slow.Swap(false): // it rotates, and whoever waited has an answer
			behind <- b.fault()
		}
		return nil
	})
	slow.Store(true)
	if err := b.Append(make([]byte, 100<<10)); !errors.Is(err, ErrSlow) {
		t.Errorf("got %v, want ErrSlow", err)
	}
	if err := <-behind; err != nil {
		t.Errorf("while the buffer rotates, the disk counts as at fault for the commit that has ended: %v", err)
	}
}

func TestACallThatTheDiskDoesNotTakeInTimeIsRefused(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{MaxWait: 50 * time.Millisecond})
	// A transaction of ours keeps the writer waiting as a hanging disk would.
	tx, err := b.active().db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	first, second := admit(t, b), admit(t, b)
	for _, c := range []*Call{first, second} {
		if err := c.Begin([]byte("intent")); !errors.Is(err, ErrSlow) {
			t.Fatalf("got %v, want ErrSlow", err)
		}
		if err := c.Refuse([]byte("refused")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Admit(1, Caller{Known: true}); !errors.Is(err, ErrSlow) {
		t.Errorf("admitting while the disk hangs: %v, want ErrSlow", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	shut(t, b)
	b = open(t, dir, Options{})
	if got := strings.Join(entries(t, b, 1), "|"); got != "refused|refused" {
		t.Errorf("entries %q, want each refused call once and no intent recovered", got)
	}
	if c := b.Stats().Calls; c.Seen != 3 || c.Refused != 3 {
		t.Errorf("calls %+v, want 3 seen and 3 refused", c)
	}
}

func TestACallOpenForLongIsToldOnce(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	b := open(t, dir, Options{
		PendingAfter: time.Millisecond,
		Pending:      func(p []byte) []byte { return append([]byte("still open: "), p...) },
	})
	c := admit(t, b)
	if err := c.Begin([]byte("call")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	checkConserved(t, b)
	if err := c.Append([]byte("end")); err != nil {
		t.Fatal(err)
	}
	checkConserved(t, b)
	shut(t, b)
	b = open(t, dir, Options{})
	if got := strings.Join(entries(t, b, 1), "|"); got != "still open: call|end" {
		t.Errorf("entries %q", got)
	}
}

// While the disk takes nothing, ends wait for it as well, and the writer looks for calls
// that are open for long when it is free again, before or after it has seen those.
func TestACallWhoseEndWaitsForTheDiskIsNotToldAsOpen(t *testing.T) {
	for range 8 {
		var broken, healed atomic.Bool
		failAt(t, func(name string) error {
			if broken.Load() && name == "create" || broken.Load() && name == "commit" {
				return errors.New("no space left")
			}
			return nil
		})
		b := open(t, newDir(t), Options{
			PendingAfter: 500 * time.Millisecond,
			// The calls are rightly told as open until they end.
			Pending: func(p []byte) []byte {
				if !healed.Load() {
					return nil
				}
				return append([]byte("still open: "), p...)
			},
		})
		var calls []*Call
		for i := range 8 {
			c := admit(t, b)
			if err := c.Begin(fmt.Appendf(nil, "call %d", i)); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, c)
		}
		broken.Store(true)
		var ends sync.WaitGroup
		for i, c := range calls {
			ends.Go(func() {
				_ = c.Append(fmt.Appendf(nil, "end %d", i)) // it follows when the disk does
				c.Release()
			})
		}
		time.Sleep(tickEvery + 100*time.Millisecond)
		healed.Store(true)
		broken.Store(false)
		ends.Wait()
		settle(t, b, func(st Stats) bool { return st.Open == 0 })
		time.Sleep(50 * time.Millisecond)
		for _, e := range entries(t, b, 1) {
			if strings.HasPrefix(e, "still open") {
				t.Errorf("the call had ended: %q", e)
			}
		}
		shut(t, b)
	}
}

func TestAPayloadBeyondTheBoundIsAnError(t *testing.T) {
	b := open(t, newDir(t), Options{})
	if err := b.Append(make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := b.Append(make([]byte, MaxPayload)); err != nil {
		t.Errorf("a payload at the bound: %v", err)
	}
}

func TestNothingIsTakenAfterClose(t *testing.T) {
	b := open(t, newDir(t), Options{})
	shut(t, b)
	if err := b.Append([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, err := b.Wait(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("waiting: %v, want ErrClosed", err)
	}
}

// A random run of everything that callers and stores do, with restarts, against
// a plain slice.
func TestRandomUseMatchesASlice(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := newDir(t)
	o := Options{SegmentSize: 96 << 10}
	b := open(t, dir, o)
	var want []string
	var excluded, calls uint64
	openCalls := map[string]*Call{}
	b.Hold("s")
	for i := range 600 {
		name := fmt.Sprint(i, strings.Repeat("y", rnd.IntN(2000)))
		switch k := rnd.IntN(20); {
		case k < 6:
			if err := b.Append([]byte(name)); err != nil {
				t.Fatal(err)
			}
			want = append(want, name)
		case k < 11:
			c := admit(t, b)
			calls++
			if err := c.Begin([]byte(name)); err != nil {
				t.Fatal(err)
			}
			openCalls[name] = c
		case k < 16:
			for n, c := range openCalls {
				if err := c.Append([]byte("end of " + n)); err != nil {
					t.Fatal(err)
				}
				want = append(want, "end of "+n)
				delete(openCalls, n)
				break
			}
		case k == 16:
			b.Exclude()
			excluded++
		case k == 17:
			head := b.Stats().Head
			if p := b.Position("s"); head > p {
				to := p + 1 + rnd.Uint64N(head-p)
				b.Advance("s", to, to-p, 0, 0)
			}
		case k == 18:
			checkConserved(t, b)
		case k == 19 && rnd.IntN(4) == 0:
			shut(t, b)
			b = open(t, dir, o)
			b.Hold("s")
			// Recovered intents come in the order of their numbers, which is
			// the order of their names.
			all := entries(t, b, uint64(len(want))+1)
			if len(all) != len(openCalls) {
				t.Fatalf("%d recovered, want %d", len(all), len(openCalls))
			}
			for _, p := range all {
				if _, ok := openCalls[p]; !ok {
					t.Fatalf("recovered %.20q, which was not open", p)
				}
				delete(openCalls, p)
			}
			want = append(want, all...)
		}
	}
	// The commit that an Advance was in may still remove a segment; one more waits for that.
	if err := b.Append([]byte("the last")); err != nil {
		t.Fatal(err)
	}
	want = append(want, "the last")
	from := b.Stats().Oldest
	if got := entries(t, b, from); strings.Join(got, "|") != strings.Join(want[from-1:], "|") {
		t.Error("the buffer's entries differ from the slice's")
	}
	if c := b.Stats().Calls; c.Seen != calls+excluded || c.Excluded != excluded {
		t.Errorf("calls %+v, want %d seen, %d excluded", c, calls+excluded, excluded)
	}
	checkConserved(t, b)
}

func FuzzParseFrame(f *testing.F) {
	ok := frame{sequence: 7, intent: 3, flags: flagCompletes, time: 1, payload: []byte("{}")}
	f.Add(ok.append(nil))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, frameHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseFrame(b)
		if err != nil {
			return
		}
		if again := p.append(nil); !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("%x parses but encodes as %x", b, again)
		}
	})
}
