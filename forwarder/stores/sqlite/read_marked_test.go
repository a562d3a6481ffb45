package sqlite

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// trailQueries are searches of every kind.
func trailQueries() (all []forwarder.Query) {
	for _, q := range []forwarder.Query{
		{Trail: audit.Trail{Hashes: []string{"t1"}}},
		{Trail: audit.Trail{Hashes: []string{"t0", "t2", "nobody's"}}},
		{Trail: audit.Trail{Hashes: []string{"o1"}}},
		{Trail: audit.Trail{Session: "s1"}},
		{Trail: audit.Trail{Hashes: []string{"t1"}, Session: "s1"}},
		{Trail: audit.Trail{Hashes: []string{"t1"}, Session: "s1"}, Session: "s0"},
		{Trail: audit.Trail{Hashes: []string{"t1"}}, IP: "203.0.113.1", User: "u1"},
		{Session: "s2"},
		{User: "u3"},
		{IP: "203.0.113.1"},
		{IP: "203.0.113.1", User: "u0"},
		{User: "nobody"},
	} {
		for _, organization := range []string{"", "org-3"} {
			for _, bounds := range [][2]time.Time{{}, {time.UnixMicro(epoch + 100), time.UnixMicro(epoch + 700).Add(1)}} {
				for _, newestFirst := range []bool{false, true} {
					q.Organization, q.From, q.To, q.NewestFirst = organization, bounds[0], bounds[1], newestFirst
					all = append(all, q)
				}
			}
		}
	}
	return all
}

func TestATrailIsFoundWholeAndInOrder(t *testing.T) {
	s := newStore(t)
	const total = 5000 // more than a block
	var batch []forwarder.Record
	for n := range total {
		e := entry(n, 1)
		e.Timestamp = epoch + int64(n*7919%total)/7*10
		e.Actor.TokenHash, e.Actor.SessionID, e.Actor.UserID = fmt.Sprintf("t%d", n%5), fmt.Sprintf("s%d", n%3), fmt.Sprintf("u%d", n%4)
		e.Actor.IP = fmt.Sprintf("203.0.113.%d", n%3)
		if n%11 == 0 {
			e.Actor.OtherTokenHashes = []string{fmt.Sprintf("t%d", n%4), "o1"}
		}
		if n%7 == 0 || n > 500 && n < total-200 { // both ends of more than a block
			e.Actor = audit.Actor{TokenType: audit.TokenNone} // as the sidecar's own events
		}
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	slices.SortFunc(batch, func(a, b forwarder.Record) int {
		return strings.Compare(fmt.Sprint(a.Entry.Timestamp, a.Entry.ID), fmt.Sprint(b.Entry.Timestamp, b.Entry.ID))
	})
	some := 0
	for _, q := range trailQueries() {
		var want []string
		for _, r := range batch {
			if q.Matches(r.Entry) {
				want = append(want, string(r.JSON))
			}
		}
		some += len(want)
		if q.NewestFirst {
			slices.Reverse(want)
		}
		for _, limit := range []int{0, 2} {
			if q.Limit = limit; limit > 0 {
				want = want[:min(limit, len(want))]
			}
			if got := documents(t, s, q); !slices.Equal(want, got) {
				t.Errorf("%+v: %d entries, want %d", q, len(got), len(want))
			}
		}
	}
	if some < 1000 {
		t.Errorf("the queries select only %d entries", some)
	}
}

func TestASearchLooksIntoEachBlockByItsIndex(t *testing.T) {
	s := newStore(t)
	for _, q := range trailQueries() {
		query, args := markedSQL(&q, schemaVersion)
		plan := explain(t, s, query, args)
		for _, by := range markedBy(&q) {
			want := "SEARCH entry USING INDEX entry_by_" + by.column + " (<expr>=? AND " + by.column + "=?)"
			if !strings.Contains(plan, want) {
				t.Errorf("%s\nlacks %q:\n%s", query, want, plan)
			}
		}
		// The blocks are numbers, and their bounds are found at the table's ends.
		for line := range strings.Lines(plan) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "SCAN") && strings.Contains(line, "entry") {
				t.Errorf("%s\n%s", query, plan)
			}
		}
	}
}

// Nobody can make two texts with one mark, so the test puts one there.
func TestAMarkThatTwoTokensShareShowsOnlyTheOne(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 20))
	if _, err := s.db.Exec(`UPDATE entry SET token = ?`, mark(tokenHash(3))); err != nil {
		t.Fatal(err)
	}
	q := forwarder.Query{Trail: audit.Trail{Hashes: []string{tokenHash(3)}}, Limit: 5}
	if got := sequences(t, s, q); !slices.Equal(got, []int{3}) {
		t.Errorf("entries %v, want 3 alone", got)
	}
}

func TestASearchFindsTheHighestRevisionAndNotWhatIsGone(t *testing.T) {
	s := newStore(t)
	first := record(t, entry(1, audit.RevisionPending), 1)
	second := record(t, entry(1, audit.RevisionAnswer), 2)
	write(t, s, []forwarder.Record{first, second})
	q := forwarder.Query{User: first.Entry.Actor.UserID}
	if got := sequences(t, s, q); !slices.Equal(got, []int{2}) {
		t.Errorf("entries %v, want 2", got)
	}
	for b, err := range s.Read(t.Context(), q) {
		if err != nil || len(b) == 0 {
			t.Fatal(err)
		}
		break
	}
	write(t, s, records(t, 2, 5))
	if _, err := s.db.Exec(`DELETE FROM entry WHERE key < 3`); err != nil {
		t.Fatal(err)
	}
	if got := sequences(t, s, q); len(got) > 0 {
		t.Errorf("entries %v, want none", got)
	}
	if got := sequences(t, s, forwarder.Query{IP: entry(4, 1).Actor.IP}); !slices.Equal(got, []int{4}) {
		t.Errorf("entries %v, want 4", got)
	}
}
