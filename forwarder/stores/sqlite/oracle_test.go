package sqlite

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// kept is what the oracle knows of an entry.
type kept struct {
	record   forwarder.Record // of its highest revision
	captured *audit.Entry     // and what was captured of it
	stamp    *audit.Stamp
	marked   bool // a step of pruning has found a hold that keeps it
	counted  bool // and nothing has come to it since, nor a step after that hold's end
}

// entry is what a hold is asked about.
func (k *kept) entry() *audit.Entry {
	e := *k.captured
	if k.stamp != nil {
		k.stamp.On(&e)
	}
	return &e
}

func (k *kept) keep() int64 {
	if k.stamp == nil || k.stamp.Retention == nil {
		return 0
	}
	return k.stamp.Retention.KeepMicros()
}

func (k *kept) class() string {
	if k.keep() == 0 {
		return ""
	}
	return k.stamp.Retention.Class
}

func (k *kept) pending() bool { return k.stamp != nil && k.stamp.Pending }

// oracle is the contract in maps.
type oracle struct {
	now      time.Time
	terms    map[string]int // of the classes, in days; zero is for ever
	entries  map[string]*kept
	received map[int]bool
	gone     map[int]bool
	receipts map[string]*forwarder.Receipt // by day and class
	holds    map[string]forwarder.Hold
}

func (o *oracle) held(e *audit.Entry) bool {
	for _, h := range o.holds {
		if h.Selects(e) {
			return true
		}
	}
	return false
}

func (o *oracle) until(class string, arrival int64) int64 {
	days, ok := o.terms[class]
	switch {
	case !ok:
		return 0
	case days == 0:
		return audit.ForeverMicros
	}
	return audit.Days(days).KeepMicros(arrival)
}

func (o *oracle) rule(class string) string { return fmt.Sprint(o.terms[class]) }

func (o *oracle) receipt(k *kept, keep int64, rule string, late bool) {
	key := fmt.Sprint(o.now.UTC().Format(time.DateOnly), " ", k.class())
	at, n, arrival := o.now.UnixMicro(), k.record.Sequence, k.captured.Timestamp
	g := o.receipts[key]
	if g == nil {
		g = &forwarder.Receipt{Class: k.class(), Instance: testInstance, First: n, Last: n, FirstArrival: arrival, LastArrival: arrival, KeptUntil: keep, From: at, To: at}
		o.receipts[key] = g
	}
	if rule != "" {
		g.Rule = rule
	}
	g.First, g.Last = min(g.First, n), max(g.Last, n)
	g.FirstArrival, g.LastArrival = min(g.FirstArrival, arrival), max(g.LastArrival, arrival)
	g.KeptUntil, g.To = max(g.KeptUntil, keep), max(g.To, at)
	g.Entries++
	if late {
		g.Late++
	}
	o.gone[int(n)] = true
}

func (o *oracle) isCovered(k *kept) bool {
	for _, g := range o.receipts {
		if g.Class == k.class() && g.FirstArrival <= k.captured.Timestamp && k.captured.Timestamp <= g.LastArrival && k.keep() <= g.KeptUntil {
			return true
		}
	}
	return false
}

func (o *oracle) write(n *kept) {
	e, sequence := n.captured, int(n.record.Sequence)
	o.received[sequence] = true
	there := o.entries[e.ID]
	if there == nil {
		ended := n.keep() != 0 && n.keep() <= o.now.UnixMicro()
		if !n.pending() && (ended || o.isCovered(n)) && !o.held(n.entry()) {
			if !o.gone[sequence] {
				o.receipt(n, n.keep(), "", true)
			}
			return
		}
		o.entries[e.ID] = n
		return
	}
	higher := e.Revision > there.captured.Revision
	switch {
	case higher:
		o.gone[int(there.record.Sequence)] = true
		there.record, there.captured, there.marked, there.counted = n.record, n.captured, false, false
		if s := there.stamp; s != nil && (differ(s.OrganizationSlug, e.OrganizationSlug) || differ(s.OrganizationID, e.OrganizationID)) {
			s.OrganizationID, s.OrganizationSlug = "", ""
		}
		if s := there.stamp; s != nil && e.OrganizationSlug != "" {
			s.OrganizationSlug = ""
		}
	case n.record.Sequence != there.record.Sequence:
		o.gone[sequence] = true
	}
	if n.stamp == nil {
		return
	}
	pending := there.pending()
	if higher || pending || there.stamp == nil {
		pending = n.pending()
	}
	there.add(n.stamp, pending)
}

