package forwarder

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// fakeStamper says what it is told to of each entry, by its id.
type fakeStamper struct {
	mu      sync.Mutex
	pending map[string]bool
	asked   []string
	changed uint64
	// plan, if set, is another one that all organizations have by now.
	plan *audit.Retention
}

func (f *fakeStamper) Changed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// upgrade lets all organizations have another plan.
func (f *fakeStamper) upgrade(r *audit.Retention) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed, f.plan = f.changed+1, r
}

func (f *fakeStamper) Stamp(e *audit.Entry) audit.Stamp {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, e.ID)
	if f.pending[e.ID] {
		return audit.Stamp{Pending: true, Retention: &audit.Retention{Class: "unattributed", KeepUntil: 1}}
	}
	s := audit.Stamp{OrganizationSlug: "acme", Retention: &audit.Retention{Class: "team", KeepUntil: 2}}
	if e.OrganizationSlug != "" {
		s.OrganizationSlug = "" // as of what was captured
	}
	if f.plan != nil {
		s.Retention = f.plan
	}
	return s
}

func (f *fakeStamper) Settled(*audit.Entry) audit.Stamp {
	return audit.Stamp{Retention: &audit.Retention{Class: "default", KeepUntil: 3}}
}

func (f *fakeStamper) Await(ctx context.Context, e *audit.Entry) {
	for f.Stamp(e).Pending && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

func (f *fakeStamper) answer(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		delete(f.pending, id)
	}
}

// arrived is an entry's payload that arrived at a time.
func arrived(t *testing.T, id string, at time.Time) []byte {
	t.Helper()
	b, err := (&audit.Entry{ID: id, Revision: audit.RevisionAnswer, Timestamp: at.UnixMicro(), SchemaVersion: audit.SchemaVersion}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// classes are those in the JSON that the store has, in order.
func classes(t *testing.T, store *fakeStore) (all []string) {
	t.Helper()
	store.mu.Lock()
	defer store.mu.Unlock()
	for _, r := range store.records {
		e, err := audit.Decode(r.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if e.Retention == nil {
			all = append(all, "")
		} else {
			all = append(all, e.Retention.Class)
		}
	}
	return all
}

// stamped runs a forwarder over entries until the test's function returns.
func stamped(t *testing.T, o Options, entries [][]byte, while func(f *Forwarder, store *fakeStore)) {
	t.Helper()
	source, store := newFakeSource(), new(fakeStore)
	source.append(entries...)
	f := New("s", source, store, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	synctest.Wait()
	while(f, store)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStampsStandBehindWhatWasCaptured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc := []byte(`{"id":"a","revision":1,"timestamp":5,"action":{"metadata":{"n":12345678901234567890}},"new_field":[1]}`)
		stamped(t, Options{Stamper: new(fakeStamper)}, [][]byte{doc}, func(_ *Forwarder, store *fakeStore) {
			got := string(store.records[0].JSON)
			want := `{"id":"a","revision":1,"timestamp":5,"action":{"metadata":{"n":12345678901234567890}},"new_field":[1],` +
				`"origin":{"instance":"` + testInstance + `","sequence":1},"organization_slug":"acme","retention":{"class":"team","keep_until":2}}`
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if e := store.records[0].Entry; e.OrganizationSlug != "acme" || e.Retention.Class != "team" {
				t.Errorf("the entry has %q, %+v", e.OrganizationSlug, e.Retention)
			}
		})
	})
}

func TestAKeeperGetsTheStampApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stamps []*audit.Stamp
		source, store := newFakeSource(), new(fakeStore)
		source.append(arrived(t, "a", time.Now()))
		keeper := storeFunc{store, func(batch []Record) {
			for _, r := range batch {
				stamps = append(stamps, r.Stamp)
			}
		}}
		f := New("s", source, keeper, Options{Stamper: &fakeStamper{pending: map[string]bool{"a": true}}, StampApart: true, StampLater: true})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(stamps) != 1 || stamps[0] == nil || !stamps[0].Pending || bytes.Contains(store.records[0].JSON, []byte("retention")) {
			t.Errorf("got %+v in %s", stamps, store.records[0].JSON)
		}
	})
}

