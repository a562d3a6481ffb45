package forwarder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// fakeKeeper keeps entries in memory, and prunes two at a time.
type fakeKeeper struct {
	fakeStore
	mu    sync.Mutex
	rows  map[string]*fakeRow
	err   error
	steps int
}

type fakeRow struct {
	entry *audit.Entry
	stamp *audit.Stamp
}

func newFakeKeeper() *fakeKeeper { return &fakeKeeper{rows: map[string]*fakeRow{}} }

func (k *fakeKeeper) put(id string, at time.Time, s *audit.Stamp) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows[id] = &fakeRow{&audit.Entry{ID: id, Timestamp: at.UnixMicro(), Revision: 1}, s}
}

func (k *fakeKeeper) set(change func(*fakeKeeper)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

// ids are those of the rows, in order.
func (k *fakeKeeper) ids() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(k.rows)), " ")
}

func (k *fakeKeeper) classOf(id string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.rows[id]; r != nil && r.stamp != nil {
		return r.stamp.Retention.Class
	}
	return ""
}

func (k *fakeKeeper) Pending(_ context.Context, untagged bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for id := range strings.FieldsSeq(k.ids()) {
			k.mu.Lock()
			r := k.rows[id]
			err := k.err
			k.mu.Unlock()
			if err != nil {
				yield(Record{}, err)
				return
			}
			if (r.stamp == nil && untagged || r.stamp != nil && r.stamp.Pending) && !yield(Record{Entry: r.entry, Stamp: r.stamp}, nil) {
				return
			}
		}
	}
}

func (k *fakeKeeper) Restamp(_ context.Context, stamps []Restamp) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range stamps {
		if r := k.rows[s.ID]; r != nil {
			merged := s.Stamp
			if r.stamp != nil && r.stamp.Retention.KeepMicros() > merged.Retention.KeepMicros() {
				merged.Retention = r.stamp.Retention
			}
			r.stamp = &merged
		}
	}
	return k.err
}

func (k *fakeKeeper) Prune(_ context.Context, e Expiry) (p Pruned, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.steps++
	for _, id := range slices.Sorted(maps.Keys(k.rows)) {
		r := k.rows[id]
		if r.stamp == nil || r.stamp.Pending || r.stamp.Retention.KeepMicros() > e.Now.UnixMicro() {
			continue
		}
		if e.Until(r.stamp.Retention.Class, r.entry.Timestamp) > e.Now.UnixMicro() {
			continue
		}
		delete(k.rows, id)
		p.Deleted = append(p.Deleted, ClassTotal{Class: r.stamp.Retention.Class, Entries: 1})
		if len(p.Deleted) == 2 {
			p.More = true
			break
		}
	}
	return p, k.err
}

func (k *fakeKeeper) Classes(context.Context) ([]ClassTotal, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return []ClassTotal{{Class: "all", Entries: int64(len(k.rows))}}, nil
}

func (k *fakeKeeper) Read(_ context.Context, q Query) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for id := range strings.FieldsSeq(k.ids()) {
			k.mu.Lock()
			e := *k.rows[id].entry
			k.mu.Unlock()
			e.OrganizationSlug = "acme"
			b, err := e.Encode()
			if q.Matches(&e) && !yield(b, err) {
				return
			}
		}
	}
}

func (k *fakeKeeper) SetHold(context.Context, Hold) error                       { return nil }
func (k *fakeKeeper) ReleaseHold(context.Context, string) error                 { return nil }
func (k *fakeKeeper) Holds(context.Context) ([]Hold, error)                     { return nil, nil }
func (k *fakeKeeper) Lost(context.Context) ([]Range, error)                     { return nil, nil }
func (k *fakeKeeper) Receipts(context.Context) iter.Seq2[Receipt, error]        { return nil }
func (k *fakeKeeper) Expiring(context.Context, time.Time) ([]ClassTotal, error) { return nil, nil }
func (k *fakeKeeper) use(do func(Keeper) error) error                           { return do(k) }
func (k *fakeKeeper) closedUse(func(Keeper) error) error                        { return ErrNotOpen }

var _ Keeper = (*fakeKeeper)(nil)

