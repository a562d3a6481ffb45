package forwarder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

// pickyStore refuses batches that hold certain entries, and stores each of the others
// once, or so often as it is given them.
type pickyStore struct {
	fakeStore
	refuses func(sequence uint64) bool
	fails   func() error // before anything else
	writes  int
	largest int
	stored  map[uint64]int
}

func (s *pickyStore) Write(_ context.Context, batch []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.largest = max(s.largest, len(batch))
	if s.fails != nil {
		if err := s.fails(); err != nil {
			return err
		}
	}
	for _, r := range batch {
		if s.refuses(r.Sequence) {
			return fmt.Errorf("writing: %w", &RefusedError{errors.New("value out of range")})
		}
	}
	if s.stored == nil {
		s.stored = map[uint64]int{}
	}
	for _, r := range batch {
		s.stored[r.Sequence]++
	}
	return nil
}

func startPicky(t *testing.T, source *fakeSource, sink *pickyStore, o Options) *harness {
	t.Helper()
	h := startStore(t, source, sink, o)
	h.sink = &sink.fakeStore
	return h
}

func TestARefusedEntryGoesIntoQuarantineAndItsNeighboursAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 300)
		sink := &pickyStore{refuses: func(n uint64) bool { return n == 42 || n == 43 || n == 250 }}
		h := startPicky(t, source, sink, Options{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := slices.Sorted(maps.Keys(source.quarantined)); !slices.Equal(got, []uint64{42, 43, 250}) {
			t.Errorf("in quarantine are %v", got)
		}
		if len(sink.stored) != 297 || source.positions["main"] != 300 || source.delivered != 297 {
			t.Errorf("%d are stored; position %d, %d delivered", len(sink.stored), source.positions["main"], source.delivered)
		}
		if s := h.Status(); s.Failures != 0 || s.Quarantined != 3 || s.Entries != 297 {
			t.Errorf("status %+v", s)
		}
		if reason := source.quarantined[42]; !strings.Contains(reason, "value out of range") {
			t.Errorf("the reason is %q", reason)
		}
		if sink.writes > 60 {
			t.Errorf("%d writes to find 3 of 300", sink.writes)
		}
		h.end()
		if n := len(h.lines()); n > 4 { // 250 is the last of its batch, so that it takes another one
			t.Errorf("%d lines in the log:\n%s", n, h.log)
		}
	})
}

// A store that refuses everything is a failing store, not a thousand bad entries.
func TestAStoreThatRefusesEverythingFillsNoQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 300)
		broken := true
		sink := &pickyStore{refuses: func(uint64) bool { return broken }}
		h := startPicky(t, source, sink, Options{})
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		s := h.Status()
		if len(source.quarantined) != 0 || source.positions["main"] != 0 || s.FailingSince.IsZero() || !strings.Contains(s.LastError, "the store refuses each") {
			t.Errorf("in quarantine are %d, position %d, status %+v", len(source.quarantined), source.positions["main"], s)
		}
		if sink.writes > s.Failures*(maxSuspects+maxSamples+25) {
			t.Errorf("%d writes in %d attempts", sink.writes, s.Failures)
		}
		sink.mu.Lock()
		broken = false
		sink.mu.Unlock()
		time.Sleep(time.Minute)
		h.end()
		if len(sink.stored) != 300 || len(source.quarantined) != 0 {
			t.Errorf("after it was mended %d are stored and %d in quarantine", len(sink.stored), len(source.quarantined))
		}
	})
}

func TestALoneEntryWaitsForAnotherThatIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 1)
		sink := &pickyStore{refuses: func(n uint64) bool { return n == 1 || n == 3 }}
		h := startPicky(t, source, sink, Options{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := h.Status(); len(source.quarantined) != 0 || s.FailingSince.IsZero() {
			t.Errorf("with nothing to compare it with, in quarantine are %v; status %+v", source.quarantined, s)
		}
		source.add(t, 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := slices.Sorted(maps.Keys(source.quarantined)); !slices.Equal(got, []uint64{1}) || sink.stored[2] == 0 {
			t.Errorf("in quarantine are %v; stored %v", got, sink.stored)
		}
		// Entry 2 has been accepted before; it says nothing about 3.
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(source.quarantined) != 1 {
			t.Errorf("in quarantine are %v", source.quarantined)
		}
		source.add(t, 1)
		time.Sleep(time.Minute)
		h.end()
		if got := slices.Sorted(maps.Keys(source.quarantined)); !slices.Equal(got, []uint64{1, 3}) || source.positions["main"] != 4 {
			t.Errorf("in quarantine are %v, position %d", got, source.positions["main"])
		}
	})
}

// A batch of one has nothing to be compared with, so that more is read then.
func TestABadEntryIsFoundHoweverSmallBatchesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 30)
		sink := &pickyStore{refuses: func(n uint64) bool { return n < 5 || n == 20 }}
		h := startPicky(t, source, sink, Options{Batching: Batching{BatchEntries: 1, MaxBatchEntries: 1, BatchBytes: 1}})
		time.Sleep(time.Minute)
		h.end()
		if got := slices.Sorted(maps.Keys(source.quarantined)); !slices.Equal(got, []uint64{1, 2, 3, 4, 20}) || source.positions["main"] != 30 {
			t.Errorf("in quarantine are %v, position %d", got, source.positions["main"])
		}
		if sink.largest > 1 {
			t.Errorf("a batch of %d entries", sink.largest)
		}
		for n, times := range sink.stored {
			if times > 1 {
				t.Errorf("entry %d was given %d times to a store that had accepted it", n, times)
			}
		}
	})
}

func TestNothingPassesAQuarantineThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 10)
		source.quarantineErr = errors.New("the quarantine is full")
		sink := &pickyStore{refuses: func(n uint64) bool { return n == 4 }}
		h := startPicky(t, source, sink, Options{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := h.Status(); source.positions["main"] != 3 || !strings.Contains(s.LastError, "the quarantine is full") {
			t.Errorf("position %d, status %+v", source.positions["main"], s)
		}
		source.set(func(s *fakeSource) { s.quarantineErr = nil })
		time.Sleep(time.Minute)
		h.end()
		if source.positions["main"] != 10 || len(sink.stored) != 9 {
			t.Errorf("position %d, stored %v", source.positions["main"], sink.stored)
		}
	})
}

// Whatever is refused and whenever the store is away: what it accepts is stored, what
// it refuses is in quarantine, and the sums hold (the fake source sees to that).
func TestSiftingAgainstAnOracle(t *testing.T) {
	for seed := range uint64(trials.Rounds(10, 100)) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			source := newFakeSource()
			n := 1 + rnd.IntN(200)
			source.add(t, n)
			bad := map[uint64]bool{}
			share := rnd.Float64() * rnd.Float64()
			for i := range n {
				bad[uint64(i+1)] = rnd.Float64() < share
			}
			filter := func(e *audit.Entry) bool { return e.Timestamp%7 != 3 }
			sink := &pickyStore{refuses: func(n uint64) bool { return bad[n] }}
			flaky := rnd.IntN(2) == 0
			sink.fails = func() error {
				if flaky && rnd.IntN(4) == 0 {
					return errors.New("reset by peer")
				}
				return nil
			}
			h := startPicky(t, source, sink, Options{Filter: filter, Batching: Batching{BatchEntries: 1 + rnd.IntN(60), MaxBatchEntries: 1 + rnd.IntN(200)}})
			for range 150 { // as heartbeats come
				time.Sleep(time.Minute)
				source.add(t, 1)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			h.end()
			head := uint64(n + 150)
			if source.positions["main"] != head {
				t.Fatalf("seed %d: position %d of %d, share %.2f: %+v", seed, source.positions["main"], head, share, h.Status())
			}
			for i := uint64(1); i <= head; i++ {
				_, aside := source.quarantined[i]
				if want := bad[i] && i%7 != 3; aside != want || (sink.stored[i] > 0) != (!bad[i] && i%7 != 3) {
					t.Fatalf("seed %d: entry %d: bad %t, in quarantine %t, stored %d times", seed, i, bad[i], aside, sink.stored[i])
				}
			}
		})
	}
}

func TestAFilterCountsWhatItDoesNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		source.add(t, 25_000)
		h := start(t, source, sink, Options{Filter: func(e *audit.Entry) bool { return e.Timestamp%10_000 == 0 }})
		time.Sleep(time.Minute)
		h.end()
		if diff := cmp.Diff([]uint64{10_000, 20_000}, sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		if source.filtered != 24_998 || source.positions["main"] != 25_000 {
			t.Errorf("%d filtered, position %d", source.filtered, source.positions["main"])
		}
	})
}

func TestAFormatMakesWhatTheStoreGets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		source.add(t, 3)
		h := start(t, source, sink, Options{Format: func(doc []byte) ([]byte, error) {
			e, err := audit.Decode(doc)
			if err != nil {
				return nil, err
			}
			if e.ID == "entry-2" {
				return nil, errors.New("it has no form")
			}
			return fmt.Appendf(nil, "<%s %d>", e.ID, e.Origin.Sequence), nil
		}})
		time.Sleep(time.Minute)
		h.end()
		if len(sink.records) != 2 || string(sink.records[0].JSON) != "<entry-1 1>" || string(sink.records[1].JSON) != "<entry-3 3>" {
			t.Errorf("got %d records: %s", len(sink.records), sink.records[0].JSON)
		}
		if !strings.Contains(source.quarantined[2], "it has no form") {
			t.Errorf("in quarantine are %v", source.quarantined)
		}
	})
}

func TestADetachedStoreGoesOnAtItsNewPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 5)
		hangs := make(chan struct{})
		sink := &fakeStore{hook: func(_ context.Context, attempt int) error {
			if attempt == 1 {
				<-hangs
			}
			return nil
		}}
		h := start(t, source, sink, Options{})
		source.add(t, 5)
		source.detach("main")
		close(hangs)
		synctest.Wait()
		source.add(t, 2)
		synctest.Wait()
		h.end()
		if source.positions["main"] != 12 || source.delivered != 2 {
			t.Errorf("position %d, %d delivered", source.positions["main"], source.delivered)
		}
		if !strings.Contains(h.log.String(), "detached") {
			t.Errorf("log:\n%s", h.log)
		}
	})
}

// What a gap says the store does not get, it does not get after all when it is back.
func TestWhatWasGivenUpIsNotDeliveredByTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 5)
		sink := &fakeStore{hook: func(_ context.Context, attempt int) error {
			if attempt == 1 {
				return errors.New("connection refused")
			}
			return nil
		}}
		h := start(t, source, sink, Options{})
		source.detach("main")
		source.add(t, 1)
		time.Sleep(time.Minute)
		h.end()
		if diff := cmp.Diff([]uint64{6}, sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
	})
}

func TestARetryWaitsForTheBatchInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 1)
		hangs := make(chan struct{})
		sink := &fakeStore{hook: func(context.Context, int) error { <-hangs; return nil }}
		h := start(t, source, sink, Options{})
		done := make(chan error, 1)
		go func() { done <- h.Retry(t.Context(), testInstance, 7, payload(t, 7)) }()
		synctest.Wait()
		if n := sink.attempts(); n != 1 {
			t.Errorf("%d writes at once", n)
		}
		close(hangs)
		if err := <-done; err != nil {
			t.Error(err)
		}
		h.end()
		if diff := cmp.Diff([]uint64{1, 7}, sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
	})
}