// differ reports whether both are known and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

func (k *kept) add(s *audit.Stamp, pending bool) {
	k.marked, k.counted = false, false
	if k.stamp == nil {
		k.stamp = new(audit.Stamp)
	}
	if r := s.Retention; r != nil && (k.keep() == 0 || r.KeepMicros() >= k.keep()) {
		copied := *r
		k.stamp.Retention = &copied
	}
	if s.Membership != "" && k.stamp.Membership != audit.MembershipProven {
		k.stamp.Membership = s.Membership
	}
	k.stamp.Pending = pending
	known := k.entry()
	if differ(known.OrganizationID, s.OrganizationID) || differ(known.OrganizationSlug, s.OrganizationSlug) {
		return
	}
	if known.OrganizationID == "" {
		k.stamp.OrganizationID = s.OrganizationID
	}
	if known.OrganizationSlug == "" {
		k.stamp.OrganizationSlug = s.OrganizationSlug
	}
}

func (o *oracle) prune() (deleted, extended, held int64) {
	for id, k := range o.entries {
		now := o.now.UnixMicro()
		k.counted = k.marked
		if k.keep() == 0 || k.keep() > now || k.pending() || k.marked {
			continue
		}
		until := max(k.keep(), o.until(k.class(), k.captured.Timestamp))
		switch {
		case until > now:
			extended++
			k.stamp.Retention.KeepUntil = until
			if until == audit.ForeverMicros {
				k.stamp.Retention.KeepUntil = 0
			}
		case o.held(k.entry()):
			held++
			k.marked, k.counted = true, true
		default:
			deleted++
			o.receipt(k, until, o.rule(k.class()), false)
			delete(o.entries, id)
		}
	}
	return deleted, extended, held
}

// unmark is what the end of a hold does.
func (o *oracle) unmark() {
	for _, k := range o.entries {
		k.marked = false
	}
}

func (o *oracle) sorted() []*kept {
	var all []*kept
	for _, k := range o.entries {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *kept) int {
		return cmp.Or(cmp.Compare(a.captured.Timestamp, b.captured.Timestamp), cmp.Compare(a.captured.ID, b.captured.ID))
	})
	return all
}