// kept runs a keeping until the test's function returns.
func kept(t *testing.T, use func(func(Keeper) error) error, o KeepingOptions, while func(*Keeping)) string {
	t.Helper()
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	k := NewKeeping("s", use, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	while(k)
	cancel()
	<-done
	return log.String()
}

const day = 24 * time.Hour

func TestWhatHasExpiredIsDeletedStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper, now := newFakeKeeper(), time.Now()
		keep := &audit.Keep{Default: audit.Days(1)}
		tag := func(at time.Time) *audit.Stamp {
			return &audit.Stamp{Retention: &audit.Retention{Class: "default", KeepUntil: audit.Days(1).KeepMicros(at.UnixMicro())}}
		}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			keeper.put(id, now.Add(-5*day), tag(now.Add(-5*day)))
		}
		keeper.put("f", now, tag(now))
		var deleted int64
		kept(t, keeper.use, KeepingOptions{Keep: keep, OnPruned: func(p Pruned) { deleted += int64(len(p.Deleted)) }}, func(k *Keeping) {
			time.Sleep(2*time.Minute + time.Second)
			if got := keeper.ids(); got != "f" {
				t.Errorf("left: %q", got)
			}
			if st := k.Status(); st.Pruned.IsZero() || st.Classes[0].Entries != 1 {
				t.Errorf("status %+v", st)
			}
			time.Sleep(5 * day)
			if got := keeper.ids(); got != "" {
				t.Errorf("left after five days: %q", got)
			}
		})
		if deleted != 6 {
			t.Errorf("told of %d deletions", deleted)
		}
	})
}

func TestALongerTermKeepsWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper, now := newFakeKeeper(), time.Now()
		keeper.put("a", now.Add(-5*day), &audit.Stamp{Retention: &audit.Retention{Class: "default", KeepUntil: 1}})
		kept(t, keeper.use, KeepingOptions{Keep: &audit.Keep{Default: audit.Days(30)}}, func(*Keeping) {
			time.Sleep(20 * day)
			if keeper.ids() != "a" {
				t.Error("deleted early")
			}
			time.Sleep(8 * day)
			if keeper.ids() != "" {
				t.Error("kept too long")
			}
		})
	})
}

func TestWithoutTermsNothingIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := newFakeKeeper()
		keeper.put("a", time.Now().Add(-5*day), &audit.Stamp{Retention: &audit.Retention{Class: "default", KeepUntil: 1}})
		kept(t, keeper.use, KeepingOptions{}, func(*Keeping) { time.Sleep(400 * day) })
		if keeper.ids() != "a" || keeper.steps != 0 {
			t.Error("it was pruned")
		}
	})
}

func TestWhatIsPendingIsStampedWhenTheAnswerComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper, now := newFakeKeeper(), time.Now()
		stamper := &fakeStamper{pending: map[string]bool{"a": true, "b": true, "old": true}}
		pending := func() *audit.Stamp {
			return &audit.Stamp{Pending: true, Retention: &audit.Retention{Class: "unattributed", KeepUntil: 1}}
		}
		keeper.put("a", now, pending())
		keeper.put("b", now, pending())
		keeper.put("old", now, nil) // of an earlier version
		kept(t, keeper.use, KeepingOptions{Keep: new(audit.Keep), Stamper: stamper}, func(*Keeping) {
			time.Sleep(90 * time.Second) // between two looks
			if got := keeper.classOf("old"); got != "unattributed" {
				t.Errorf("what nobody had stamped: %q", got)
			}
			stamper.answer("a", "old")
			time.Sleep(2 * time.Minute)
			if a, b, old := keeper.classOf("a"), keeper.classOf("b"), keeper.classOf("old"); a != "team" || b != "unattributed" || old != "team" {
				t.Errorf("after an answer: %q, %q, %q", a, b, old)
			}
		})
	})
}

// memoryNotes keep one note.
type memoryNotes struct {
	mu   sync.Mutex
	note []byte
}

func (n *memoryNotes) Note() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.note
}

func (n *memoryNotes) SetNote(b []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note = bytes.Clone(b)
	return nil
}

func TestAnotherPlanIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper, now, notes := newFakeKeeper(), time.Now(), new(memoryNotes)
		short := func() *audit.Stamp {
			return &audit.Stamp{Retention: &audit.Retention{Class: "free", KeepUntil: 1}}
		}
		keeper.put("before", now.Add(-3*time.Hour), short())
		keeper.put("between", now.Add(-time.Hour), short())
		keeper.put("after", now.Add(time.Hour), short())
		asked := []uint64{}
		o := KeepingOptions{Stamper: &fakeStamper{}, Notes: notes, Changes: func(after uint64) (all []Change) {
			asked = append(asked, after)
			for _, c := range []Change{{7, "org-1", "acme", now.Add(-2 * time.Hour), now}} {
				if c.Number > after {
					all = append(all, c)
				}
			}
			return all
		}}
		for range 2 { // the second is after a restart
			kept(t, keeper.use, o, func(*Keeping) { time.Sleep(3*time.Minute + time.Second) })
		}
		if b, m, a := keeper.classOf("before"), keeper.classOf("between"), keeper.classOf("after"); b != "free" || m != "team" || a != "free" {
			t.Errorf("got %q, %q, %q", b, m, a)
		}
		if asked[0] != 0 || slices.Contains(asked[1:], 0) {
			t.Errorf("asked after %v", asked)
		}
	})
}

func TestFailingKeepingIsSaidOnceAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := newFakeKeeper()
		keeper.put("a", time.Now(), nil)
		keeper.set(func(k *fakeKeeper) { k.err = errors.New("no such table") })
		log := kept(t, keeper.use, KeepingOptions{Keep: new(audit.Keep), Stamper: &fakeStamper{}}, func(k *Keeping) {
			time.Sleep(5*time.Minute + time.Second)
			if st := k.Status(); st.FailingSince.IsZero() || !strings.Contains(st.LastError, "no such table") {
				t.Errorf("status %+v", st)
			}
			keeper.set(func(k *fakeKeeper) { k.err = nil })
			time.Sleep(5*time.Minute + time.Second)
			if st := k.Status(); !st.FailingSince.IsZero() || st.LastError != "" {
				t.Errorf("status %+v", st)
			}
		})
		if n := strings.Count(log, "\n"); n != 2 || !strings.Contains(log, "again") {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestWhatAnotherSidecarDoesIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := newFakeKeeper()
		keeper.put("a", time.Now(), nil)
		keeper.set(func(k *fakeKeeper) { k.err = fmt.Errorf("its role may only add entries: %w", ErrElsewhere) })
		log := kept(t, keeper.use, KeepingOptions{Keep: new(audit.Keep), Stamper: &fakeStamper{}}, func(k *Keeping) {
			time.Sleep(5*time.Minute + time.Second)
			if st := k.Status(); !st.FailingSince.IsZero() || !strings.Contains(st.Elsewhere, "may only add") {
				t.Errorf("status %+v", st)
			}
			keeper.set(func(k *fakeKeeper) { k.err = nil })
			time.Sleep(5*time.Minute + time.Second)
			if st := k.Status(); st.Elsewhere != "" || st.Pruned.IsZero() {
				t.Errorf("status %+v", st)
			}
		})
		if strings.Count(log, "level=INFO") != 2 || strings.Count(log, "\n") != 2 || !strings.Contains(log, "holds the store to its retention now") {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestAStoreThatIsNotOpenIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper := newFakeKeeper()
		log := kept(t, keeper.closedUse, KeepingOptions{Keep: new(audit.Keep), Stamper: &fakeStamper{}}, func(k *Keeping) {
			time.Sleep(5*time.Minute + time.Second)
			if st := k.Status(); !st.FailingSince.IsZero() {
				t.Errorf("status %+v", st)
			}
		})
		if log != "" {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestAfterALongAbsenceNothingExpiresForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keeper, now := newFakeKeeper(), time.Now()
		keeper.put("a", now.Add(-40*day), &audit.Stamp{Retention: &audit.Retention{Class: "default", KeepUntil: now.Add(-day).UnixMicro()}})
		log := kept(t, keeper.use, KeepingOptions{Keep: &audit.Keep{Default: audit.Days(1)}, LastSeen: now.Add(-30 * day)}, func(k *Keeping) {
			time.Sleep(23 * time.Hour)
			if keeper.ids() != "a" || k.Status().Distrusted == 0 {
				t.Error("deleted by a clock that nobody has confirmed")
			}
			time.Sleep(3 * time.Hour)
			if keeper.ids() != "" || k.Status().Distrusted != 0 {
				t.Error("kept too long")
			}
		})
		if strings.Count(log, "\n") != 2 || !strings.Contains(log, "the clock has jumped ahead") || !strings.Contains(log, "the clock is believed again") {
			t.Errorf("log:\n%s", log)
		}
	})
}
