package forwarder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAFailingStoreIsTriedForEverAndLogsOnceEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 3)
		begun := time.Now()
		up := begun.Add(24 * time.Hour)
		sink := &fakeStore{hook: func(context.Context, int) error {
			if time.Now().Before(up) {
				return errors.New("connection refused")
			}
			return nil
		}}
		h := start(t, source, sink, Options{})
		time.Sleep(23 * time.Hour)
		synctest.Wait()

		s := h.Status()
		if !s.FailingSince.Equal(begun) || s.Failures != sink.attempts() || s.LastError != "connection refused" || !s.LastSuccess.IsZero() {
			t.Errorf("status while failing: %+v after %d attempts", s, sink.attempts())
		}
		// Half of BackoffCap on average.
		if n := sink.attempts(); n < 23*60*3 || n > 23*60*6 {
			t.Errorf("%d attempts in 23 hours, want about %d", n, 23*60*4)
		}
		failures := s.Failures
		source.add(t, 2)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		s = h.Status()
		if !s.FailingSince.IsZero() || s.Failures != 0 || s.Batches != 2 || s.Entries != 5 || s.LastSuccess.Before(up) || s.LastError == "" {
			t.Errorf("status after recovery: %+v", s)
		}
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		// The same batch each time, though more came in.
		for _, b := range sink.tried[:failures] {
			if diff := cmp.Diff(sequence(1, 3), b); diff != "" {
				t.Fatalf("attempt (-want +got):\n%s", diff)
			}
		}
		if diff := cmp.Diff(sequence(1, 5), sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		lines := h.lines()
		if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "connection refused") ||
			!strings.Contains(lines[1], "level=INFO") || !strings.Contains(lines[1], "after=24h") || !strings.Contains(lines[1], "failed_attempts=") {
			t.Errorf("log:\n%s", h.log)
		}
	})
}

// A store with little time for much is given less at once.
func TestABacklogGetsThroughToAStoreThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 20_000)
		sink := &slowStore{each: 25 * time.Millisecond, limit: 30 * time.Second}
		h := startStore(t, source, sink, Options{})
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		sink.mu.Lock()
		if sink.entries != 20_000 || sink.tooMuch > 30 {
			t.Errorf("it has %d of 20000, after %d attempts in vain", sink.entries, sink.tooMuch)
		}
		// And is given much again when it is quick.
		sink.each, sink.largest = time.Microsecond, 0
		sink.mu.Unlock()
		source.add(t, 20_000)
		time.Sleep(time.Minute)
		h.end()
		if sink.entries != 40_000 || sink.largest != DefaultMaxBatchEntries {
			t.Errorf("it has %d of 40000, at most %d at once", sink.entries, sink.largest)
		}
	})
}

// slowStore takes a time for each entry, and gives up after a limit.
type slowStore struct {
	fakeStore
	each, limit               time.Duration
	entries, tooMuch, largest int
}

func (s *slowStore) Write(_ context.Context, batch []Record) error {
	s.mu.Lock()
	took := time.Duration(len(batch)) * s.each
	s.mu.Unlock()
	time.Sleep(min(took, s.limit))
	s.mu.Lock()
	defer s.mu.Unlock()
	if took > s.limit {
		s.tooMuch++
		return errors.New("no answer within 30s")
	}
	s.entries += len(batch)
	s.largest = max(s.largest, len(batch))
	return nil
}

func TestBackoffIsJitteredAndDoublesUpToTheCap(t *testing.T) {
	bound := BackoffBase
	for failures := 1; failures < 100; failures++ {
		var low, high time.Duration = BackoffCap, 0
		for range 200 {
			d := backoff(failures)
			low, high = min(low, d), max(high, d)
		}
		if low <= 0 || high > bound || low > bound/4 || high < bound*3/4 {
			t.Errorf("after %d failures pauses from %v to %v, want them spread over 0 to %v", failures, low, high, bound)
		}
		bound = min(2*bound, BackoffCap)
	}
}

type busy struct{ after time.Duration }

func (b busy) Error() string             { return "429 Too Many Requests" }
func (b busy) RetryAfter() time.Duration { return b.after }

