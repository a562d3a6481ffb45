package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// checkColumns compares the columns of each row with its document and its stamp.
func checkColumns(t *testing.T, s *Store) {
	t.Helper()
	err := each(t.Context(), s.Reader.db, `SELECT document, ifnull(organization_slug, ''), ifnull(owner, ''), event IS NOT NULL,
		ifnull(actor, ''), ifnull(email, ''), ifnull(token_type, ''), address, ifnull(action, ''), ifnull(method, ''), ifnull(target_type, ''),
		ifnull(target, ''), ifnull(outcome, ''), status, `+tagColumns+` FROM entry`, func(rows *sql.Rows) error {
		var doc, slug string
		var owner audit.Owner
		var event bool
		var got audit.Brief
		var g tag
		err := rows.Scan(g.into(&doc, &slug, &owner, &event, &got.Actor, &got.Email, &got.TokenType, &got.Address, &got.Action, &got.Method,
			&got.TargetType, &got.Target, &got.Outcome, &got.Status)...)
		if err != nil {
			return err
		}
		e, err := audit.Decode([]byte(doc))
		if err != nil {
			return err
		}
		if stamp := g.stamp(); stamp != nil {
			stamp.On(e)
		}
		want := e.Brief()
		got.ID, got.Timestamp, got.Project, got.Membership = want.ID, want.Timestamp, want.Project, want.Membership
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("columns of %s (-want +got):\n%s", e.ID, diff)
		}
		if slug != e.OrganizationSlug || owner != e.Owner() || event != e.IsEvent() {
			t.Errorf("entry %s is %q's, by its columns %q's; with slug %q, by its columns %q; an event %v, by its columns %v",
				e.ID, e.Owner(), owner, e.OrganizationSlug, slug, e.IsEvent(), event)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// browsed are queries of each kind about some entries.
func browsed(entries []*audit.Entry) (all []forwarder.Query) {
	base := []forwarder.Query{{}, {Events: true}, {Organization: "org-1"}, {Organization: "org-2", NewestFirst: true}}
	for i, e := range entries {
		if i > 1 && i%4 > 0 {
			continue // the others are alike
		}
		b := e.Brief()
		base = append(base, forwarder.Query{Owners: []audit.Owner{e.Owner()}},
			forwarder.Query{Owners: []audit.Owner{e.Owner(), audit.OwnerBySlug("org-1"), audit.OwnerBySlug("org-3")}, NewestFirst: true, Limit: 3},
			forwarder.Query{Filters: forwarder.Filters{Actors: []string{b.Actor}}}, forwarder.Query{Filters: forwarder.Filters{Projects: []string{e.ProjectRef}}},
			forwarder.Query{Filters: forwarder.Filters{Actions: []string{b.Action}, Methods: []string{b.Method}}},
			forwarder.Query{Filters: forwarder.Filters{Targets: []string{b.TargetType}}}, forwarder.Query{User: e.Actor.UserID, Owners: []audit.Owner{e.Owner()}},
			forwarder.Query{Filters: forwarder.Filters{Text: strings.ToUpper(e.Action.Path)}}, forwarder.Query{Filters: forwarder.Filters{Statuses: []forwarder.StatusRange{{First: 400, Last: 599}}}},
			forwarder.Query{After: forwarder.Place{Timestamp: b.Timestamp, ID: b.ID}}, forwarder.Query{Filters: forwarder.Filters{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/29")}}},
		)
	}
	for _, q := range base {
		all = append(all, q)
		q.AsMember = true
		all = append(all, q)
	}
	return all
}

// checkBrowsed compares what a reader says with what Matches says of all that it has.
func checkBrowsed(t *testing.T, when string, r forwarder.Browser) {
	t.Helper()
	var entries []*audit.Entry
	docs := documents(t, r, forwarder.Query{})
	for _, doc := range docs {
		e, err := audit.Decode([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	found := 0
	for _, q := range browsed(entries) {
		var want []string
		var briefs []audit.Brief
		for i, e := range entries {
			if q.Matches(e) {
				want = append(want, docs[i])
				briefs = append(briefs, e.Brief())
			}
		}
		if q.NewestFirst {
			slices.Reverse(want)
			slices.Reverse(briefs)
		}
		if q.Limit > 0 {
			n := min(q.Limit, len(want))
			want, briefs = want[:n], briefs[:n]
		}
		found += len(want)
		if diff := gocmp.Diff(want, documents(t, r, q)); diff != "" {
			t.Errorf("%s, %+v (-want +got):\n%s", when, q, diff)
		}
		if diff := gocmp.Diff(briefs, briefsOf(t, r, q)); diff != "" {
			t.Errorf("Briefs %s, %+v (-want +got):\n%s", when, q, diff)
		}
	}
	if found < 2*len(entries) {
		t.Errorf("%d entries are found %s, which is hardly any", found, when)
	}
}

func briefsOf(t *testing.T, r forwarder.Browser, q forwarder.Query) (all []audit.Brief) {
	t.Helper()
	for b, err := range r.Briefs(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		c := *b
		c.Address = slices.Clone(b.Address)
		all = append(all, c)
	}
	return all
}

func checkBeats(t *testing.T, when string, r forwarder.Browser, want ...forwarder.Beat) {
	t.Helper()
	got, err := r.Beats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("signs of life %s (-want +got):\n%s", when, diff)
	}
}

// version2 is what schema version 2 left: entries with and without a stamp, one that is
// pending, one of which a revision was replaced, events, and a hold.
func version2(t testing.TB, path string) {
	t.Helper()
	dump, err := os.ReadFile("testdata/version-2.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; BEGIN; " + string(dump) + "COMMIT;"); err != nil {
		t.Fatal(err)
	}
}

func TestAnEarlierVersionIsBrowsedBeforeAndAfterItIsMigrated(t *testing.T) {
	one := func(t testing.TB, path string) {
		version1(t, path, records(t, 1, 6), forwarder.Range{Instance: testInstance, First: 1, Last: 6})
	}
	beat := forwarder.Beat{Instance: testInstance, At: time.UnixMicro(epoch + 21_000)}
	for name, c := range map[string]struct {
		file  func(testing.TB, string)
		beats []forwarder.Beat
	}{"version 1": {one, nil}, "version 2": {version2, []forwarder.Beat{beat}}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.db")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.file(t, path)
			r, err := OpenReader(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			docs := documents(t, r, forwarder.Query{})
			checkBrowsed(t, "before", r)
			checkBeats(t, "before", r, c.beats...)
			s := openStore(t, path)
			if diff := gocmp.Diff(docs, documents(t, s, forwarder.Query{})); diff != "" {
				t.Errorf("entries (-before +after):\n%s", diff)
			}
			for when, r := range map[string]forwarder.Browser{"after": s, "after, to a reader from before": r} {
				checkBrowsed(t, when, r)
				checkBeats(t, when, r, c.beats...)
			}
			checkBooks(t, s)
			write(t, s, []forwarder.Record{record(t, entry(40, 1), 40)})
			checkBrowsed(t, "later", s)
			checkBooks(t, s)
		})
	}
}

func TestBriefsAreReadFromTheIndexAlone(t *testing.T) {
	s := newStore(t)
	f := forwarder.Filters{
		Actors: []string{"a", "b"}, Actions: []string{"c"}, Methods: []string{"GET"}, Targets: []string{"t", "t/i"}, TokenTypes: []string{"jwt"},
		Outcomes: []string{"success"}, Statuses: []forwarder.StatusRange{{First: 200, Last: 299}}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Projects: []string{"p", "q"},
	}
	for _, filters := range []forwarder.Filters{{}, f} {
		for _, owners := range [][]audit.Owner{{audit.OwnerByID("1")}, {audit.OwnerByID("1"), audit.OwnerBySlug("s"), ""}} {
			for _, newestFirst := range []bool{false, true} {
				for _, begun := range []bool{false, true} {
					q := forwarder.Query{Owners: owners, AsMember: true, Filters: filters, NewestFirst: newestFirst, From: time.Now(), To: time.Now()}
					w := walk{query: &q, begun: begun, sources: sourcesOf(&q, schemaVersion, nil)}
					query, args := w.sql(selectBrief, 10)
					plan := explain(t, s, query, args)
					if n := strings.Count(plan, "USING COVERING INDEX entry_by_owner (owner=?"); n != len(owners) || strings.Contains(plan, "TEMP B-TREE") {
						t.Errorf("%s\n%s", query, plan)
					}
					query, args = w.sql("timestamp, id, document", 10)
					plan = explain(t, s, query, args)
					if n := strings.Count(plan, "USING INDEX entry_by_owner (owner=?"); n != len(owners) || strings.Contains(plan, "TEMP B-TREE") {
						t.Errorf("%s\n%s", query, plan)
					}
				}
			}
		}
	}
}

func TestEventsAreFoundByTheirIndex(t *testing.T) {
	s := newStore(t)
	e := audit.Event(audit.EventHeartbeat, time.UnixMicro(epoch), nil)
	write(t, s, []forwarder.Record{record(t, e, 1)})
	q := forwarder.Query{Events: true, NewestFirst: true}
	w := walk{query: &q, version: schemaVersion}
	found, err := w.find()(t.Context(), s.Reader.db, &q)
	if err != nil {
		t.Fatal(err)
	}
	w.sources = sourcesOf(&q, schemaVersion, found)
	query, args := w.sql("timestamp, id, document", 10)
	plan := explain(t, s, query, args)
	if !strings.Contains(plan, "INDEX event_by_instance (instance=?") || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "entry_by_time") {
		t.Errorf("%s\n%s", query, plan)
	}
	for _, query := range []string{selectInstance, selectAction, selectSign} {
		args := []any{"a", "b"}[:strings.Count(query, "?")]
		if plan := explain(t, s, query, args); !strings.Contains(plan, "INDEX event_by_instance (instance") {
			t.Errorf("%s\n%s", query, plan)
		}
	}
}

// A statement cannot be ended once it has a row, so each looks at a bounded number of them.
func TestASearchThatFindsLittleIsDoneInBoundedStatements(t *testing.T) {
	stretchesOf(t, math.MaxInt32) // no summaries, by which they would be others
	s := newStore(t)
	for _, newestFirst := range []bool{false, true} {
		for _, begun := range []bool{false, true} {
			q := forwarder.Query{Owners: []audit.Owner{audit.OwnerByID("1")}, Filters: forwarder.Filters{Actors: []string{"a"}}, NewestFirst: newestFirst, From: time.Now(), To: time.Now()}
			w := walk{query: &q, begun: begun, sources: sourcesOf(&q, schemaVersion, nil), until: forwarder.Place{Timestamp: 1, ID: "x"}}
			query, args := w.sql(selectBrief, 10)
			plan := explain(t, s, query, args)
			// Both ends are those of the index's range, and nothing is read beyond them.
			if !strings.Contains(plan, "owner=? AND ") || strings.Count(plan, ">") != 1 || strings.Count(plan, "<") != 1 {
				t.Errorf("%s\n%s", query, plan)
			}
		}
	}
	const total = 3*rowWindow + 10
	var batch []forwarder.Record
	for n := range total {
		e := entry(n, 1)
		e.OrganizationSlug, e.Timestamp, e.Action.Path = "acme", epoch+int64(n/5), "/v1/usual"
		if n%1000 == 0 {
			e.Action.Path = "/v1/seldom"
		}
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	for _, q := range []forwarder.Query{
		{Owners: []audit.Owner{audit.OwnerBySlug("acme")}}, {Owners: []audit.Owner{audit.OwnerBySlug("acme")}, NewestFirst: true}, {Organization: "acme"}, {NewestFirst: true, Limit: 3},
	} {
		q.Text = "seldom"
		want := 4
		if q.Limit > 0 {
			want = q.Limit
		}
		if n := len(documents(t, s, q)); n != want {
			t.Errorf("%+v: %d entries, want %d", q, n, want)
		}
		w, err := s.newWalk(t.Context(), &q)
		if err != nil {
			t.Fatal(err)
		}
		statements := 0
		for ; !w.last; statements++ {
			if err := w.rows(t.Context(), s.Reader.db, "timestamp, id", 100, func(rows *sql.Rows) error {
				for rows.Next() {
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			w.ended()
		}
		if statements != 4 {
			t.Errorf("%+v: %d statements, want 4", q, statements)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range s.Read(ctx, forwarder.Query{Filters: forwarder.Filters{Text: "seldom"}}) {
		if cancel(); err == nil {
			n++
		}
	}
	if n > 2 { // of the statement in hand
		t.Errorf("%d entries come to a reader who has left", n)
	}
}

func TestAFileWithoutEventsIsNotSearchedForThem(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 10))
	for _, q := range []forwarder.Query{{Events: true}, {Events: true, Filters: forwarder.Filters{Actions: []string{audit.EventGap}}, NewestFirst: true}} {
		w := walk{query: &q, version: schemaVersion}
		found, err := w.find()(t.Context(), s.Reader.db, &q)
		if err != nil {
			t.Fatal(err)
		}
		w.sources = sourcesOf(&q, schemaVersion, found)
		query, args := w.sql("timestamp, id, document", 10)
		if !strings.Contains(query, "WHERE 0 AND") {
			t.Errorf("%s\n%s", query, explain(t, s, query, args))
		}
		if n := len(documents(t, s, q)); n != 0 {
			t.Errorf("%d events", n)
		}
	}
}

// More than a page of each kind, of several owners.
func TestManyEntriesAreBrowsedInPages(t *testing.T) {
	s := newStore(t)
	defer func(n int) { briefPage = n }(briefPage)
	briefPage = 500
	const total = 2*pageEntries + 100
	var batch []forwarder.Record
	for n := range total {
		e := entry(n, 1)
		e.Timestamp = epoch + int64(n/7)
		if n%3 == 0 {
			e.OrganizationID = "o-1"
		}
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	slices.SortFunc(batch, func(a, b forwarder.Record) int {
		return strings.Compare(fmt.Sprint(a.Entry.Timestamp, a.Entry.ID), fmt.Sprint(b.Entry.Timestamp, b.Entry.ID))
	})
	all := []audit.Owner{"", audit.OwnerByID("o-1")}
	for n := range 10 {
		all = append(all, audit.OwnerBySlug(fmt.Sprint("org-", n)))
	}
	var crowd []audit.Owner
	for n := range maxSources {
		crowd = append(crowd, audit.OwnerByID(fmt.Sprint("o-", n)))
	}
	for _, q := range []forwarder.Query{
		{Owners: all},
		{Owners: all, NewestFirst: true},
		{Owners: all[1:2]},
		{Owners: append(all, all...), Limit: pageEntries + 1},
		{Owners: append(crowd, all[3:]...)},
		{Owners: all, Filters: forwarder.Filters{Text: "FUNCTIONS/hello"}},
		{Owners: all[:5], NewestFirst: true, Filters: forwarder.Filters{Projects: []string{"ref-1-1", "ref-2-1"}, Text: "abcdefgh9"}},
		{Filters: forwarder.Filters{Actors: []string{entry(7, 1).Actor.UserID}}},
	} {
		var want []audit.Brief
		for _, r := range batch {
			if q.Matches(r.Entry) {
				want = append(want, r.Entry.Brief())
			}
		}
		if q.NewestFirst {
			slices.Reverse(want)
		}
		if q.Limit > 0 {
			want = want[:q.Limit]
		}
		got := briefsOf(t, s, q)
		if len(want) == 0 || len(got) != len(want) || gocmp.Diff(want, got) != "" {
			t.Errorf("%.200v: %d Briefs, want %d, or others", q, len(got), len(want))
		}
		n := 0
		for doc, err := range s.Read(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if e, err := audit.Decode(doc); err != nil || n >= len(want) || e.ID != want[n].ID {
				t.Fatalf("%.200v: entry %d is another one", q, n)
			}
			n++
		}
		if n != len(want) {
			t.Errorf("%.200v: %d entries, want %d", q, n, len(want))
		}
	}
}

func TestAnEntryThatGetsAnotherOwnerMeanwhileIsFoundByItsSlug(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for n := range 2 * pageEntries {
		e := entry(n, 1)
		e.OrganizationSlug = "acme"
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	seen := 0
	for _, err := range s.Read(t.Context(), forwarder.Query{Organization: "acme"}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen != 10 {
			continue
		}
		var stamps []forwarder.Restamp
		for _, r := range batch {
			stamps = append(stamps, forwarder.Restamp{ID: r.Entry.ID, Timestamp: r.Entry.Timestamp, Stamp: audit.Stamp{OrganizationID: "o-1"}})
		}
		if err := s.Restamp(t.Context(), stamps); err != nil {
			t.Fatal(err)
		}
	}
	if seen != len(batch) {
		t.Errorf("%d entries, want %d", seen, len(batch))
	}
	if n := len(documents(t, s, forwarder.Query{Owners: []audit.Owner{audit.OwnerByID("o-1")}})); n != len(batch) {
		t.Errorf("%d entries are the new owner's, want %d", n, len(batch))
	}
	checkBooks(t, s)
}

func TestSlugsThatAreMadeUpMakeNothingGrow(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for n := range 500 {
		e := entry(n, 1)
		e.OrganizationSlug = fmt.Sprint("made-up-", n)
		if n%100 == 0 {
			e.OrganizationID = "o-1"
		}
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	write(t, s, batch)
	var n int
	if err := s.Reader.db.QueryRow(`SELECT count(*) FROM named`).Scan(&n); err != nil || n != 5 || len(s.named) != 5 {
		t.Errorf("%d slugs are kept, %d are remembered, %v; want 5", n, len(s.named), err)
	}
	for _, of := range []int{100, 101} {
		if n := len(documents(t, s, forwarder.Query{Organization: fmt.Sprint("made-up-", of)})); n != 1 {
			t.Errorf("%d entries with the slug of entry %d, want 1", n, of)
		}
	}
	checkBooks(t, s)
}

func TestWhatIsRememberedOfSlugsIsBounded(t *testing.T) {
	s := newStore(t)
	defer func(n int) { maxNamed = n }(maxNamed)
	maxNamed = 250
	for n := range 6 {
		var batch []forwarder.Record
		for i := range 100 {
			e := entry(100*n+i, 1)
			e.OrganizationID = fmt.Sprint("o-", 100*n+i)
			batch = append(batch, record(t, e, 100*n+i+1))
		}
		write(t, s, batch)
	}
	if len(s.named) > maxNamed {
		t.Errorf("%d slugs are remembered", len(s.named))
	}
	checkBooks(t, s)
}

// What a client sends may hold any character, and be of any length.
func TestHostileTextsAreTheirOwnValues(t *testing.T) {
	s := newStore(t)
	long := strings.Repeat("x", 2*audit.MaxBriefText)
	texts := []string{"a\x00b", "a\x00c", "a", "'; DROP TABLE entry; --", "%", "\uffff\U0010ffff", long + "1", long + "2", "ÿ", "\u00ff\u00fe"}
	var batch []forwarder.Record
	for n, text := range texts {
		e := entry(n, 1)
		e.OrganizationSlug, e.ProjectRef, e.Action.Code, e.Actor.UserID, e.Actor.Email = "org-1", text, text, text, text
		e.Target = &audit.Target{Type: text, ID: text}
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	owners := []audit.Owner{audit.OwnerBySlug("org-1")}
	for i, text := range texts {
		for _, f := range []forwarder.Filters{{Projects: []string{text}}, {Actions: []string{text}}, {Actors: []string{text}}, {Targets: []string{text}}, {Targets: []string{text + "/" + text}}} {
			q := forwarder.Query{Owners: owners, Filters: f}
			var want []audit.Brief
			for _, r := range batch {
				if q.Matches(r.Entry) {
					want = append(want, r.Entry.Brief())
				}
			}
			if diff := gocmp.Diff(want, briefsOf(t, s, q)); diff != "" {
				t.Errorf("Briefs of text %d (-want +got):\n%s", i, diff)
			}
			if n := len(documents(t, s, q)); n != len(want) {
				t.Errorf("%d entries with text %d, want %d", n, i, len(want))
			}
		}
	}
	checkBooks(t, s)
}

func TestBriefsEndWithTheirContextAndWhenNoMoreAreWanted(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 10))
	for range 2 * readConnections {
		for _, err := range s.Briefs(t.Context(), forwarder.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if n := s.Reader.db.Stats().InUse; n != 0 {
		t.Errorf("%d connections in use", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, q := range []forwarder.Query{{}, {Filters: forwarder.Filters{Text: "hello"}}} {
		var last error
		for _, err := range s.Briefs(ctx, q) {
			last = err
		}
		if last == nil {
			t.Error("a context that has ended is no error")
		}
	}
}

// BenchmarkBriefs reads those of one organization, without and with a filter that nothing passes.
func BenchmarkBriefs(b *testing.B) {
	s := newStore(b)
	for n := 0; n < 100_000; n += 5000 {
		write(b, s, records(b, n+1, n+5000))
	}
	for name, q := range map[string]forwarder.Query{
		"all":  {},
		"none": {Filters: forwarder.Filters{Actors: []string{"nobody"}}, AsMember: true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			q.Owners = []audit.Owner{audit.OwnerBySlug("org-3")}
			n := 0
			for b.Loop() {
				for _, err := range s.Briefs(b.Context(), q) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
