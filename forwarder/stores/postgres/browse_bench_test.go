//go:build unix

package postgres

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var browsedEntries = flag.Int("browsed-entries", 100_000, "how many entries BenchmarkBrowse reads pages of")

// browsedTime is how long the entries of BenchmarkBrowse take to arrive: 13 months.
const browsedTime = 395 * 24 * time.Hour

// platformEntry is entry n of a thousand organizations, of which the biggest has a tenth of
// all, with 5 projects, up to 40 users and 200 targets each.
func platformEntry(rng *rand.Rand, n, total int) (*audit.Entry, *audit.Stamp) {
	skewed := func(n int) int { return int(float64(n) * math.Pow(rng.Float64(), 3)) }
	organization := skewed(1000)
	e := entry(n, audit.RevisionAnswer)
	e.Timestamp = epoch + int64(n)*int64(browsedTime/time.Microsecond)/int64(total)
	e.OrganizationSlug, e.ProjectRef = fmt.Sprintf("organization-%d", organization), fmt.Sprintf("project%d-%d", organization, skewed(5))
	user := skewed(40)
	e.Actor.UserID, e.Actor.Email = fmt.Sprintf("7b1c0000-0000-4000-8000-%06d%06d", organization, user), fmt.Sprintf("user-%d@organization-%d.example", user, organization)
	e.Actor.IP = fmt.Sprintf("10.%d.%d.%d", organization%250, organization/250, user)
	e.Actor.TokenType = []audit.TokenType{"jwt", "v0", "oauth", "app"}[skewed(4)]
	e.Action.Code, e.Action.Method = fmt.Sprintf("v1-operation-%d", skewed(150)), []string{"GET", "POST", "PATCH", "DELETE", "PUT"}[skewed(5)]
	e.Action.Status = []int{200, 201, 404, 403, 500}[skewed(5)]
	e.Outcome = audit.OutcomeOf(e.Action.Status)
	e.Target = &audit.Target{Type: []string{"project", "edge_function", "secret", "branch"}[skewed(4)], ID: fmt.Sprintf("target-%d-%d", organization, skewed(200))}
	s := &audit.Stamp{
		OrganizationID: fmt.Sprintf("b2f7c1a0-0000-4000-8000-%012d", organization), Membership: audit.MembershipProven,
		Retention: &audit.Retention{Class: defaultClass, Plan: "team", KeepUntil: audit.Days(4000).KeepMicros(e.Timestamp)},
	}
	if n%20 == 0 {
		s.Membership = audit.MembershipUnproven
	}
	if n%10 == 0 {
		s.Retention.Class = "security"
	}
	if n%50 == 0 { // a heartbeat
		at := e.Timestamp
		e = audit.Event(audit.EventHeartbeat, time.UnixMicro(at), map[string]any{"last_sequence": n})
		s = &audit.Stamp{Retention: s.Retention}
	}
	return e, s
}