func TestRetryAfterIsHonouredUpToItsBound(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{
		time.Minute:     time.Minute,
		100 * time.Hour: MaxRetryAfter,
		-time.Hour:      0,
	} {
		synctest.Test(t, func(t *testing.T) {
			source := newFakeSource()
			source.add(t, 1)
			var again time.Duration
			begun := time.Now()
			sink := &fakeStore{hook: func(_ context.Context, attempt int) error {
				again = time.Since(begun)
				if attempt == 1 {
					return fmt.Errorf("sending: %w", busy{asked})
				}
				return nil
			}}
			h := start(t, source, sink, Options{})
			time.Sleep(time.Hour)
			h.end()
			if again < want || again > want+BackoffBase {
				t.Errorf("asked to wait %v, tried again after %v, want %v", asked, again, want)
			}
		})
	}
}

func TestWhatIsNoEntryGoesIntoQuarantineAndTheRestIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, bad := range []string{"", "null", "[]", `{"id":""}`, `{"id":"x"`, `{"id":7}`, "\x00"} {
			source, sink := newFakeSource(), &fakeStore{}
			source.add(t, 2)
			source.append([]byte(bad))
			source.append(payload(t, 4))
			full := errors.New("the quarantine is full")
			source.quarantineErr = full
			h := start(t, source, sink, Options{})
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := h.Status(); s.Failures < 5 || !strings.Contains(s.LastError, full.Error()) || !strings.Contains(s.LastError, "reading entry 3: ") {
				t.Errorf("%q, while it cannot be put aside: status %+v", bad, s)
			}
			if diff := cmp.Diff(sequence(1, 2), sink.got()); diff != "" {
				t.Errorf("%q: delivered before it (-want +got):\n%s", bad, diff)
			}
			source.set(func(s *fakeSource) { s.quarantineErr = nil })
			time.Sleep(time.Minute)
			if err := h.end(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]uint64{1, 2, 4}, sink.got()); diff != "" {
				t.Errorf("%q: delivered (-want +got):\n%s", bad, diff)
			}
			if len(source.quarantined) != 1 || source.quarantined[3] == "" || h.Status().Quarantined != 1 {
				t.Errorf("%q: in quarantine are %v; status %+v", bad, source.quarantined, h.Status())
			}
		}
	})
}

func TestASourceThatMisbehavesNeitherSpinsNorLoses(t *testing.T) {
	gone := errors.New("segment unreadable")
	for name, harm := range map[string]func(*fakeSource){
		"read ends early":      func(s *fakeSource) { s.short = 3 },
		"read fails":           func(s *fakeSource) { s.short, s.readErr = 3, gone },
		"read fails at once":   func(s *fakeSource) { s.short, s.readErr = 1, gone },
		"an entry is left out": func(s *fakeSource) { s.skip = 3 },
		"the first is missing": func(s *fakeSource) { s.skip = 1 },
		"wait fails":           func(s *fakeSource) { s.waitErr = gone },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source, sink := newFakeSource(), &fakeStore{}
				source.add(t, 6)
				harm(source)
				h := start(t, source, sink, Options{})
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if s := h.Status(); s.FailingSince.IsZero() || s.LastError == "" {
					t.Errorf("status: %+v", s)
				}
				if source.reads > 200 {
					t.Errorf("%d reads in 10 minutes", source.reads)
				}
				source.set(func(s *fakeSource) { s.short, s.readErr, s.skip, s.waitErr = 0, nil, 0, nil })
				time.Sleep(time.Minute)
				if err := h.end(); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(sequence(1, 6), sink.got()); diff != "" {
					t.Errorf("delivered (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAHeadThatDoesNotMoveDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &fakeStore{}
		source.waitLies = true
		h := start(t, source, sink, Options{})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := h.Status(); s.Failures == 0 || s.Failures > 200 {
			t.Errorf("status: %+v", s)
		}
		h.end()
	})
}

func TestAStoreThatPanicsIsAFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 1)
		sink := &fakeStore{hook: func(_ context.Context, attempt int) error {
			if attempt < 3 {
				panic("nil map")
			}
			return nil
		}}
		h := start(t, source, sink, Options{})
		time.Sleep(time.Minute)
		h.end()
		if s := h.Status(); s.Entries != 1 || !strings.Contains(s.LastError, "nil map") {
			t.Errorf("status: %+v", s)
		}
	})
}
