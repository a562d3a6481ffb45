//go:build unix

package postgres

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// checkColumns compares the columns of each row with its document and its stamp.
func checkColumns(t *testing.T, s *Store) {
	t.Helper()
	p := briefsPage{walk: &walk{}, texts: recent{}}
	sql := fmt.Sprintf("SELECT owner, coalesce(organization_slug, ''), event IS NOT NULL, %s, %s FROM %s.entry", rowColumns, briefColumns, s.at.schema)
	err := s.snapshot(t.Context(), true, func(tx *snapshot) error {
		return tx.query(t.Context(), sql, nil, func(v [][]byte) {
			owner, slug, event := string(v[0]), string(v[1]), string(v[2]) == "t"
			var r row
			if err := r.scan(v[3:14]); err != nil {
				t.Fatal(err)
			}
			e, err := r.decode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.scan(v[14:])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e.Brief(), got); diff != "" {
				t.Errorf("columns of %.100q (-want +got):\n%s", r.doc, diff)
			}
			wantOwner, wantSlug := "", ""
			if o := e.Owner(); o != "" {
				wantOwner = ownerColumn(o)
			}
			if e.OrganizationSlug != "" {
				wantSlug = column(e.OrganizationSlug)
			}
			if slug != wantSlug || owner != wantOwner || event != e.IsEvent() {
				t.Errorf("%.100q is %q's, by its columns %q's; with slug %q, by its columns %q; an event %v, by its columns %v",
					r.doc, wantOwner, owner, wantSlug, slug, e.IsEvent(), event)
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// browsed are queries of each kind about some entries.
func browsed(entries []*audit.Entry) (all []forwarder.Query) {
	base := []forwarder.Query{{}, {Events: true}, {Organization: "org-1"}, {Organization: "org-2", NewestFirst: true}}
	for _, e := range entries {
		b := e.Brief()
		base = append(base, forwarder.Query{Owners: []audit.Owner{e.Owner()}},
			forwarder.Query{Owners: []audit.Owner{e.Owner(), audit.OwnerBySlug("org-1"), audit.OwnerBySlug("org-3")}, NewestFirst: true, Limit: 3},
			forwarder.Query{Organization: e.OrganizationSlug, Filters: forwarder.Filters{Actors: []string{b.Actor, b.Email}}},
			forwarder.Query{Owners: []audit.Owner{e.Owner()}, Filters: forwarder.Filters{
				Projects: []string{e.ProjectRef}, Actions: []string{b.Action, "c"}, TokenTypes: []string{string(b.TokenType)}, Outcomes: []string{string(b.Outcome)},
			}},
			forwarder.Query{Filters: forwarder.Filters{Targets: []string{b.TargetType + "/" + b.Target}, Methods: []string{b.Method}}},
			forwarder.Query{Filters: forwarder.Filters{Text: strings.ToUpper(e.Action.Path), Statuses: []forwarder.StatusRange{{First: b.Status, Last: b.Status}}}},
		)
		if a, err := netip.ParseAddr(e.Actor.IP); err == nil {
			base = append(base, forwarder.Query{Filters: forwarder.Filters{Networks: []netip.Prefix{netip.PrefixFrom(a.WithZone(""), 24)}}})
		}
	}
	for _, q := range base {
		all = append(all, q)
		q.AsMember = true
		all = append(all, q)
	}
	return all
}

// checkBrowsed compares what is read with what Matches says of all that is there.
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
	var asked []*audit.Entry // some of them, since each makes many queries
	for i := 0; i < len(entries); i += 1 + len(entries)/6 {
		asked = append(asked, entries[i])
	}
	found := 0
	for _, q := range browsed(asked) {
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
		if diff := cmp.Diff(want, documents(t, r, q)); diff != "" {
			t.Errorf("%s, %+v (-want +got):\n%s", when, q, diff)
		}
		if diff := cmp.Diff(briefs, briefsOf(t, r, q)); diff != "" {
			t.Errorf("Briefs %s, %+v (-want +got):\n%s", when, q, diff)
		}
	}
	if found < 2*len(asked) {
		t.Errorf("%d entries are found %s, which is hardly any", found, when)
	}
}

func briefsOf(t testing.TB, r forwarder.Browser, q forwarder.Query) (all []audit.Brief) {
	t.Helper()
	for b, err := range r.Briefs(context.Background(), q) {
		if err != nil {
			t.Fatal(err)
		}
		c := *b
		c.Address = slices.Clone(b.Address)
		all = append(all, c)
	}
	return all
}

func TestAPageOfOwnersIsWalkedInTheirIndex(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 1500))
	beat := audit.Event(audit.EventHeartbeat, time.UnixMicro(epoch), nil)
	write(t, s, []forwarder.Record{record(t, beat, 1501)})
	f := forwarder.Filters{
		Actors: []string{"a", "b"}, Actions: []string{"c"}, Methods: []string{"GET"}, Targets: []string{"t", "t/i"}, TokenTypes: []string{"jwt"},
		Outcomes: []string{"success"}, Statuses: []forwarder.StatusRange{{First: 200, Last: 299}}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Projects: []string{"p", "q"},
	}
	const month = "entry_default_2025_10_"
	walked := func(when, plan, index string, times int) {
		t.Helper()
		if n := strings.Count(plan, index); n < times || strings.Contains(plan, "Seq Scan on "+month) || strings.Contains(plan, "Sort  (") {
			t.Errorf("%s: %q is there %d times, want %d\n%s", when, index, n, times, plan)
		}
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			run(t, s.conn, s.at.schema, `VACUUM (ANALYZE) {schema}.entry`)
		}
		for _, owners := range [][]audit.Owner{{audit.OwnerBySlug("org-3")}, {audit.OwnerByID("1"), audit.OwnerBySlug("org-3"), audit.OwnerBySlug("org-4"), ""}} {
			for _, filters := range []forwarder.Filters{{}, f} {
				for _, newestFirst := range []bool{false, true} {
					for _, begun := range []bool{false, true} {
						q := forwarder.Query{Owners: owners, AsMember: true, Filters: filters, NewestFirst: newestFirst, From: timeOf(10), To: timeOf(1490)}
						w := walkOf(t, s, &q)
						w.begun, w.timestamp, w.id = begun, entry(700, 1).Timestamp, entry(700, 1).ID
						when := fmt.Sprintf("%+v, begun %v, analyzed %v", q, begun, analyzed)
						index := "Index Scan using " + month + "owner_"
						if isFiltered(&q) {
							index = "Index Only Scan using " + month + "owner_"
						}
						if newestFirst {
							index = strings.Replace(index, "Scan", "Scan Backward", 1)
						}
						sql, args := w.sql(50)
						walked(when, explain(t, s, false, sql, args), index, len(owners))
						if isFiltered(&q) {
							walked(when, explain(t, s, false, sql, args), "Index Scan using "+month+"pkey", 1)
						}
						sql, args = w.merged(briefColumns, briefPage)
						walked("Briefs, "+when, explain(t, s, false, sql, args), strings.Replace(index, "Index Scan", "Index Only Scan", 1), len(owners))
					}
				}
			}
		}
		q := forwarder.Query{Events: true, NewestFirst: true}
		sql, args := walkOf(t, s, &q).sql(50)
		walked("events", explain(t, s, false, sql, args), "using "+month+"action_timestamp_id_owner_idx", 1)
		walked("kinds of events", explain(t, s, false, selectEvents, []any{maxSources}), "using "+month+"action_timestamp_id_owner_idx", 1)
		walked("signs of life", explain(t, s, false, selectBeats, nil), "using "+month+"instance_timestamp_id_action_idx", 2)
	}
	// Nothing but the index is read for Briefs of what has been vacuumed.
	q := forwarder.Query{Owners: []audit.Owner{audit.OwnerBySlug("org-3")}}
	sql, args := walkOf(t, s, &q).merged(briefColumns, briefPage)
	plan := explain(t, s, false, "(ANALYZE) "+sql, args)
	if n := strings.Count(plan, "Heap Fetches: 0"); n == 0 || n != strings.Count(plan, "Heap Fetches: ") {
		t.Error(plan)
	}
}

// More than a page of each kind, of several owners.
func TestManyEntriesAreBrowsedInPages(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const total = briefPage + 100
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
		{Owners: slices.Concat(all[1:2], all), Limit: 2*pageEntries + 1, NewestFirst: true},
		{Owners: slices.Concat(crowd, all[3:])},
		{Owners: all, Filters: forwarder.Filters{Text: "FUNCTIONS/hello"}},
		{Owners: all[:5], NewestFirst: true, Filters: forwarder.Filters{Projects: []string{"ref-1-1", "ref-2-1"}, Text: "abcdefgh9"}},
		{Owners: all, Filters: forwarder.Filters{Text: "abcdefgh40", Methods: []string{"PATCH"}}, Limit: 60},
		{Filters: forwarder.Filters{Actors: []string{entry(7, 1).Actor.UserID}}},
		{Organization: "org-4", Filters: forwarder.Filters{Methods: []string{"PATCH"}}},
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
		if len(want) == 0 || len(got) != len(want) || cmp.Diff(want, got) != "" {
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

func TestAnOrganizationsEntriesAreFoundByItsSlugWhoeverOwnsThem(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for n := range 2 * maxSources {
		e := entry(n, 1)
		e.OrganizationSlug = "acme"
		if n%2 == 0 {
			e.OrganizationID = fmt.Sprint("o-", n)
		}
		batch = append(batch, record(t, e, n+1))
	}
	ask := func(when string) {
		t.Helper()
		for _, q := range []forwarder.Query{{Organization: "acme"}, {Organization: "acme", Filters: forwarder.Filters{Methods: []string{"PATCH"}}}} {
			if n, m := len(documents(t, s, q)), len(briefsOf(t, s, q)); n != len(batch) || m != n {
				t.Errorf("%s: %d entries and %d Briefs, want %d", when, n, m, len(batch))
			}
		}
		checkColumns(t, s)
	}
	slugs := func() int { return value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM {schema}.named`) }
	batch = batch[:6]
	write(t, s, batch)
	ask("as captured")
	if n := slugs(); n != 3 {
		t.Errorf("%d pairs of slug and owner, want 3: a slug alone needs none", n)
	}
	var stamps []forwarder.Restamp
	for _, r := range batch {
		stamps = append(stamps, forwarder.Restamp{ID: r.Entry.ID, Timestamp: r.Entry.Timestamp, Stamp: audit.Stamp{OrganizationID: "o-1"}})
	}
	if err := s.Restamp(t.Context(), stamps); err != nil {
		t.Fatal(err)
	}
	ask("as stamped")
	if n := len(documents(t, s, forwarder.Query{Owners: []audit.Owner{audit.OwnerByID("o-1")}})); n != 3 || slugs() != 4 {
		t.Errorf("%d entries are the new owner's, want 3; %d pairs, want 4", n, slugs())
	}
	write(t, s, batch)
	ask("as repeated")
	for n := range 2 * maxSources {
		e := entry(100+n, 1)
		e.OrganizationSlug, e.OrganizationID = "acme", fmt.Sprint("other-", n)
		batch = append(batch, record(t, e, 100+n))
	}
	write(t, s, batch)
	ask("with more owners than are walked")
}

func TestWhatIsErasedIsErasedFromTheColumns(t *testing.T) {
	s := newStore(t)
	e := entry(1, 1)
	e.Actor.Email = "planted@example.com"
	write(t, s, []forwarder.Record{record(t, e, 1), record(t, entry(2, 1), 2)})
	run(t, s.conn, s.at.schema, `UPDATE {schema}.entry SET document = replace(document::text, 'planted@example.com', '')::json, raw = NULL,
		redactions = '["actor.email"]' WHERE sequence = 1`)
	checkColumns(t, s)
	checkBrowsed(t, "after", s)
	if n := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM {schema}.entry e WHERE e::text LIKE '%planted%'`); n != 0 {
		t.Error("the text is still in the row")
	}
	write(t, s, []forwarder.Record{record(t, entry(1, 2), 3)})
	checkColumns(t, s)
}
