//go:build unix

package postgres

import (
	"context"
	"fmt"
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

				args := arguments(batch, time.Now().UnixMicro())
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

// BenchmarkWriteStamped writes stamped entries through the function of this version and the
// same without stamps through that of version 1, in turn. The ratio is that of the medians
// of their times.
func BenchmarkWriteStamped(b *testing.B) {
	for _, size := range []int{250, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, old := newStore(b), newStore(b)
			ctx := context.Background()
			run(b, old.conn, old.at.schema, `DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}`)
			sql, err := migration(1, old.at.schema)
			if err != nil {
				b.Fatal(err)
			}
			run(b, old.conn, old.at.schema, sql+`; SELECT {schema}.prepare('{2025-10-01}')`)
			var now, before []time.Duration
			for n := 0; b.Loop(); n += size {
				batch := records(b, n+1, n+size)
				for i := range batch {
					e := batch[i].Entry
					batch[i].Stamp = &audit.Stamp{
						OrganizationID: "b2f7c1a0-0000-4000-8000-000000000001", Membership: audit.MembershipProven,
						Retention: &audit.Retention{Class: defaultClass, Plan: "team", KeepUntil: audit.Days(4000).KeepMicros(e.Timestamp)},
					}
				}
				args := arguments(batch, time.Now().UnixMicro())
				if err := s.prepare(ctx, s.conn, partitionsOf(batch)); err != nil {
					b.Fatal(err)
				}
				do := []func(){
					func() {
						begin := time.Now()
						if _, err := s.conn.Exec(ctx, writeSQL(s.at.schema), args...); err != nil {
							b.Fatal(err)
						}
						now = append(now, time.Since(begin))
					},
					func() {
						begin := time.Now()
						_, err := old.conn.Exec(ctx, replaceSchema(`SELECT {schema}.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, old.at.schema),
							append(slices.Clone(args[:10]), args[20:23]...)...)
						if err != nil {
							b.Fatal(err)
						}
						before = append(before, time.Since(begin))
					},
				}
				first := n / size % 2
				do[first]()
				do[1-first]()
			}
			slices.Sort(now)
			slices.Sort(before)
			b.ReportMetric(now[len(now)/2].Seconds()/before[len(before)/2].Seconds(), "of-version-1")
			b.ReportMetric(now[len(now)/4].Seconds()/before[len(before)/4].Seconds(), "of-version-1-quartile")
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