// check compares everything that the store says with the oracle.
func (o *oracle) check(t *testing.T, s *Store) {
	t.Helper()
	var want, pending []string
	classes, expiring := map[string]*forwarder.ClassTotal{}, map[string]*forwarder.ClassTotal{}
	horizon := o.now.AddDate(0, 0, 10)
	count := func(in map[string]*forwarder.ClassTotal, k *kept, held bool) {
		c := in[k.class()]
		if c == nil {
			c = &forwarder.ClassTotal{Class: k.class()}
			in[k.class()] = c
		}
		c.Entries++
		c.Bytes += int64(len(k.record.JSON))
		if k.pending() {
			c.Pending++
		}
		if held {
			c.Held++
		}
	}
	for _, k := range o.sorted() {
		doc := slices.Clone(k.record.JSON)
		if k.stamp != nil {
			stamp := *k.stamp
			if stamp.Retention != nil {
				r := *stamp.Retention
				r.Hold = o.held(k.entry())
				stamp.Retention = &r
			}
			var err error
			if doc, err = stamp.AppendTo(doc); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, string(doc))
		if k.pending() || k.keep() == 0 {
			pending = append(pending, k.captured.ID)
		}
		count(classes, k, k.counted)
		if k.keep() != 0 && k.keep() < horizon.UnixMicro() {
			count(expiring, k, o.held(k.entry()))
		}
	}
	compare := func(what string, want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	compare("documents", want, documents(t, s, forwarder.Query{}), nil)
	for _, slug := range []string{"org-0", "org-1", "org-2"} {
		var of []string
		for i, k := range o.sorted() {
			if k.entry().OrganizationSlug == slug {
				of = append(of, want[i])
			}
		}
		compare("documents of "+slug, of, documents(t, s, forwarder.Query{Organization: slug}), nil)
	}
	got, err := s.Classes(t.Context())
	compare("classes", sorted(classes), got, err)
	got, err = s.Expiring(t.Context(), horizon)
	compare("expiring", sorted(expiring), got, err)
	lost, err := s.Lost(t.Context())
	compare("lost", []forwarder.Range(nil), lost, err)
	var asked []string
	for r, err := range s.Pending(t.Context(), true) {
		if err != nil {
			t.Fatal(err)
		}
		k := o.entries[r.Entry.ID]
		if k == nil || !bytes.Equal(k.record.JSON, r.JSON) {
			t.Errorf("pending entry %s is not what it was", r.Entry.ID)
			continue
		}
		stamp := k.stamp
		if stamp != nil && k.keep() == 0 && *stamp == (audit.Stamp{}) {
			stamp = nil
		}
		compare("stamp of a pending entry", stamp, r.Stamp, nil)
		asked = append(asked, r.Entry.ID)
	}
	slices.Sort(asked)
	slices.Sort(pending)
	compare("pending", pending, asked, nil)
	var receipts []forwarder.Receipt
	for g, err := range s.Receipts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, g)
	}
	if !slices.IsSortedFunc(receipts, func(a, b forwarder.Receipt) int { return cmp.Compare(b.From/microsPerDay, a.From/microsPerDay) }) {
		t.Error("receipts are not newest first")
	}
	if len(receipts) != len(o.receipts) {
		t.Errorf("%d receipts, want %d", len(receipts), len(o.receipts))
	}
	for _, g := range receipts {
		key := fmt.Sprint(time.UnixMicro(g.From).UTC().Format(time.DateOnly), " ", g.Class)
		if o.receipts[key] == nil {
			t.Errorf("receipt %+v is not expected", g)
			continue
		}
		compare("receipt of "+key, *o.receipts[key], g, nil)
	}
	for n := range o.received {
		if !o.gone[n] {
			continue
		}
		if ok := goneHas(t, s, n); !ok {
			t.Errorf("sequence %d is not gone", n)
		}
	}
	checkBooks(t, s)
}

func goneHas(t *testing.T, s *Store, n int) (ok bool) {
	t.Helper()
	if err := s.Reader.db.QueryRow(`SELECT count(*) FROM gone WHERE ? BETWEEN first AND last`, n).Scan(&ok); err != nil {
		t.Fatal(err)
	}
	return ok
}

// checkBooks compares the tables that are kept beside the rows with the rows.
func checkBooks(t *testing.T, s *Store) {
	t.Helper()
	for what, query := range map[string]string{
		"totals": `SELECT count(*) FROM (SELECT ifnull(class, '') AS class, count(*), sum(octet_length(document)), count(held), count(pending) FROM entry GROUP BY 1
			EXCEPT SELECT class, entries, bytes, held, pending FROM class_total)`,
		"more totals": `SELECT count(*) FROM class_total WHERE entries <> 0 AND class NOT IN (SELECT ifnull(class, '') FROM entry)`,
		"expiring": `SELECT count(*) FROM entry WHERE pending IS NULL AND held IS NULL AND keep_until < 9223372036854775807
			AND (keep_until, key >> 8) NOT IN (SELECT keep_until, block FROM expiring)`,
		"pending":       `SELECT count(*) FROM (SELECT timestamp, key FROM entry WHERE pending IS NOT NULL EXCEPT SELECT timestamp, key FROM pending)`,
		"more pending":  `SELECT count(*) FROM (SELECT timestamp, key FROM pending EXCEPT SELECT timestamp, key FROM entry WHERE pending IS NOT NULL)`,
		"held":          `SELECT count(*) FROM (SELECT held, key FROM entry WHERE held IS NOT NULL EXCEPT SELECT mark, key FROM held)`,
		"more held":     `SELECT count(*) FROM (SELECT mark, key FROM held EXCEPT SELECT held, key FROM entry WHERE held IS NOT NULL)`,
		"other tokens":  `SELECT count(*) FROM other_token WHERE key NOT IN (SELECT key FROM entry)`,
		"held, pending": `SELECT count(*) FROM entry WHERE held IS NOT NULL AND pending IS NOT NULL`,
		"named": `SELECT count(*) FROM entry WHERE organization_slug IS NOT NULL AND owner IS NOT 'slug:' || organization_slug
			AND (organization_slug, owner) NOT IN (SELECT slug, owner FROM named)`,
		"receipt bounds": `SELECT count(*) FROM (SELECT class, max(last_arrival), max(kept_until) FROM receipt GROUP BY 1
			EXCEPT SELECT class, deleted_arrival, deleted_until FROM class_total)`,
	} {
		var n int
		if err := s.Reader.db.QueryRow(query).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d rows differ, %v", what, n, err)
		}
	}
	checkColumns(t, s)
}

