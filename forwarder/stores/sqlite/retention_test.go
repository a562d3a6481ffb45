package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// stamped returns entries first to last, of a class that is kept for so many days.
func stamped(t testing.TB, first, last int, class string, days int) []forwarder.Record {
	t.Helper()
	batch := records(t, first, last)
	for i := range batch {
		r := &batch[i]
		r.Stamp = &audit.Stamp{Retention: &audit.Retention{Class: class, KeepUntil: audit.Days(days).KeepMicros(r.Entry.Timestamp)}}
		e := *r.Entry
		r.Stamp.On(&e)
		r.Entry = &e
	}
	return batch
}

// storeAt is a store for which it is the time of the test's entries.
func storeAt(t testing.TB, path string) *Store {
	t.Helper()
	s := openStore(t, path)
	s.now = func() time.Time { return time.UnixMicro(epoch) }
	return s
}

func newStoreAt(t testing.TB) *Store {
	t.Helper()
	return storeAt(t, filepath.Join(t.TempDir(), "audit.db"))
}

// inDays is an expiry so many days after the test's entries, by no other terms than theirs.
func inDays(n int) forwarder.Expiry {
	return forwarder.Expiry{Now: time.UnixMicro(epoch).AddDate(0, 0, n), Rule: func(class string) string { return "rule of " + class }}
}

