//go:build unix

package postgres

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const dayMicros = 24 * 3600 * 1_000_000

// at is a number of days after entry 0, in microseconds.
func at(days int) int64 { return epoch + int64(days)*dayMicros }

// terms are days by class; zero is for ever. A class that is not there has no term.
type terms map[string]int

func (t terms) until(class string, arrival int64) int64 {
	days, ok := t[class]
	switch {
	case !ok:
		return 0
	case days == 0:
		return audit.ForeverMicros
	}
	return audit.Days(days).KeepMicros(arrival)
}

func (t terms) expiry(days int) forwarder.Expiry {
	return forwarder.Expiry{Now: time.UnixMicro(at(days)), Until: t.until, Rule: func(class string) string { return fmt.Sprint(t[class], "d") }}
}

// tag is a stamp by these terms.
func (t terms) tag(class string, arrival int64) *audit.Stamp {
	r := &audit.Retention{Class: class}
	if until := t.until(class, arrival); until != audit.ForeverMicros {
		r.KeepUntil = until
	}
	return &audit.Stamp{Retention: r}
}

// pruneAll prunes until there is no more to do.
func pruneAll(t testing.TB, s *Store, e forwarder.Expiry) (all forwarder.Pruned) {
	t.Helper()
	counts := totals{}
	for range 10_000 {
		p, err := s.Prune(context.Background(), e)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Deleted {
			counts.add(c)
		}
		all.Extended += p.Extended
		all.Held += p.Held
		if !p.More {
			all.Deleted = counts.sorted()
			return all
		}
	}
	t.Fatal("pruning does not end")
	return all
}

// stampedRecord is entry n, which arrived on a day, with a stamp.
func stampedRecord(t testing.TB, n, day int, stamp *audit.Stamp) forwarder.Record {
	t.Helper()
	e := entry(n, audit.RevisionAnswer)
	e.Timestamp = at(day) + int64(n)
	r := record(t, e, n)
	r.Stamp = stamp
	return r
}

// clockAt sets the store's clock to so many days after entry 0.
func clockAt(s *Store, days int) { s.now = func() time.Time { return time.UnixMicro(at(days)) } }