// BenchmarkBrowse reads the first pages of 50 that a reader of one organization's asks
// for, the Briefs of a month and of all, and the signs of life; the organization is that of
// an entry by chance, and so is the value that is filtered by. It gives the median and the
// 99th percentile.
//
//	go test -run NONE -bench Browse -benchtime 500x -timeout 60m ./forwarder/stores/postgres -browsed-entries 1000000
func BenchmarkBrowse(b *testing.B) {
	s, rng, total := newStore(b), rand.New(rand.NewPCG(7, 7)), *browsedEntries
	var drawn []*audit.Entry
	const size = 2500
	for n := 0; n < total; n += size {
		batch := make([]forwarder.Record, size)
		for i := range batch {
			e, stamp := platformEntry(rng, n+i+1, total)
			batch[i] = record(b, e, n+i+1)
			batch[i].Stamp = stamp
			stamp.On(e)
			if !e.IsEvent() && rng.IntN(total/1000+1) == 0 {
				drawn = append(drawn, e)
			}
		}
		write(b, s, batch)
	}
	run(b, s.conn, s.at.schema, `VACUUM (ANALYZE) {schema}.entry`)
	owners := func(e *audit.Entry) []audit.Owner {
		return []audit.Owner{audit.OwnerByID(e.OrganizationID), audit.OwnerBySlug(e.OrganizationSlug)}
	}
	page := func(b *testing.B, q forwarder.Query) (n int) {
		for _, err := range s.Read(context.Background(), q) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		return n
	}
	briefs := func(b *testing.B, q forwarder.Query) (n int) {
		for _, err := range s.Briefs(context.Background(), q) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		return n
	}
	measure := func(name string, f func(b *testing.B, e *audit.Entry) int) {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			found := 0
			for b.Loop() {
				e := drawn[rng.IntN(len(drawn))]
				begin := time.Now()
				found += f(b, e)
				times = append(times, time.Since(begin))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(found)/float64(len(times)), "found")
		})
	}
	type query = func(e *audit.Entry) forwarder.Query
	first := func(name string, of query) {
		measure(name, func(b *testing.B, e *audit.Entry) int {
			q := of(e)
			q.NewestFirst, q.Limit = true, 50
			if !q.Events && q.Organization == "" {
				q.Owners = owners(e)
			}
			return page(b, q)
		})
	}
	filtered := func(name string, of func(e *audit.Entry) forwarder.Filters) {
		first(name, func(e *audit.Entry) forwarder.Query { return forwarder.Query{Filters: of(e), AsMember: true} })
	}
	first("newest", func(*audit.Entry) forwarder.Query { return forwarder.Query{} })
	first("the-page-behind", func(e *audit.Entry) forwarder.Query {
		return forwarder.Query{After: forwarder.Place{Timestamp: e.Timestamp, ID: e.ID}}
	})
	first("slug", func(e *audit.Entry) forwarder.Query { return forwarder.Query{Organization: e.OrganizationSlug} })
	filtered("actor", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Actors: []string{e.Actor.UserID}} })
	filtered("email", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Actors: []string{e.Actor.Email}} })
	filtered("project", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Projects: []string{e.ProjectRef}} })
	filtered("action", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Actions: []string{e.Action.Code}} })
	filtered("method", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Methods: []string{"PUT"}} })
	filtered("token-type", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{TokenTypes: []string{"app"}} })
	filtered("outcome", func(e *audit.Entry) forwarder.Filters {
		return forwarder.Filters{Outcomes: []string{string(audit.OutcomeDenied)}}
	})
	filtered("target", func(e *audit.Entry) forwarder.Filters {
		return forwarder.Filters{Targets: []string{e.Target.Type + "/" + e.Target.ID}}
	})
	filtered("status", func(e *audit.Entry) forwarder.Filters {
		return forwarder.Filters{Statuses: []forwarder.StatusRange{{First: 500, Last: 599}}}
	})
	filtered("network", func(e *audit.Entry) forwarder.Filters {
		return forwarder.Filters{Networks: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(e.Actor.IP), 30)}}
	})
	filtered("nothing", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Actors: []string{"nobody"}} })
	filtered("text", func(e *audit.Entry) forwarder.Filters { return forwarder.Filters{Text: e.Action.Path} })
	first("events", func(*audit.Entry) forwarder.Query { return forwarder.Query{Events: true} })
	measure("briefs-of-a-month", func(b *testing.B, e *audit.Entry) int {
		to := time.UnixMicro(e.Timestamp)
		return briefs(b, forwarder.Query{Owners: owners(e), From: to.Add(-30 * 24 * time.Hour), To: to})
	})
	measure("briefs", func(b *testing.B, e *audit.Entry) int { return briefs(b, forwarder.Query{Owners: owners(e)}) })
	measure("beats", func(b *testing.B, _ *audit.Entry) int {
		beats, err := s.Beats(context.Background())
		if err != nil || len(beats) == 0 {
			b.Fatal(beats, err)
		}
		return len(beats)
	})
	b.Run("size", func(b *testing.B) {
		for b.Loop() {
			continue
		}
		b.ReportMetric(float64(value[int64](b, s.conn, s.at.schema, `SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('{schema}.entry')`))/float64(total), "B/entry")
		b.ReportMetric(float64(value[int64](b, s.conn, s.at.schema, `SELECT sum(pg_relation_size(relid))::bigint FROM pg_partition_tree('{schema}.entry_by_owner')`))/float64(total), "B/entry-by-owner")
	})
}

// BenchmarkMigrate brings a filled schema of version 2 to this one, and says how large it is
// before and after.
//
//	go test -run NONE -bench Migrate -benchtime 1x -timeout 60m ./forwarder/stores/postgres -browsed-entries 1000000
func BenchmarkMigrate(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		server, rng, total := sharedServer(b), rand.New(rand.NewPCG(7, 7)), *browsedEntries
		old := newOlder(b, server, 2)
		var months []time.Time
		for at := time.UnixMicro(epoch).UTC(); len(months) < 14; at = at.AddDate(0, 1, 0) {
			months = append(months, time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC))
		}
		for _, class := range []string{defaultClass, "security"} {
			if _, err := old.conn.Exec(b.Context(), replaceSchema(`SELECT {schema}.prepare_class($1, $2)`, old.schema), class, months); err != nil {
				b.Fatal(err)
			}
		}
		const size = 2500
		for n := 0; n < total; n += size {
			batch := make([]forwarder.Record, size)
			for i := range batch {
				e, stamp := platformEntry(rng, n+i+1, total)
				batch[i] = record(b, e, n+i+1)
				batch[i].Stamp = stamp
				stamp.On(e)
			}
			old.write(b, batch)
		}
		bytes := func() float64 {
			return float64(value[int64](b, old.conn, old.schema, `SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('{schema}.entry')`)) / float64(total)
		}
		run(b, old.conn, old.schema, `VACUUM (ANALYZE) {schema}.entry`)
		b.ReportMetric(bytes(), "B/entry-before")
		wal := value[string](b, old.conn, old.schema, `SELECT pg_current_wal_insert_lsn()::text`)
		b.StartTimer()
		openStore(b, configAt(server, old.schema))
		b.StopTimer()
		b.ReportMetric(bytes(), "B/entry-after")
		b.ReportMetric(value[float64](b, old.conn, old.schema, fmt.Sprintf(`SELECT (pg_current_wal_insert_lsn() - '%s'::pg_lsn)::float8`, wal))/float64(total), "B/entry-log")
		b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(total), "s/million")
		b.StartTimer()
	}
}