func lost(t testing.TB, s forwarder.Ledger) []forwarder.Range {
	t.Helper()
	all, err := s.Lost(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func receipts(t testing.TB, s forwarder.Ledger) (all []forwarder.Receipt) {
	t.Helper()
	for g, err := range s.Receipts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

func TestExpiredIsToldFromLost(t *testing.T) {
	s := newStoreAt(t)
	write(t, s, stamped(t, 1, 100, "short", 10))
	write(t, s, stamped(t, 101, 200, "long", 100))
	again := record(t, entry(150, 2), 201)
	again.Stamp = stamped(t, 150, 150, "long", 100)[0].Stamp
	write(t, s, []forwarder.Record{again})
	pruneAll(t, s, inDays(20))
	if got := lost(t, s); got != nil {
		t.Errorf("lost %v, but all has expired or been replaced", got)
	}
	want := []forwarder.Receipt{{
		Class: "short", Rule: "rule of short", Instance: testInstance, First: 1, Last: 100,
		FirstArrival: epoch + 1000, LastArrival: epoch + 100_000, KeptUntil: audit.Days(10).KeepMicros(epoch + 100_000), Entries: 100,
		From: inDays(20).Now.UnixMicro(), To: inDays(20).Now.UnixMicro(),
	}}
	if diff := cmp.Diff(want, receipts(t, s)); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
	outside(t, s.path, `DELETE FROM entry WHERE sequence BETWEEN 120 AND 129 OR sequence IN (101, 201)`)
	tampered := []forwarder.Range{
		{Instance: testInstance, First: 101, Last: 101},
		{Instance: testInstance, First: 120, Last: 129},
		{Instance: testInstance, First: 201, Last: 201},
	}
	if diff := cmp.Diff(tampered, lost(t, s)); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
	// What else expires does not hide it, and a reader of the file alone sees it.
	pruneAll(t, s, inDays(200))
	r, err := OpenReader(t.Context(), s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if diff := cmp.Diff(tampered, lost(t, r)); diff != "" {
		t.Errorf("lost after all has expired (-want +got):\n%s", diff)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	// Written again, it is there again.
	write(t, s, stamped(t, 120, 129, "long", 100))
	if got := lost(t, s); len(got) != 2 {
		t.Errorf("lost %v after a repeat, want 101 and 201", got)
	}
}

func TestWhatHadExpiredBeforeItCameIsCountedOnce(t *testing.T) {
	s := newStoreAt(t)
	s.now = func() time.Time { return time.UnixMicro(epoch).AddDate(1, 0, 0) }
	batch := stamped(t, 1, 10, "short", 10)
	for range 2 {
		write(t, s, append(batch, batch...))
	}
	got := receipts(t, s)
	if len(got) != 1 || got[0].Entries != 10 || got[0].Late != 10 || got[0].First != 1 || got[0].Last != 10 {
		t.Errorf("receipts %+v, want one of 10 entries that were late", got)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 0 || lost(t, s) != nil {
		t.Errorf("%d entries, lost %v", n, lost(t, s))
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 10})
	// One that a hold selects is taken, and so is one that is still asked about.
	hold(t, s, forwarder.Hold{ID: "h", Actor: entry(12, 1).Actor.UserID})
	batch = stamped(t, 11, 13, "short", 10)
	batch[2].Stamp.Pending = true
	write(t, s, batch)
	if diff := cmp.Diff([]int{12, 13}, sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	checkBooks(t, s)
}

func hold(t testing.TB, s *Store, h forwarder.Hold) {
	t.Helper()
	if err := s.SetHold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

func TestAHoldBeatsEveryClock(t *testing.T) {
	s := newStoreAt(t)
	write(t, s, stamped(t, 1, 200, "short", 10))
	at := func(n int) time.Time { return time.UnixMicro(entry(n, 1).Timestamp).UTC() }
	holds := []forwarder.Hold{
		{ID: "a", Organization: "org-3", Reason: "a dispute", Since: at(1)},
		{ID: "b", Actor: entry(50, 1).Actor.UserID, Reason: "a leak", Since: at(2)},
		{ID: "c", From: at(100), To: at(131), Reason: "an incident", Since: at(3)},
	}
	selected := func(holds ...forwarder.Hold) (n []int) {
		for i := 1; i <= 200; i++ {
			if forwarder.IsHeld(holds, entry(i, 1)) {
				n = append(n, i)
			}
		}
		return n
	}
	for _, h := range holds {
		hold(t, s, h)
	}
	got, err := s.Holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(holds, got); diff != "" {
		t.Errorf("holds (-want +got):\n%s", diff)
	}
	for len(holds) > 0 {
		p := pruneAll(t, s, inDays(20))
		if diff := cmp.Diff(selected(holds...), sequences(t, s, forwarder.Query{})); diff != "" {
			t.Fatalf("entries with %d holds (-want +got):\n%s", len(holds), diff)
		}
		if p := pruneAll(t, s, inDays(21)); p.Held != 0 || len(p.Deleted) != 0 {
			t.Errorf("what is held was met again: %+v", p)
		}
		for _, doc := range documents(t, s, forwarder.Query{}) {
			if !strings.HasSuffix(doc, `"hold":true}}`) {
				t.Fatalf("an entry does not say that it is held: %s", doc)
			}
		}
		if p.Held == 0 {
			t.Errorf("a step says that it held nothing: %+v", p)
		}
		checkBooks(t, s)
		if err := s.ReleaseHold(t.Context(), holds[0].ID); err != nil {
			t.Fatal(err)
		}
		holds = holds[1:]
	}
	pruneAll(t, s, inDays(20))
	if n := sequences(t, s, forwarder.Query{}); n != nil || lost(t, s) != nil {
		t.Errorf("entries %v without a hold, lost %v", n, lost(t, s))
	}
	if err := s.ReleaseHold(t.Context(), "nobody's"); err != nil {
		t.Error(err)
	}
	for _, h := range []forwarder.Hold{{ID: "all"}, {Organization: "org-3"}} {
		if err := s.SetHold(t.Context(), h); err == nil {
			t.Errorf("hold %+v was set", h)
		}
	}
}

func TestAHoldThatIsReplacedLetsGo(t *testing.T) {
	s := newStoreAt(t)
	write(t, s, stamped(t, 1, 50, "short", 10))
	hold(t, s, forwarder.Hold{ID: "a", Organization: "org-3"})
	pruneAll(t, s, inDays(20))
	hold(t, s, forwarder.Hold{ID: "a", Organization: "org-4"})
	pruneAll(t, s, inDays(20))
	if n := sequences(t, s, forwarder.Query{}); n != nil {
		t.Errorf("entries %v, want none", n)
	}
}

// Whoever sets a hold while pruning runs finds afterwards all that was there when
// SetHold returned.
func TestAHoldThatIsSetWhilePruningRuns(t *testing.T) {
	s := newStoreAt(t)
	write(t, s, stamped(t, 1, 600, "short", 10))
	var running sync.WaitGroup
	begun := make(chan struct{})
	running.Go(func() {
		e := inDays(20)
		e.Step = time.Millisecond
		for more, first := true, true; more; first = false {
			p, err := s.Prune(context.Background(), e)
			if err != nil {
				t.Error(err)
				return
			}
			if more = p.More; first {
				close(begun)
			}
		}
	})
	<-begun
	hold(t, s, forwarder.Hold{ID: "a", Organization: "org-3"})
	there := sequences(t, s, forwarder.Query{Organization: "org-3"})
	running.Wait()
	if diff := cmp.Diff(there, sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-when the hold was set +afterwards):\n%s", diff)
	}
	if lost(t, s) != nil {
		t.Errorf("lost %v", lost(t, s))
	}
}

func TestWhatIsPendingIsYieldedAndNeverDeleted(t *testing.T) {
	s := newStoreAt(t)
	const total = pageEntries + 100
	write(t, s, records(t, 1, 20)) // no stamp
	batch := stamped(t, 21, total, "unattributed", 10)
	for i := range batch {
		batch[i].Stamp.Pending = i%2 == 0
	}
	for i := len(batch); i > 0; i -= 200 { // the newest first
		write(t, s, batch[max(0, i-200):i])
	}
	pruneAll(t, s, inDays(1000))
	want := numbers(1, 20)
	for n := 21; n <= total; n += 2 {
		want = append(want, n)
	}
	if diff := cmp.Diff(want, sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	want = append(want[20:], want[:20]...) // those come last
	for {
		var got []int
		var stamps []forwarder.Restamp
		for r, err := range s.Pending(t.Context(), true) {
			if err != nil {
				t.Fatal(err)
			}
			if (r.Stamp == nil) != (r.Sequence <= 20) || strings.Contains(string(r.JSON), `"retention"`) {
				t.Fatalf("sequence %d has stamp %+v and %s", r.Sequence, r.Stamp, r.JSON)
			}
			got = append(got, int(r.Sequence))
			if len(stamps) < 300 {
				stamps = append(stamps, forwarder.Restamp{ID: r.Entry.ID, Timestamp: r.Entry.Timestamp, Stamp: audit.Stamp{
					OrganizationID: "o-1", Membership: audit.MembershipProven,
					Retention: &audit.Retention{Class: "team", KeepUntil: audit.Days(50).KeepMicros(r.Entry.Timestamp), Plan: "team"},
				}})
			}
		}
		if diff := cmp.Diff(want, got); len(want)+len(got) > 0 && diff != "" {
			t.Fatalf("pending (-want +got):\n%s", diff)
		}
		if len(got) == 0 {
			break
		}
		if err := s.Restamp(t.Context(), stamps); err != nil {
			t.Fatal(err)
		}
		want = want[len(stamps):]
	}
	checkBooks(t, s)
	pruneAll(t, s, inDays(51))
	if n := len(documents(t, s, forwarder.Query{})); n == 0 {
		t.Error("entries were deleted before their second retention had ended")
	}
	pruneAll(t, s, inDays(53))
	if n := len(documents(t, s, forwarder.Query{})); n != 0 || lost(t, s) != nil {
		t.Errorf("%d entries are left, lost %v", n, lost(t, s))
	}
}

func TestRestampingOnlyAdds(t *testing.T) {
	s := newStoreAt(t)
	e := entry(11, 1) // of no organization
	r := record(t, e, 1)
	r.Stamp = &audit.Stamp{Pending: true, Retention: &audit.Retention{Class: "unattributed", KeepUntil: epoch + 2}}
	write(t, s, []forwarder.Record{r})
	doc := func() *audit.Entry {
		got, err := audit.Decode([]byte(documents(t, s, forwarder.Query{})[0]))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	stamp := func(id string, stamp audit.Stamp) {
		if err := s.Restamp(t.Context(), []forwarder.Restamp{{ID: id, Timestamp: e.Timestamp, Stamp: stamp}}); err != nil {
			t.Fatal(err)
		}
	}
	team := &audit.Retention{Class: "team", KeepUntil: epoch + 9, Plan: "team"}
	stamp("nobody", audit.Stamp{Retention: team})
	stamp(e.ID, audit.Stamp{OrganizationID: "o-1", Membership: audit.MembershipProven, Retention: team})
	stamp(e.ID, audit.Stamp{OrganizationID: "o-2", OrganizationSlug: "two", Membership: audit.MembershipUnproven, Retention: &audit.Retention{Class: "free", KeepUntil: epoch + 8, Plan: "free"}})
	got := doc()
	if got.OrganizationID != "o-1" || got.OrganizationSlug != "" || got.Membership != audit.MembershipProven {
		t.Errorf("organization %q %q, %q; want o-1 alone, proven", got.OrganizationID, got.OrganizationSlug, got.Membership)
	}
	if diff := cmp.Diff(team, got.Retention); diff != "" {
		t.Errorf("retention (-want +got):\n%s", diff)
	}
	stamp(e.ID, audit.Stamp{OrganizationID: "o-1", OrganizationSlug: "one", Retention: &audit.Retention{Class: "forever"}})
	if got := sequences(t, s, forwarder.Query{Organization: "one"}); len(got) != 1 {
		t.Errorf("the stamped organization has entries %v", got)
	}
	if got := sequences(t, s, forwarder.Query{Organization: "one", IP: e.Actor.IP}); len(got) != 1 {
		t.Errorf("the stamped organization has entries %v of the address", got)
	}
	if r := doc().Retention; r.KeepUntil != 0 || r.Class != "forever" {
		t.Errorf("retention %+v, want one for ever", r)
	}
	pruneAll(t, s, inDays(100_000))
	doc()
}

func TestATermThatIsRaisedKeepsWhatIsThere(t *testing.T) {
	s := newStoreAt(t)
	write(t, s, stamped(t, 1, 300, "short", 10))
	e := inDays(20)
	longer := 30
	e.Until = func(_ string, arrival int64) int64 { return audit.Days(longer).KeepMicros(arrival) }
	if p := pruneAll(t, s, e); p.Extended != 300 || p.Deleted != nil {
		t.Errorf("%+v, want 300 extended", p)
	}
	longer = 1 // it was lowered: too late for what is there
	if p := pruneAll(t, s, e); p.Extended != 0 || p.Deleted != nil {
		t.Errorf("%+v, want nothing", p)
	}
	e.Now = inDays(32).Now
	e.Until = func(string, int64) int64 { return audit.ForeverMicros }
	pruneAll(t, s, e)
	pruneAll(t, s, inDays(100_000))
	if n := len(documents(t, s, forwarder.Query{})); n != 300 {
		t.Errorf("%d entries, want 300", n)
	}
	checkBooks(t, s)
}

func TestSpaceIsGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	s := storeAt(t, path)
	for n := 1; n < 2000; n += 500 {
		write(t, s, stamped(t, n, n+499, []string{"short", "long"}[n/500%2], 10+n/500%2*100))
	}
	s.Close()
	before := size()
	s = storeAt(t, path)
	pruneAll(t, s, inDays(20))
	var check string
	if err := s.db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
		t.Errorf("integrity check: %s, %v", check, err)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 1000 {
		t.Errorf("%d entries, want 1000", n)
	}
	s.Close()
	if after := size(); after > before*7/10 {
		t.Errorf("the file has %d bytes of %d after half of it has expired", after, before)
	}
}

func TestWritingReadingAndPruningAtOnce(t *testing.T) {
	summarizeByItself(t)
	s := newStoreAt(t)
	const total, size = 600, 100
	var running sync.WaitGroup
	ended := make(chan struct{})
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	running.Go(func() {
		defer close(ended)
		for n := 1; n < total; n += size {
			fail(s.Write(t.Context(), stamped(t, n, n+size-1, []string{"short", "long"}[n/size%2], 10+n/size%2*100)))
		}
	})
	until := func(f func() error) {
		running.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					fail(f())
				}
			}
		})
	}
	until(func() error {
		_, err := s.Prune(t.Context(), inDays(20))
		return err
	})
	until(func() error {
		for _, err := range s.Read(t.Context(), forwarder.Query{NewestFirst: true, Limit: 50}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	until(func() error {
		got, err := s.Lost(t.Context())
		if len(got) > 0 {
			t.Errorf("lost %v while pruning", got)
		}
		_, err2 := s.Classes(t.Context())
		return errors.Join(err, err2)
	})
	until(func() error {
		return errors.Join(s.SetHold(t.Context(), forwarder.Hold{ID: "a", Actor: "nobody"}), s.ReleaseHold(t.Context(), "a"))
	})
	running.Wait()
	pruneAll(t, s, inDays(20))
	if n := len(documents(t, s, forwarder.Query{})); n != total/2 || lost(t, s) != nil {
		t.Errorf("%d entries, want %d; lost %v", n, total/2, lost(t, s))
	}
	checkBooks(t, s)
}

// pruneForEver fills a store and prunes it, and says so after each step.
func pruneForEver(path string) error {
	s, err := Open(context.Background(), Config{Path: path, Now: func() time.Time { return time.UnixMicro(epoch) }}, nil)
	if err != nil {
		return err
	}
	e := inDays(20)
	e.Step = time.Millisecond
	for {
		p, err := s.Prune(context.Background(), e)
		if err != nil {
			return err
		}
		fmt.Println(len(p.Deleted), p.More)
	}
}

func TestAKilledStepLeavesNeitherRowsNorReceiptsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	const total = 1000
	s := storeAt(t, path)
	for n := 1; n < total; n += 1000 {
		write(t, s, stamped(t, n, n+999, "short", 10))
	}
	s.Close()
	left, middle := total, 0
	for round := range 5 {
		c := process(t, "prune", path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n <= round && lines.Scan(); n++ {
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		s := storeAt(t, path)
		n := len(documents(t, s, forwarder.Query{}))
		if n > left {
			t.Errorf("%d entries, there were %d", n, left)
		}
		if n < left && n > 0 {
			middle++
		}
		left = n
		var receipted int64
		for _, g := range receipts(t, s) {
			receipted += g.Entries
		}
		if int(receipted) != total-n || lost(t, s) != nil {
			t.Errorf("%d entries of %d, but the receipts are for %d; lost %v", n, total, receipted, lost(t, s))
		}
		checkBooks(t, s)
		s.Close()
	}
	if middle == 0 {
		t.Error("no process was killed in the middle")
	}
	s = storeAt(t, path)
	pruneAll(t, s, inDays(20))
	if n := len(documents(t, s, forwarder.Query{})); n != 0 || lost(t, s) != nil {
		t.Errorf("%d entries are left, lost %v", n, lost(t, s))
	}
}

func TestAWriteIsSyncedAfterAStepOfPruningWasNot(t *testing.T) {
	s := newStoreAt(t)
	write(t, s, stamped(t, 1, 100, "short", 10))
	level := func() (n int) {
		t.Helper()
		if err := s.db.QueryRow(`PRAGMA synchronous`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const full = 2
	before := level()
	pruneAll(t, s, inDays(20))
	if after := level(); before != full || after != full {
		t.Errorf("synchronous is %d before and %d after, want %d", before, after, full)
	}
}