func checkLost(t testing.TB, l forwarder.Ledger, want ...forwarder.Range) {
	t.Helper()
	lost, err := l.Lost(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, lost); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

func entriesOf(t testing.TB, l forwarder.Ledger) map[string]int64 {
	t.Helper()
	classes, err := l.Classes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for _, c := range classes {
		all[c.Class] = c.Entries
	}
	return all
}

func receiptsOf(t testing.TB, l forwarder.Ledger) (all []forwarder.Receipt) {
	t.Helper()
	for r, err := range l.Receipts(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// checkTotals compares what Classes says with the rows.
func checkTotals(t testing.TB, s *Store) {
	t.Helper()
	classes, err := s.Classes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.pool.Query(t.Context(), replaceSchema(`SELECT CASE WHEN keep_until IS NULL THEN '' ELSE class END, count(*),
		sum(coalesce(octet_length(raw), octet_length(document::text)))::bigint, count(*) FILTER (WHERE held), count(*) FILTER (WHERE pending)
		FROM {schema}.entry GROUP BY 1 ORDER BY 1`, s.at.schema))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var want []forwarder.ClassTotal
	for rows.Next() {
		var c forwarder.ClassTotal
		if err := rows.Scan(&c.Class, &c.Entries, &c.Bytes, &c.Held, &c.Pending); err != nil {
			t.Fatal(err)
		}
		want = append(want, c)
	}
	if diff := cmp.Diff(want, classes); diff != "" {
		t.Errorf("totals by class (-rows +Classes):\n%s", diff)
	}
}

// oracle is the rules of forwarder.Keeper in maps.
type oracle struct {
	rows     map[int]*oracleRow
	received map[uint64]bool
	holds    map[string]forwarder.Hold
}

type oracleRow struct {
	record forwarder.Record // of the highest revision
	stamp  *audit.Stamp
}

func decoded(t testing.TB, doc []byte) *audit.Entry {
	t.Helper()
	e, err := audit.Decode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (o *oracle) isHeld(r *oracleRow) bool {
	e, err := audit.Decode(r.record.JSON)
	if err != nil {
		panic(err)
	}
	if r.stamp != nil {
		r.stamp.On(e)
	}
	for _, h := range o.holds {
		if h.Selects(e) {
			return true
		}
	}
	return false
}

// put is another stamp for a row.
func (r *oracleRow) put(s *audit.Stamp) {
	if s == nil {
		return
	}
	if r.stamp == nil {
		c := *s
		r.stamp = &c
		return
	}
	m := *r.stamp
	if s.Retention != nil && (m.Retention == nil || s.Retention.KeepMicros() >= m.Retention.KeepMicros()) {
		m.Retention = s.Retention
	}
	if s.Membership == audit.MembershipProven || m.Membership == "" {
		m.Membership = s.Membership
	}
	if m.OrganizationSlug == "" {
		m.OrganizationSlug, m.OrganizationID = s.OrganizationSlug, s.OrganizationID
	}
	m.Pending = s.Pending
	r.stamp = &m
}

func (o *oracle) write(batch []forwarder.Record, now int64, number func(r forwarder.Record) int) {
	before := map[uint64]bool{}
	for _, r := range batch {
		before[r.Sequence] = o.received[r.Sequence]
	}
	byEntry := map[int][]forwarder.Record{}
	for _, r := range batch {
		byEntry[number(r)] = append(byEntry[number(r)], r)
		o.received[r.Sequence] = true
	}
	for n, all := range byEntry {
		have, ok := o.rows[n]
		made := &oracleRow{record: all[0]}
		for _, r := range all {
			if r.Entry.Revision > made.record.Entry.Revision {
				made.record = r
			}
			made.put(r.Stamp)
		}
		if !ok {
			r := made.stamp.Retention
			expired := r.KeepMicros() <= now
			if expired && (before[made.record.Sequence] || !made.stamp.Pending && !o.isHeld(made)) {
				continue
			}
			o.rows[n] = made
			continue
		}
		if made.record.Entry.Revision > have.record.Entry.Revision {
			have.record = made.record
		}
		have.put(made.stamp)
	}
}

func (o *oracle) prune(now int64, t terms) (deleted, extended int64) {
	for n, r := range o.rows {
		if r.stamp == nil || r.stamp.Retention == nil || r.stamp.Pending || r.stamp.Retention.KeepMicros() > now {
			continue
		}
		until := t.until(r.stamp.Retention.Class, r.record.Entry.Timestamp)
		switch {
		case until > now:
			longer := *r.stamp.Retention
			if longer.KeepUntil = until; until == audit.ForeverMicros {
				longer.KeepUntil = 0
			}
			r.stamp.Retention = &longer
			extended++
		case o.isHeld(r):
		default:
			delete(o.rows, n)
			deleted++
		}
	}
	return deleted, extended
}

// documents are what Read must yield.
func (o *oracle) documents(t *testing.T, organization string) (docs []string) {
	t.Helper()
	var all []*oracleRow
	for _, r := range o.rows {
		slug := decoded(t, r.record.JSON).OrganizationSlug
		if slug == "" && r.stamp != nil {
			slug = r.stamp.OrganizationSlug
		}
		if organization == "" || slug == organization {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *oracleRow) int { return int(a.record.Entry.Timestamp - b.record.Entry.Timestamp) })
	for _, r := range all {
		doc := slices.Clone(r.record.JSON)
		if r.stamp != nil {
			s := *r.stamp
			if strings.Contains(string(doc), `"organization_slug"`) {
				s.OrganizationSlug = ""
			}
			if s.Retention != nil {
				held := *s.Retention
				held.Hold = o.isHeld(r)
				s.Retention = &held
			}
			var err error
			if doc, err = s.AppendTo(doc); err != nil {
				t.Fatal(err)
			}
		}
		docs = append(docs, string(doc))
	}
	return docs
}

// TestRetentionIsThatOfTheOracle does at random what may happen, and compares after each
// pruning what is there with what the rules say, computed in maps.
func TestRetentionIsThatOfTheOracle(t *testing.T) {
	classes := []string{"default", "unattributed", "security", "a_2026-11", "other"}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			s := newStore(t)
			o := &oracle{rows: map[int]*oracleRow{}, received: map[uint64]bool{}, holds: map[string]forwarder.Hold{}}
			term := terms{"default": 60, "unattributed": 20, "security": 0, "a_2026-11": 90, "other": 30}
			day := 0
			clockAt(s, day)
			sequence := 0
			var sent []forwarder.Record
			number := func(r forwarder.Record) int { return int(r.Entry.Timestamp-epoch) % 1000 }
			stamp := func(e *audit.Entry) *audit.Stamp {
				class := classes[rng.IntN(len(classes))]
				if class == "security" && rng.IntN(3) > 0 {
					class = "default"
				}
				st := term.tag(class, e.Timestamp)
				st.Retention.Plan = []string{"", "free", "team\\\x00"}[rng.IntN(3)]
				st.Pending = rng.IntN(6) == 0
				st.Membership = []audit.Membership{audit.MembershipProven, audit.MembershipUnproven}[rng.IntN(2)]
				if rng.IntN(3) == 0 {
					st.OrganizationSlug, st.OrganizationID = "stamped", "id-of-stamped"
				}
				return st
			}
			days := map[int]int{} // of arrival, by number
			one := func() forwarder.Record {
				n := rng.IntN(400)
				arrived, ok := days[n]
				if !ok {
					arrived = max(0, day-rng.IntN(3)*rng.IntN(40))
					days[n] = arrived
				}
				e := entry(n, 1+rng.IntN(4))
				e.Timestamp = at(arrived) + int64(n)
				if rng.IntN(3) == 0 {
					e.OrganizationSlug = ""
				}
				e.DurationUS = rng.Int64N(1000)
				sequence++
				return record(t, e, sequence)
			}
			// As the forwarder stamps: by the terms as they are now, also on the entry.
			stamped := func(r forwarder.Record) forwarder.Record {
				r.Entry = decoded(t, r.JSON)
				r.Stamp = stamp(r.Entry)
				r.Stamp.On(r.Entry)
				return r
			}
			for i := range 90 {
				op := rng.IntN(12)
				switch op {
				case 0, 1, 2, 3, 4:
					var batch []forwarder.Record
					for range 1 + rng.IntN(12) {
						r := one()
						if len(sent) > 0 && rng.IntN(5) == 0 {
							r = sent[rng.IntN(len(sent))]
						}
						batch = append(batch, stamped(r))
					}
					write(t, s, batch)
					o.write(batch, at(day), number)
					sent = append(sent, batch...)
				case 5:
					var restamps []forwarder.Restamp
					for _, n := range slices.Sorted(maps.Keys(o.rows)) { // each seed is one world
						r := o.rows[n]
						if rng.IntN(10) > 0 {
							continue
						}
						st := stamp(r.record.Entry)
						st.Pending = false
						restamps = append(restamps, forwarder.Restamp{ID: r.record.Entry.ID, Timestamp: r.record.Entry.Timestamp, Stamp: *st})
						o.rows[n].put(st)
					}
					restamps = append(restamps, forwarder.Restamp{ID: "nobody", Timestamp: at(day), Stamp: *term.tag("default", at(day))})
					if err := s.Restamp(t.Context(), restamps); err != nil {
						t.Fatal(err)
					}
				case 6, 7:
					day += 1 + rng.IntN(15)
					clockAt(s, day)
				case 8:
					if class := classes[rng.IntN(len(classes))]; term[class] > 0 && rng.IntN(3) == 0 {
						term[class] += 30
					}
				case 9:
					h := forwarder.Hold{ID: fmt.Sprint(rng.IntN(4)), Reason: "a test", Since: time.UnixMicro(at(day)).UTC()}
					switch rng.IntN(4) {
					case 0:
						h.Organization = "stamped"
					case 1:
						h.Organization, h.From = "org-3", time.UnixMicro(at(max(0, day-50)))
					case 2:
						h.Actor = fmt.Sprintf("7b1c0000-0000-4000-8000-%012x", rng.IntN(400))
					case 3:
						h.From, h.To = time.UnixMicro(at(max(0, day-40))), time.UnixMicro(at(max(0, day-35)))
					}
					if err := s.SetHold(t.Context(), h); err != nil {
						t.Fatal(err)
					}
					o.holds[h.ID] = h
				case 10:
					id := fmt.Sprint(rng.IntN(4))
					if err := s.ReleaseHold(t.Context(), id); err != nil {
						t.Fatal(err)
					}
					delete(o.holds, id)
				case 11:
					p := pruneAll(t, s, term.expiry(day))
					var got int64
					for _, c := range p.Deleted {
						got += c.Entries
					}
					if deleted, extended := o.prune(at(day), term); got != deleted || p.Extended != extended {
						t.Errorf("deleted %d and extended %d, want %d and %d", got, p.Extended, deleted, extended)
					}
				}
				if op != 11 && i%8 != 0 {
					continue
				}
				for _, organization := range []string{"", "stamped", "org-3"} {
					if diff := cmp.Diff(o.documents(t, organization), documents(t, s, forwarder.Query{Organization: organization})); diff != "" {
						t.Fatalf("entries of %q (-want +got):\n%s", organization, diff)
					}
				}
				checkLost(t, s)
				checkTotals(t, s)
				if t.Failed() {
					t.FailNow()
				}
			}
		})
	}
}
