//go:build unix

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func timeOf(n int) time.Time { return time.UnixMicro(entry(n, 1).Timestamp) }

func TestEachQuerySelectsWhatItSays(t *testing.T) {
	s := newStore(t)
	all := records(t, 1, 1500) // more than a page
	for i, r := range all {
		if i%7 == 0 {
			r.Entry.Actor.OtherTokenHashes = []string{tokenHash(20000 + i%3)}
			all[i] = record(t, r.Entry, int(r.Sequence))
		}
	}
	for _, part := range [][]forwarder.Record{all[700:], all[:700]} {
		write(t, s, part)
	}
	e := entry(7, 1)
	trail := audit.Trail{Hashes: []string{e.Actor.TokenHash, tokenHash(20001), "nobody's"}, Session: entry(9, 1).Actor.SessionID}
	for name, q := range map[string]forwarder.Query{
		"all":                   {},
		"an organization":       {Organization: "org-3"},
		"nobody's":              {Organization: "nobody"},
		"a time":                {From: timeOf(100), To: timeOf(1200)},
		"a time of one":         {From: timeOf(100), To: timeOf(1200), Organization: "org-4"},
		"between microseconds":  {From: timeOf(100).Add(1), To: timeOf(102).Add(1)},
		"a session":             {Session: e.Actor.SessionID},
		"a user":                {User: e.Actor.UserID},
		"an address":            {IP: e.Actor.IP},
		"an address at a time":  {IP: e.Actor.IP, From: timeOf(400), To: timeOf(1100)},
		"a user's address":      {User: e.Actor.UserID, IP: e.Actor.IP},
		"an organization's":     {IP: e.Actor.IP, Organization: "org-7"},
		"a trail":               {Trail: trail},
		"a trail's session":     {Trail: audit.Trail{Session: e.Actor.SessionID}},
		"a trail at an address": {Trail: trail, IP: entry(1+7*2, 1).Actor.IP},
	} {
		var want []string
		for _, r := range all {
			if q.Matches(r.Entry) {
				want = append(want, string(r.JSON))
			}
		}
		for _, limit := range []int{0, 1, 3, 600, 5000} {
			q.Limit = limit
			for _, q.NewestFirst = range []bool{false, true} {
				want := slices.Clone(want)
				if q.NewestFirst {
					slices.Reverse(want)
				}
				if limit > 0 {
					want = want[:min(limit, len(want))]
				}
				got := documents(t, s, q)
				if len(want) == 0 && len(got) == 0 {
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, limit %d, newest first %v: %d entries, want %d", name, limit, q.NewestFirst, len(got), len(want))
				}
			}
		}
	}
}

func TestEntriesOfOneMomentComeInTheOrderOfTheirIDs(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for n := range 1300 {
		e := entry(n, 1)
		e.Timestamp, e.ID = epoch, fmt.Sprintf("id-%05d", n*7919%1300)
		e.Actor.IP = "192.0.2.1"
		batch = append(batch, record(t, e, n+1))
	}
	write(t, s, batch)
	slices.SortFunc(batch, func(a, b forwarder.Record) int { return strings.Compare(a.Entry.ID, b.Entry.ID) })
	for _, q := range []forwarder.Query{{}, {IP: "192.0.2.1"}} {
		if diff := cmp.Diff(texts(batch), documents(t, s, q)); diff != "" {
			t.Errorf("oldest first (-want +got):\n%s", diff)
		}
		q.NewestFirst = true
		if diff := cmp.Diff(reversed(texts(batch)), documents(t, s, q)); diff != "" {
			t.Errorf("newest first (-want +got):\n%s", diff)
		}
	}
}

