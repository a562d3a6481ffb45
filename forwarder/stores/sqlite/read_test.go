package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestQueriesSelectAndOrder(t *testing.T) {
	// More than two pages, many of one arrival, in shuffled insertion order.
	const total = 2*pageEntries + 100
	s := newStore(t)
	var batch []forwarder.Record
	for n := range total {
		e := entry(n, 1)
		e.Timestamp = epoch + int64(n/7)*10
		e.ID = fmt.Sprintf("%04d", n*7919%total)
		batch = append(batch, record(t, e, n+1))
	}
	for i := range 3 {
		var third []forwarder.Record
		for n := i; n < total; n += 3 {
			third = append(third, batch[n])
		}
		write(t, s, third)
	}
	slices.SortFunc(batch, func(a, b forwarder.Record) int {
		return cmp.Or(cmp.Compare(a.Entry.Timestamp, b.Entry.Timestamp), cmp.Compare(a.Entry.ID, b.Entry.ID))
	})
	at := func(us int64) time.Time { return time.UnixMicro(epoch + us) }
	for _, organization := range []string{"", "org-3", "nobody"} {
		for _, bounds := range [][2]time.Time{
			{},
			{at(100), {}},
			{{}, at(700)},
			{at(100), at(700)},
			{at(95), at(705)},
			{at(700), at(100)},
			{at(100).Add(1), at(700).Add(1)}, // nanoseconds
			{at(100).Add(-1), at(700).Add(-1)},
		} {
			for _, limit := range []int{0, 3, pageEntries, pageEntries + 1} {
				for _, newestFirst := range []bool{false, true} {
					q := forwarder.Query{Organization: organization, From: bounds[0], To: bounds[1], Limit: limit, NewestFirst: newestFirst}
					var want []string
					for _, r := range batch {
						arrival := time.UnixMicro(r.Entry.Timestamp)
						if (organization == "" || r.Entry.OrganizationSlug == organization) &&
							(q.From.IsZero() || !arrival.Before(q.From)) && (q.To.IsZero() || arrival.Before(q.To)) {
							want = append(want, string(r.JSON))
						}
					}
					if newestFirst {
						slices.Reverse(want)
					}
					if limit > 0 {
						want = want[:min(limit, len(want))]
					}
					got := documents(t, s, q)
					if !slices.Equal(want, got) {
						t.Errorf("%+v: %d entries, want %d", q, len(got), len(want))
					}
				}
			}
		}
	}
}

func TestEveryPageWalksAnIndex(t *testing.T) {
	s := newStore(t)
	now := time.Now()
	for _, organization := range []string{"", "org-3"} {
		for _, newestFirst := range []bool{false, true} {
			for _, begun := range []bool{false, true} {
				for _, bounds := range [][2]time.Time{{}, {now, {}}, {{}, now}, {now, now}} {
					q := forwarder.Query{Organization: organization, From: bounds[0], To: bounds[1], NewestFirst: newestFirst}
					w := walk{query: &q, begun: begun, sources: sourcesOf(&q, schemaVersion, nil)}
					index := "INDEX entry_by_time"
					if organization != "" {
						w.sources = sourcesOf(&q, schemaVersion, sourcesOfOwners([]audit.Owner{audit.OwnerByID("o-3"), audit.OwnerBySlug("org-3")}))
						index = "INDEX entry_by_owner (owner=?"
					}
					query, args := w.sql("timestamp, id, document, "+tagColumns, 10)
					plan := explain(t, s, query, args)
					if !strings.Contains(plan, index) || strings.Contains(plan, "TEMP B-TREE") {
						t.Errorf("%s\n%s", query, plan)
					}
					if begun && !strings.Contains(plan, "(timestamp,id)") {
						t.Errorf("a further page does not begin where the last ended: %s\n%s", query, plan)
					}
				}
			}
		}
	}
}

func explain(t *testing.T, s *Store, query string, args []any) string {
	t.Helper()
	rows, err := s.db.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	return strings.Join(plan, "\n")
}

func TestLargeDocumentsArePaged(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for n := range 40 {
		e := entry(n, 1)
		e.Actor.UserAgent = strings.Repeat("x", 100_000)
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	if diff := gocmp.Diff(numbers(1, 40), sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(reversed(numbers(4, 40)), sequences(t, s, forwarder.Query{NewestFirst: true, Limit: 37})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestReadingWhileWriting(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 2000))
	next := 2001
	seen := 0
	for b, err := range s.Read(t.Context(), forwarder.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 || b[0] != '{' || b[len(b)-1] != '}' {
			t.Fatalf("document %q", b)
		}
		if seen++; seen%100 == 0 {
			write(t, s, records(t, next, next+99)) // in the reader's own goroutine: it holds nothing
			next += 100
		}
	}
	if seen != 2000 {
		t.Errorf("%d entries, want the 2000 that were there", seen)
	}
}

func TestStalledReadersDelayNobody(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 3000))
	var stops []func()
	for range 3 * readConnections {
		next, stop := iter.Pull2(s.Read(t.Context(), forwarder.Query{}))
		defer stop()
		if _, err, ok := next(); !ok || err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	write(t, s, records(t, 3001, 3100))
	if n := len(documents(t, s, forwarder.Query{})); n != 3100 {
		t.Errorf("%d entries, want 3100", n)
	}
	// The log can be moved into the file and emptied, once the mover is not at it: nobody pins it.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var pinned, log, moved int
		err := s.db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&pinned, &log, &moved)
		if err == nil && pinned == 0 {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("checkpoint: busy %d, %v", pinned, err)
		}
	}
	for _, stop := range stops {
		stop()
	}
}

func TestStoppingAReadEarlyFreesItsConnection(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 10))
	for range 20 {
		for _, err := range s.Read(t.Context(), forwarder.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if n := s.Reader.db.Stats().InUse; n != 0 {
		t.Errorf("%d connections in use", n)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 2*pageEntries))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	var last error
	for _, err := range s.Read(ctx, forwarder.Query{}) {
		if err != nil {
			last = err
			continue // the error ends the sequence all the same
		}
		seen++
		cancel()
	}
	if !errors.Is(last, context.Canceled) || seen > pageEntries {
		t.Errorf("%d entries, then %v", seen, last)
	}
}

func TestAReadIsUsableAgain(t *testing.T) {
	s := newStore(t)
	read := s.Read(t.Context(), forwarder.Query{})
	for n := range 3 {
		write(t, s, records(t, n+1, n+1))
		seen := 0
		for _, err := range read {
			if err != nil {
				t.Fatal(err)
			}
			seen++
		}
		if seen != n+1 {
			t.Errorf("%d entries, want %d", seen, n+1)
		}
	}
}
