//go:build unix

package postgres

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// BenchmarkWrite writes the same new entries through a store, through the bare client by
// the same function, and by COPY into an equal table that knows no repeats: in turn, so
// that a busy machine is as busy for each. The ratios are of the store's time to theirs.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{250, 1000, 5000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, bare, copied := newStore(b), newStore(b), newStore(b)
			ctx := context.Background()
			var inStore, inBare, inCopy time.Duration
			n, bytes := 0, 0
			for b.Loop() {
				batch := records(b, n+1, n+size)
				n += size
				for _, r := range batch {
					bytes += len(r.JSON)
				}
				begin := time.Now()
				write(b, s, batch)
				inStore += time.Since(begin)

				args := allArguments(batch, time.Now().UnixMicro())
				if err := bare.prepare(ctx, bare.conn, partitionsOf(batch)); err != nil {
					b.Fatal(err)
				}
				begin = time.Now()
				if _, err := bare.conn.Exec(ctx, writeSQL(bare.at.schema), args...); err != nil {
					b.Fatal(err)
				}
				inBare += time.Since(begin)

				if err := copied.prepare(ctx, copied.conn, partitionsOf(batch)); err != nil {
					b.Fatal(err)
				}
				begin = time.Now()
				if err := copyBatch(ctx, copied, batch); err != nil {
					b.Fatal(err)
				}
				inCopy += time.Since(begin)
			}
			b.ReportMetric(float64(n)/inStore.Seconds(), "entries/s")
			b.ReportMetric(inStore.Seconds()/inBare.Seconds(), "of-bare")
			b.ReportMetric(inStore.Seconds()/inCopy.Seconds(), "of-copy")
			b.ReportMetric(float64(bytes)/float64(n), "B/document")
			size := value[int64](b, s.conn, s.at.schema, `SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('{schema}.entry')`)
			b.ReportMetric(float64(size)/float64(n), "B/entry")
		})
	}
}

// BenchmarkWriteStamped writes stamped entries through the function of this version, and
// through those of versions 2 and 1 (there without stamps) into tables of those versions, in
// turn. The ratios are those of the medians of their times.
func BenchmarkWriteStamped(b *testing.B) {
	for _, size := range []int{250, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, ctx := newStore(b), context.Background()
			older := func(version int, prepare string) *Store {
				old := newStore(b)
				run(b, old.conn, old.at.schema, `DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}`)
				for v := 1; v <= version; v++ {
					sql, err := migration(v, old.at.schema)
					if err != nil {
						b.Fatal(err)
					}
					run(b, old.conn, old.at.schema, sql)
				}
				run(b, old.conn, old.at.schema, prepare)
				return old
			}
			first := older(1, `SELECT {schema}.prepare('{2025-10-01}')`)
			second := older(2, `SELECT {schema}.prepare_class('default', '{2025-10-01}')`)
			times := make([][]time.Duration, 3)
			rng := rand.New(rand.NewPCG(1, 2))
			timed := func(i int, s *Store, sql string, args []any) {
				begin := time.Now()
				if _, err := s.conn.Exec(ctx, sql, args...); err != nil {
					b.Fatal(err)
				}
				times[i] = append(times[i], time.Since(begin))
			}
			for n := 0; b.Loop(); n += size {
				// A thousand organizations, of which the biggest has a tenth of the entries.
				batch := make([]forwarder.Record, size)
				for i := range batch {
					e, organization := entry(n+i+1, audit.RevisionAnswer), int(1000*math.Pow(rng.Float64(), 3))
					e.OrganizationSlug = fmt.Sprintf("organization-%d", organization)
					batch[i] = record(b, e, n+i+1)
					batch[i].Stamp = &audit.Stamp{
						OrganizationID: fmt.Sprintf("b2f7c1a0-0000-4000-8000-%012d", organization), Membership: audit.MembershipProven,
						Retention: &audit.Retention{Class: defaultClass, Plan: "team", KeepUntil: audit.Days(4000).KeepMicros(e.Timestamp)},
					}
				}
				args := allArguments(batch, time.Now().UnixMicro())
				if err := s.prepare(ctx, s.conn, partitionsOf(batch)); err != nil {
					b.Fatal(err)
				}
				for i := range 3 {
					switch (i + n/size) % 3 {
					case 0:
						timed(0, s, writeSQL(s.at.schema), args)
					case 1:
						timed(1, second, call(second.at.schema, "write_stamped", 24), args[:24])
					case 2:
						timed(2, first, call(first.at.schema, "write", 13), append(slices.Clone(args[:10]), args[20:23]...))
					}
				}
			}
			for i := range times {
				slices.Sort(times[i])
			}
			for i, unit := range []string{"of-version-2", "of-version-1"} {
				now, before := times[0], times[i+1]
				b.ReportMetric(now[len(now)/2].Seconds()/before[len(before)/2].Seconds(), unit)
				b.ReportMetric(now[len(now)/4].Seconds()/before[len(before)/4].Seconds(), unit+"-quartile")
			}
		})
	}
}

func copyBatch(ctx context.Context, s *Store, batch []forwarder.Record) error {
	columns := []string{"timestamp", "revision", "sequence", "id", "instance", "organization_slug", "project_ref", "marks", "document"}
	_, err := s.conn.CopyFrom(ctx, pgx.Identifier{s.at.schema, "entry"}, columns, pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
		e := batch[i].Entry
		return []any{
			e.Timestamp, int64(e.Revision), int64(e.Origin.Sequence), e.ID, e.Origin.Instance, unknown(e.OrganizationSlug), unknown(e.ProjectRef),
			[]int64{mark(markToken, e.Actor.TokenHash), mark(markSession, e.Actor.SessionID), mark(markUser, e.Actor.UserID), mark(markIP, e.Actor.IP)},
			string(batch[i].JSON),
		}, nil
	}))
	return err
}

// BenchmarkRead exports 100,000 entries, reads one page of an organization's newest, and
// searches.
func BenchmarkRead(b *testing.B) {
	s := newStore(b)
	const total = 100_000
	for n := 0; n < total; n += 5000 {
		write(b, s, records(b, n+1, n+5000))
	}
	for name, q := range map[string]forwarder.Query{
		"everything":        {},
		"newest 50 of one":  {Organization: "org-3", NewestFirst: true, Limit: 50},
		"newest 50 of all":  {NewestFirst: true, Limit: 50},
		"all of a stranger": {Organization: "nobody"},
		"a session":         {Session: entry(7, 1).Actor.SessionID},
		"an address":        {IP: entry(7, 1).Actor.IP},
	} {
		b.Run(name, func(b *testing.B) {
			entries := 0
			for b.Loop() {
				entries += len(documents(b, s, q))
			}
			b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