// What Keeping does when it learns of another plan is for what the store has by then.
func TestAPlanThatChangesWhileABatchIsOnItsWayCountsForTheBatch(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error // of the attempt in which the change is found
		// what the store is given in the end
		longer string
		writes int
		plan   *audit.Retention
	}{
		{"while the store is down", errors.New("it is down"), "enterprise", 2, &audit.Retention{Class: "enterprise", KeepUntil: 9}},
		{"while it is written", nil, "enterprise", 2, &audit.Retention{Class: "enterprise", KeepUntil: 9}},
		{"a shorter one", nil, "team", 1, &audit.Retention{Class: "free", KeepUntil: 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			stamper := &fakeStamper{pending: map[string]bool{"b": true}}
			source, store := newFakeSource(), new(fakeStore)
			store.hook = func(_ context.Context, attempt int) error {
				if attempt > 1 {
					return nil
				}
				stamper.upgrade(c.plan)
				return c.err
			}
			source.append(arrived(t, "a", time.Now()), arrived(t, "b", time.Now()))
			last := map[string]audit.Stamp{}
			keeper := storeFunc{store, func(batch []Record) {
				for _, r := range batch {
					last[r.Entry.ID] = *r.Stamp
				}
			}}
			f := New("s", source, keeper, Options{Stamper: stamper, StampApart: true, StampLater: true})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- f.Run(ctx) }()
			time.Sleep(time.Minute)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			a, b := last["a"], last["b"]
			if a.Retention.Class != c.longer || a.OrganizationSlug != "acme" {
				t.Errorf("%s: it is stamped %q of %q at last, want %q of acme", c.name, a.Retention.Class, a.OrganizationSlug, c.longer)
			}
			if !b.Pending {
				t.Errorf("%s: what is pending is stamped %q", c.name, b.Retention.Class)
			}
			if n := len(store.tried); n != c.writes {
				t.Errorf("%s: it was written %d times, want %d", c.name, n, c.writes)
			}
			if got := source.Position("s"); got != 2 {
				t.Errorf("%s: the position is %d", c.name, got)
			}
		})
	}
}

func TestWhatArrivedInTheFutureDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stamper := &fakeStamper{pending: map[string]bool{"a": true, "b": true}}
		entries := [][]byte{arrived(t, "a", time.Now().Add(time.Hour)), arrived(t, "b", time.Now().Add(time.Second))}
		stamped(t, Options{Stamper: stamper}, entries, func(_ *Forwarder, store *fakeStore) {
			if got := store.got(); !slices.Equal(got, []uint64{1}) {
				t.Errorf("at once: %v", got)
			}
			time.Sleep(2 * DefaultStampWait)
			if got := store.got(); !slices.Equal(got, []uint64{1, 2}) {
				t.Errorf("later: %v", got)
			}
		})
	})
}

// storeFunc sees each batch.
type storeFunc struct {
	*fakeStore
	saw func([]Record)
}

func (s storeFunc) Write(ctx context.Context, batch []Record) error {
	s.saw(batch)
	return s.fakeStore.Write(ctx, batch)
}

func TestAPendingStampIsWaitedForWhereItCannotChangeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		stamper := &fakeStamper{pending: map[string]bool{"b": true, "d": true}}
		entries := [][]byte{arrived(t, "a", now), arrived(t, "b", now), arrived(t, "c", now), arrived(t, "d", now), arrived(t, "e", now)}
		stamped(t, Options{Stamper: stamper}, entries, func(_ *Forwarder, store *fakeStore) {
			if got := store.got(); !slices.Equal(got, []uint64{1}) {
				t.Errorf("at once: %v", got)
			}
			stamper.mu.Lock()
			if !slices.Contains(stamper.asked, "d") {
				t.Error("what lies behind was not asked for at once")
			}
			stamper.mu.Unlock()
			stamper.answer("b")
			time.Sleep(time.Second)
			if got := store.got(); !slices.Equal(got, []uint64{1, 2, 3}) {
				t.Errorf("after the first answer: %v", got)
			}
			time.Sleep(DefaultStampWait)
			if got, want := strings.Join(classes(t, store), " "), "team team team default team"; got != want {
				t.Errorf("after the wait: %s, want %s", got, want)
			}
		})
	})
}

func TestABacklogDoesNotWaitForStamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stamper := &fakeStamper{pending: map[string]bool{}}
		var entries [][]byte
		for i := range 1000 {
			id := "entry-" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
			stamper.pending[id] = true
			entries = append(entries, arrived(t, id, time.Now().Add(-time.Minute)))
		}
		stamped(t, Options{Stamper: stamper}, entries, func(_ *Forwarder, store *fakeStore) {
			if got := len(store.got()); got != len(entries) {
				t.Errorf("%d entries at once, want all %d", got, len(entries))
			}
			if len(store.sizes()) > 10 {
				t.Errorf("in %d batches", len(store.sizes()))
			}
		})
	})
}

func TestAFilterSeesWhoseTheEntryIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		filter := Filter{Only: Conditions{Organizations: []string{"acme"}}}
		stamper := &fakeStamper{pending: map[string]bool{"b": true}}
		now := time.Now()
		stamped(t, Options{Stamper: stamper, Filter: filter.Takes}, [][]byte{arrived(t, "a", now), arrived(t, "b", now)}, func(f *Forwarder, store *fakeStore) {
			time.Sleep(2 * DefaultStampWait)
			if got := store.got(); !slices.Equal(got, []uint64{1}) {
				t.Errorf("got %v", got)
			}
			f.source.(*fakeSource).set(func(s *fakeSource) {
				if s.filtered != 1 {
					t.Error("what belongs to nobody that is known was not counted as filtered")
				}
			})
		})
	})
}

func TestWaitingForAStampEndsWithRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stamper := &fakeStamper{pending: map[string]bool{"a": true}}
		stamped(t, Options{Stamper: stamper}, [][]byte{arrived(t, "a", time.Now())}, func(*Forwarder, *fakeStore) {})
	})
}