// pruneAll takes steps until there is nothing to do, and returns what they did.
func pruneAll(t testing.TB, s *Store, e forwarder.Expiry) (sum forwarder.Pruned) {
	t.Helper()
	totals := map[string]*forwarder.ClassTotal{}
	for {
		p, err := s.Prune(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		sum.Extended += p.Extended
		sum.Held += p.Held
		for _, d := range p.Deleted {
			if totals[d.Class] == nil {
				totals[d.Class] = new(forwarder.ClassTotal)
			}
			totals[d.Class].Entries += d.Entries
			totals[d.Class].Bytes += d.Bytes
		}
		if !p.More {
			sum.Deleted = sorted(totals)
			return sum
		}
	}
}

// draw makes a record of one of a few entries, as the forwarder gives it to a Keeper.
func (o *oracle) draw(t *testing.T, rng *rand.Rand, begin time.Time) *kept {
	const ids, revisions = 40, 5
	n, revision := rng.IntN(ids), rng.IntN(revisions)
	e := entry(n, revision+audit.RevisionPending)
	e.Timestamp = begin.UnixMicro() + int64(n)*microsPerDay/3
	e.OrganizationSlug, e.ProjectRef = "", ""
	if n%3 == 0 || n%3 == 1 && revision > 2 {
		e.OrganizationSlug = fmt.Sprintf("org-%d", n%2)
	}
	if n%4 == 0 {
		e.OrganizationID = fmt.Sprintf("id-%d", n%2)
	}
	e.Actor.UserID = fmt.Sprintf("user-%d", n%4)
	if n%5 == 0 {
		e.Actor.OtherTokenHashes = []string{tokenHash(n), tokenHash(revision)}
	}
	k := &kept{record: record(t, e, 1+n*revisions+revision), captured: e}
	if rng.IntN(8) > 0 {
		k.stamp = o.drawStamp(rng, e)
	}
	stamped := *e
	if k.stamp != nil {
		given := *k.stamp // the oracle changes its own
		given.On(&stamped)
		k.record.Stamp = &given
	}
	k.record.Entry = &stamped
	return k
}

func (o *oracle) drawStamp(rng *rand.Rand, e *audit.Entry) *audit.Stamp {
	s := &audit.Stamp{Pending: rng.IntN(5) == 0, Membership: []audit.Membership{"", audit.MembershipProven, audit.MembershipUnproven}[rng.IntN(3)]}
	class := []string{"short", "long", "other", "forever"}[rng.IntN(4)]
	r := &audit.Retention{Class: class, Plan: []string{"", "free", "team"}[rng.IntN(3)]}
	if until := o.until(class, e.Timestamp); until != audit.ForeverMicros {
		r.KeepUntil = until
	}
	s.Retention = r
	if rng.IntN(2) == 0 {
		which := rng.IntN(3)
		if e.OrganizationID == "" && rng.IntN(2) == 0 {
			s.OrganizationID = fmt.Sprintf("id-%d", which)
		}
		if e.OrganizationSlug == "" && rng.IntN(2) == 0 {
			s.OrganizationSlug = fmt.Sprintf("org-%d", which)
		}
	}
	return s
}

func (o *oracle) drawHold(rng *rand.Rand, begin time.Time) forwarder.Hold {
	h := forwarder.Hold{ID: fmt.Sprintf("hold-%d", rng.IntN(3)), Reason: "a dispute", Since: o.now.UTC()}
	switch rng.IntN(4) {
	case 0:
		h.Organization = fmt.Sprintf("org-%d", rng.IntN(3))
	case 1:
		h.Organization = fmt.Sprintf("id-%d", rng.IntN(3))
	case 2:
		h.Actor = fmt.Sprintf("user-%d", rng.IntN(4))
	default:
		h.From = begin.AddDate(0, 0, rng.IntN(10))
		h.To = h.From.AddDate(0, 0, 1+rng.IntN(5))
	}
	return h
}

func TestWhatIsKeptIsWhatTheContractSays(t *testing.T) {
	begin := time.UnixMicro(epoch).UTC()
	var deleted, extended, held int64
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 3))
		path := filepath.Join(t.TempDir(), "audit.db")
		o := &oracle{
			now: begin, terms: map[string]int{"short": 3, "long": 12, "other": 12, "forever": 0}, entries: map[string]*kept{},
			received: map[int]bool{}, gone: map[int]bool{}, receipts: map[string]*forwarder.Receipt{}, holds: map[string]forwarder.Hold{},
		}
		open := func() *Store {
			s, err := Open(t.Context(), Config{Path: path, Now: func() time.Time { return o.now }}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		for round := range 100 {
			pruned := false
			switch rng.IntN(12) {
			case 0:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open()
			case 1: // set, or replaced
				h := o.drawHold(rng, begin)
				if _, ok := o.holds[h.ID]; ok {
					o.unmark()
				}
				o.holds[h.ID] = h
				if err := s.SetHold(t.Context(), h); err != nil {
					t.Fatal(err)
				}
			case 2, 3:
				id := fmt.Sprintf("hold-%d", rng.IntN(3))
				if _, ok := o.holds[id]; ok {
					o.unmark()
				}
				delete(o.holds, id)
				if err := s.ReleaseHold(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			case 4, 5:
				var stamps []forwarder.Restamp
				for range 1 + rng.IntN(5) {
					k := o.draw(t, rng, begin)
					stamp := o.drawStamp(rng, k.captured)
					stamps = append(stamps, forwarder.Restamp{ID: k.captured.ID, Timestamp: k.captured.Timestamp, Stamp: *stamp})
					if there := o.entries[k.captured.ID]; there != nil {
						there.add(stamp, stamp.Pending)
					}
				}
				if err := s.Restamp(t.Context(), stamps); err != nil {
					t.Fatal(err)
				}
			case 6: // a term is raised
				if class := []string{"short", "long", "other"}[rng.IntN(3)]; rng.IntN(3) == 0 && o.terms[class] < 20 {
					o.terms[class] += rng.IntN(3)
				}
			case 7, 8:
				pruned = true
				o.now = o.now.Add(time.Duration(rng.IntN(80)) * time.Hour)
				p := pruneAll(t, s, forwarder.Expiry{Now: o.now, Until: o.until, Rule: o.rule, Step: time.Duration(rng.IntN(3)) * time.Millisecond})
				d, e, h := o.prune()
				var n int64
				for _, c := range p.Deleted {
					n += c.Entries
				}
				if n != d || p.Extended != e || p.Held != h {
					t.Errorf("deleted %d, extended %d, held %d; want %d, %d, %d", n, p.Extended, p.Held, d, e, h)
				}
				deleted, extended, held = deleted+d, extended+e, held+h
			default:
				var batch []forwarder.Record
				for range rng.IntN(8) {
					k := o.draw(t, rng, begin)
					batch = append(batch, k.record)
					o.write(k)
				}
				write(t, s, batch)
			}
			if round%3 == 0 {
				summarizeNow(t, s)
			}
			if round%4 > 0 && !pruned {
				continue // it takes longer than what it checks
			}
			if o.check(t, s); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if deleted < 5 || extended < 1 || held < 3 {
		t.Errorf("%d deleted, %d extended, %d held: some of it was hardly tried", deleted, extended, held)
	}
}
