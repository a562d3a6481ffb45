package sqlite

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// stretchesOf sets how many entries a summary is of. It must come before the store.
func stretchesOf(t testing.TB, n int) {
	was := stretchEntries
	stretchEntries = n
	t.Cleanup(func() { stretchEntries = was })
}

// summarizeByItself lets stores make summaries in the background, as they do elsewhere. It
// must come before the store.
func summarizeByItself(t testing.TB) {
	byItself = true
	t.Cleanup(func() { byItself = false })
}

// summarizeNow makes all summaries that there are entries for, of all owners.
func summarizeNow(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Summarize(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stretchesIn are the lengths of an owner's stretches, as its summaries know them.
func stretchesIn(t testing.TB, s *Store, owner audit.Owner) (all []int) {
	t.Helper()
	err := each(t.Context(), s.Reader.db, `SELECT entries FROM summary WHERE owner = ? AND kind = 0 ORDER BY timestamp, id`, func(rows *sql.Rows) error {
		var n int
		err := rows.Scan(&n)
		all = append(all, n)
		return err
	}, string(owner))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const acme = audit.Owner("slug:acme")

// ofAcme are entries that arrive one second after the other, some of which have something
// that the others do not.
func ofAcme(t testing.TB, first, last int, change func(n int, e *audit.Entry)) (batch []forwarder.Record) {
	for n := first; n <= last; n++ {
		e := entry(n, 1)
		e.OrganizationID, e.OrganizationSlug, e.Timestamp = "", "acme", epoch+int64(n)*1_000_000
		e.Actor.Email = "ada@example.com"
		if change != nil {
			change(n, e)
		}
		batch = append(batch, record(t, e, n))
	}
	return batch
}

// looked counts how many of an owner's entries a search has to look at: those of the
// stretches that may have what it is for, and all that is not summarized.
func looked(t testing.TB, s *Store, q forwarder.Query) (entries int) {
	t.Helper()
	w, err := s.newWalk(t.Context(), &q)
	if err != nil {
		t.Fatal(err)
	}
	if w.lookup == nil {
		t.Fatalf("%+v looks for nothing that a summary knows", q.Filters)
	}
	w.window = 1
	for !w.last {
		w.sources = sourcesOf(&q, w.version, nil)
		if err := w.advance(t.Context(), s.Reader.db, nil); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(w.sources, func(s source) bool { return !s.done }) {
			q := q
			q.Filters = forwarder.Filters{}
			all := *w
			all.query = &q
			for i := range all.sources {
				all.sources[i].terms = sourcesOf(&q, w.version, nil)[i].terms
			}
			query, args := all.sql("timestamp, id", -1)
			if err := each(t.Context(), s.Reader.db, query, func(*sql.Rows) error { entries++; return nil }, args...); err != nil {
				t.Fatal(err)
			}
		}
		w.ended()
	}
	return entries
}

func TestASearchForWhatIsRareLooksAtFewEntries(t *testing.T) {
	stretchesOf(t, 50)
	s := newStore(t)
	write(t, s, ofAcme(t, 1, 1020, func(n int, e *audit.Entry) {
		if n == 400 {
			e.Actor.Email, e.Action.Path, e.Action.Status, e.Actor.IP = "zoe@example.com", "/v1/projects/"+e.ProjectRef+"/quokka", 418, "198.51.100.77"
			e.RequestID = "0198c0de-1234-7abc-8def-0123456789ab"
		}
	}))
	summarizeNow(t, s)
	if got := stretchesIn(t, s, acme); len(got) != 20 {
		t.Fatalf("stretches %v", got)
	}
	for name, f := range map[string]forwarder.Filters{
		"actor":   {Actors: []string{"zoe@example.com"}},
		"status":  {Statuses: []forwarder.StatusRange{{First: 418, Last: 418}}},
		"network": {Networks: must(forwarder.ParseNetwork("198.51.100.64/26"))},
		"text":    {Text: "QuoKka"},
		"id":      {Text: "0198C0DE-1234-7abc-8def-0123456789ab"},
	} {
		for _, newestFirst := range []bool{false, true} {
			q := forwarder.Query{Owners: []audit.Owner{acme, audit.OwnerByID("nobody")}, Filters: f, NewestFirst: newestFirst}
			if n := len(documents(t, s, q)); n != 1 {
				t.Errorf("by %s %d entries are found, want 1", name, n)
			}
			// One stretch, what is behind all of them, and now and then one too many.
			if n := looked(t, s, q); n < 70 || n > 70+2*50 {
				t.Errorf("by %s %d entries are looked at, of 1020", name, n)
			}
		}
	}
	q := forwarder.Query{Owners: []audit.Owner{acme}, Filters: forwarder.Filters{Actors: []string{"nobody@example.com"}}, To: time.UnixMicro(epoch + 900_000_000)}
	if n := looked(t, s, q); n > 50 {
		t.Errorf("%d entries are looked at for somebody who is not there", n)
	}
}

func must[T any](v T, err error) []T {
	if err != nil {
		panic(err)
	}
	return []T{v}
}

func TestASummaryIsToldOfWhatComesLater(t *testing.T) {
	stretchesOf(t, 50)
	path := filepath.Join(t.TempDir(), "audit.db")
	s := openStore(t, path)
	write(t, s, ofAcme(t, 1, 300, nil))
	summarizeNow(t, s)
	// Another process has the file open, and does not know of what this one makes.
	other := openStore(t, path)
	write(t, s, ofAcme(t, 301, 600, nil))
	summarizeNow(t, s)
	finds := func(when string, f forwarder.Filters, want int) {
		t.Helper()
		for _, owner := range []audit.Owner{acme, audit.OwnerByID("o-late")} {
			for _, member := range []bool{false, true} {
				q := forwarder.Query{Owners: []audit.Owner{owner}, Filters: f, AsMember: member}
				n := want
				if owner != acme {
					n = 0
				}
				if got := len(documents(t, s, q)); got != n {
					t.Errorf("%s: %d of %s are found by %+v, want %d", when, got, owner, f, n)
				}
			}
		}
	}
	late := func(n int, e *audit.Entry) {
		e.Timestamp, e.Actor.Email = epoch+int64(n-1000)*1_000_000+500_000, fmt.Sprintf("late-%d@example.com", n)
	}
	for n, to := range map[int]*Store{1100: s, 1110: other, 1450: s, 1460: other} {
		write(t, to, ofAcme(t, n, n, late))
		finds("a late entry", forwarder.Filters{Actors: []string{fmt.Sprintf("late-%d@example.com", n)}}, 1)
		finds("a late entry", forwarder.Filters{Text: fmt.Sprintf("ATE-%d@", n)}, 1)
	}
	higher := entry(200, 2)
	higher.OrganizationSlug, higher.Timestamp, higher.Action.Status = "acme", epoch+200*1_000_000, 599
	write(t, s, []forwarder.Record{record(t, higher, 5000)})
	finds("another revision", forwarder.Filters{Statuses: []forwarder.StatusRange{{First: 599, Last: 599}}}, 1)

	// An entry whose organization is known later gets to that.
	stray := ofAcme(t, 2000, 2000, func(_ int, e *audit.Entry) {
		e.OrganizationSlug, e.Timestamp, e.Actor.Email = "", epoch+250_400_000, "stray@example.com"
	})
	write(t, s, stray)
	finds("before it is known whose it is", forwarder.Filters{Actors: []string{"stray@example.com"}}, 0)
	err := other.Restamp(t.Context(), []forwarder.Restamp{{ID: stray[0].Entry.ID, Timestamp: stray[0].Entry.Timestamp, Stamp: audit.Stamp{OrganizationSlug: "acme"}}})
	if err != nil {
		t.Fatal(err)
	}
	finds("when it is known whose it is", forwarder.Filters{Actors: []string{"stray@example.com"}}, 1)

	// What members do not see they find once they do.
	attempt := ofAcme(t, 2001, 2001, func(_ int, e *audit.Entry) {
		e.Timestamp, e.Actor.Email, e.Membership = epoch+250_600_000, "attempt@example.com", ""
	})
	attempt[0].Stamp = &audit.Stamp{Membership: audit.MembershipUnproven}
	write(t, s, attempt)
	q := forwarder.Query{Owners: []audit.Owner{acme}, Filters: forwarder.Filters{Actors: []string{"attempt@example.com"}}}
	if n := len(documents(t, s, q)); n != 1 {
		t.Errorf("operators find %d attempts, want 1", n)
	}
	q.AsMember = true
	if n := len(documents(t, s, q)); n != 0 {
		t.Errorf("members find %d attempts, want 0", n)
	}
	if n := looked(t, s, q); n > 150 {
		t.Errorf("members have %d entries looked at for what they do not see: the time that takes tells", n)
	}
	err = s.Restamp(t.Context(), []forwarder.Restamp{{ID: attempt[0].Entry.ID, Timestamp: attempt[0].Entry.Timestamp, Stamp: audit.Stamp{Membership: audit.MembershipProven}}})
	if err != nil {
		t.Fatal(err)
	}
	finds("when it is proven", forwarder.Filters{Actors: []string{"attempt@example.com"}}, 1)
}

// A backlog that comes late goes into stretches that are there, which then are divided.
func TestAStretchThatHasBecomeLongIsDivided(t *testing.T) {
	stretchesOf(t, 50)
	s := newStore(t)
	write(t, s, ofAcme(t, 1, 100, nil))
	write(t, s, ofAcme(t, 2001, 2100, nil))
	summarizeNow(t, s)
	write(t, s, ofAcme(t, 101, 2000, func(n int, e *audit.Entry) {
		if n%500 == 0 {
			e.Actor.Email = fmt.Sprintf("rare-%d@example.com", n)
		}
	}))
	summarizeNow(t, s)
	got := stretchesIn(t, s, acme)
	if len(got) < 40 || slices.Max(got) > 50 {
		t.Errorf("stretches %v", got)
	}
	for _, n := range []int{500, 1000, 1500, 2000} {
		q := forwarder.Query{Owners: []audit.Owner{acme}, Filters: forwarder.Filters{Actors: []string{fmt.Sprintf("rare-%d@example.com", n)}}}
		if found := len(documents(t, s, q)); found != 1 {
			t.Errorf("%d entries are found by what one of a late backlog has", found)
		}
		if n := looked(t, s, q); n > 200 {
			t.Errorf("%d entries are looked at", n)
		}
	}
}

func TestSummariesOfWhatIsGoneAreRemoved(t *testing.T) {
	s := newStore(t)
	s.now = func() time.Time { return inDays(5).Now }
	batch := ofAcme(t, 1, 300, nil)
	for i := range batch {
		days := 10
		if i >= 200 {
			days = 20
		}
		batch[i].Stamp = &audit.Stamp{Retention: &audit.Retention{Class: "short", KeepUntil: audit.Days(days).KeepMicros(batch[i].Entry.Timestamp)}}
	}
	write(t, s, batch)
	summarizeNow(t, s)
	for _, c := range []struct{ days, want int }{{5, 60}, {15, 20}, {30, 0}} {
		pruneAll(t, s, inDays(c.days))
		summarizeNow(t, s)
		if n := len(stretchesIn(t, s, acme)); n != c.want {
			t.Errorf("after %d days there are %d summaries, want %d", c.days, n, c.want)
		}
	}
	// What comes then is found all the same.
	write(t, s, ofAcme(t, 500, 520, nil))
	if n := len(documents(t, s, forwarder.Query{Owners: []audit.Owner{acme}, Filters: forwarder.Filters{Text: "ada@"}})); n != 21 {
		t.Errorf("%d entries are found, want 21", n)
	}
}

// Entries that come all at once, after which nothing comes, are summarized when they have
// been there for a while.
func TestWhatWasTooYoungIsSummarizedLater(t *testing.T) {
	defer func(was time.Duration) { settled = was }(settled)
	settled = time.Minute
	s := newStore(t)
	s.now = func() time.Time { return time.UnixMicro(epoch + 30_000_000) }
	write(t, s, ofAcme(t, 1, 20, nil))
	summarizeNow(t, s)
	if got := stretchesIn(t, s, acme); len(got) != 0 {
		t.Errorf("stretches %v of entries that are half a minute old", got)
	}
	s.now = func() time.Time { return time.UnixMicro(epoch + 300_000_000) }
	s.summarized.grow()
	if err := s.summarizeSome(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := stretchesIn(t, s, acme); len(got) != 4 {
		t.Errorf("stretches %v of 20 entries that are some minutes old", got)
	}
}

func TestADocumentThatNobodyCanReadIsNotHidden(t *testing.T) {
	s := newStore(t)
	write(t, s, ofAcme(t, 1, 9, nil))
	outside(t, s.path, `UPDATE entry SET document = '{"harmed' WHERE sequence = 5`)
	summarizeNow(t, s)
	for _, newestFirst := range []bool{false, true} {
		q := forwarder.Query{Owners: []audit.Owner{acme}, Filters: forwarder.Filters{Actors: []string{"ada@example.com"}}, NewestFirst: newestFirst}
		n := 0
		for _, err := range s.Briefs(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 9 {
			t.Errorf("%d entries are found by their columns, want 9", n)
		}
	}
}

// Whatever happens to entries, in whatever order, a search finds all of them.
func TestSummariesHideNothing(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			stretchesOf(t, 1+rng.IntN(6))
			path := filepath.Join(t.TempDir(), "audit.db")
			stores := []*Store{openStore(t, path), openStore(t, path)} // as two processes
			draw := func() *audit.Entry {
				n := rng.IntN(60)
				e := entry(n, 1+rng.IntN(3))
				e.OrganizationID, e.OrganizationSlug = "", []string{"acme", "org-1", ""}[n%3]
				e.Timestamp = epoch + int64(n/4)*1_000_000
				e.Actor.Email = fmt.Sprintf("%c@example.com", 'a'+rng.IntN(8))
				e.Action.Status = 200 + 100*rng.IntN(4)
				e.Action.Path += strings.Repeat("/deeper", rng.IntN(3))
				return e
			}
			stamp := func(e *audit.Entry) *audit.Stamp {
				s := &audit.Stamp{Membership: []audit.Membership{"", audit.MembershipProven, audit.MembershipUnproven}[rng.IntN(3)]}
				if e.OrganizationSlug == "" && rng.IntN(2) == 0 {
					s.OrganizationSlug = "org-1"
				}
				s.Retention = &audit.Retention{Class: "short", KeepUntil: audit.Days(5 + rng.IntN(20)).KeepMicros(e.Timestamp)}
				return s
			}
			sequence, days := 0, 0
			for round := range 24 {
				s := stores[rng.IntN(2)]
				s.now = func() time.Time { return inDays(days).Now }
				switch rng.IntN(8) {
				case 0, 1, 2, 3:
					var batch []forwarder.Record
					for range rng.IntN(12) {
						sequence++
						e := draw()
						r := record(t, e, sequence)
						if r.Stamp = stamp(e); rng.IntN(3) == 0 {
							r.Stamp = nil
						} else {
							r.Stamp.On(r.Entry)
						}
						batch = append(batch, r)
					}
					write(t, s, batch)
				case 4, 5:
					e := draw()
					if err := s.Restamp(t.Context(), []forwarder.Restamp{{ID: e.ID, Timestamp: e.Timestamp, Stamp: *stamp(e)}}); err != nil {
						t.Fatal(err)
					}
				case 6:
					summarizeNow(t, s)
				case 7:
					days += rng.IntN(3)
					pruneAll(t, s, inDays(days))
				}
				if round%12 == 11 {
					if len(documents(t, s, forwarder.Query{})) > 0 {
						checkBrowsed(t, fmt.Sprintf("after round %d", round), s)
					}
					checkSummaries(t, s)
				}
			}
		})
	}
}

// checkSummaries asks each stretch's summary for each of its entries.
func checkSummaries(t *testing.T, s *Store) {
	t.Helper()
	checkColumns(t, s)
	var owners []audit.Owner
	if err := each(t.Context(), s.Reader.db, `SELECT DISTINCT owner FROM summary`, func(rows *sql.Rows) error {
		var o audit.Owner
		err := rows.Scan(&o)
		owners = append(owners, o)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, owner := range owners {
		for _, doc := range documents(t, s, forwarder.Query{Owners: []audit.Owner{owner}}) {
			e, err := audit.Decode([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			b := e.Brief()
			q := forwarder.Query{Owners: []audit.Owner{owner}, Filters: forwarder.Filters{
				Actors: []string{b.Email}, Actions: []string{b.Action}, Text: e.Action.Path,
				Statuses: []forwarder.StatusRange{{First: b.Status, Last: b.Status}},
			}}
			if !slices.Contains(documents(t, s, q), doc) {
				t.Errorf("entry %s is not found by what it has", e.ID)
			}
		}
	}
}