func TestReadingShowsWhatWasStoredWhenItBegan(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 2000))
	for _, q := range []forwarder.Query{{}, {NewestFirst: true}, {From: timeOf(1)}} {
		n := 0
		for b, err := range s.Read(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if n == 10 {
				// Writing is not delayed; neither is the making of a partition.
				write(t, s, records(t, 2001, 2500))
				write(t, s, []forwarder.Record{record(t, entry(1500, 5), 3000)})
				run(t, s.conn, s.at.schema, `SET lock_timeout = '5s'; SELECT {schema}.prepare('{2024-05-01}'); RESET lock_timeout`)
			}
			if e, err := audit.Decode(b); err != nil || e.Revision != 1 {
				t.Errorf("entry %s has revision %d, %v", e.ID, e.Revision, err)
			}
			n++
		}
		if n != 2000 {
			t.Errorf("%d entries, want 2000", n)
		}
		run(t, s.conn, s.at.schema, `DELETE FROM {schema}.entry; DELETE FROM {schema}.received`)
		write(t, s, records(t, 1, 2000))
	}
}

func TestAReadHoldsNoLockBetweenPages(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 2000))
	for _, q := range []forwarder.Query{{}, {IP: entry(3, 1).Actor.IP}} {
		first := true
		for _, err := range s.Read(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if !first {
				continue
			}
			first = false
			locks := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
				JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_activity a ON a.pid = l.pid
				WHERE n.nspname = '{schema}' AND l.pid <> pg_backend_pid() AND a.backend_type = 'client backend'`)
			if locks != 0 {
				t.Errorf("%d locks are held", locks)
			}
		}
	}
}

func TestAReadThatIsGivenUpLeavesNothingBehind(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 2000))
	for range 3 * readConnections {
		for range s.Read(t.Context(), forwarder.Query{}) {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	n := 0
	for _, err := range s.Read(ctx, forwarder.Query{}) {
		if last = err; err != nil {
			break
		}
		if n++; n == 5 {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("after the context ended: %v after %d entries", last, n)
	}
	if got := len(documents(t, s, forwarder.Query{})); got != 2000 {
		t.Errorf("%d entries, want 2000", got)
	}
	if busy := s.pool.Stat().AcquiredConns(); busy != 0 {
		t.Errorf("%d connections are still in use", busy)
	}
}

func TestReadingLargeEntriesTakesLittleMemory(t *testing.T) {
	s := newStore(t)
	const size, total = 1 << 20, 32
	for n := 1; n <= total; n++ {
		e := entry(n, 1)
		e.Action.Metadata = map[string]any{"body": strings.Repeat("x", size)}
		write(t, s, []forwarder.Record{record(t, e, n)})
	}
	for _, q := range []forwarder.Query{{}, {NewestFirst: true, User: entry(1, 1).Actor.UserID}, {IP: entry(2, 1).Actor.IP}} {
		runtime.GC()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		highest := uint64(0)
		for b, err := range s.Read(t.Context(), q) {
			if err != nil || len(b) < size {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			runtime.GC()
			runtime.ReadMemStats(&now)
			highest = max(highest, now.HeapAlloc)
		}
		if used := int64(highest) - int64(before.HeapAlloc); used > 16*size {
			t.Errorf("reading took %d MiB", used>>20)
		}
	}
}

func TestNoArrivalIsRefused(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for i, at := range []int64{math.MinInt64, -1, 0, 1, epoch, time.Now().UnixMicro(), time.Now().AddDate(5, 0, 0).UnixMicro(), math.MaxInt64} {
		e := entry(i, 1)
		e.Timestamp = at
		batch = append(batch, record(t, e, i+1))
	}
	write(t, s, batch)
	if diff := cmp.Diff(texts(batch), documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	in := value[[]string](t, s.conn, s.at.schema, `SELECT array_agg(tableoid::regclass::text ORDER BY timestamp) FROM {schema}.entry`)
	other := s.at.schema + ".entry_default_other"
	current := s.at.schema + ".entry_default_" + time.Now().UTC().Format("2006_01")
	if diff := cmp.Diff([]string{other, other, other, other, s.at.schema + ".entry_default_2025_10", current, other, other}, in); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}
