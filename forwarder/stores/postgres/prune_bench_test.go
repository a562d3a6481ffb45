//go:build unix

package postgres

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// BenchmarkPrune deletes as many rows as AUDIT_PRUNE_ROWS says, 1000000 for instance,
// while 1,000 entries are written each second and the newest page is read, and tells the
// slowest write and read without and with that. Run it once: -benchtime 1x.
func BenchmarkPrune(b *testing.B) {
	rows, err := strconv.Atoi(os.Getenv("AUDIT_PRUNE_ROWS"))
	if err != nil {
		b.Skip("set AUDIT_PRUNE_ROWS to how many rows are to be deleted")
	}
	for b.Loop() {
		s := newStore(b)
		clockAt(s, 0)
		term := terms{"default": 30}
		days(b, s, 1, 1000, 0, term.tag("default", at(0)))
		// The others are copies, over ten days.
		run(b, s.conn, s.at.schema, `INSERT INTO {schema}.entry (timestamp, revision, sequence, class, id, instance, organization_slug, project_ref, marks, document, keep_until, size)
			SELECT timestamp + n * 864000000::bigint, revision, sequence + n * 1000, class, id || n, instance, organization_slug, project_ref, marks, document, keep_until + (n * 864000000::bigint / 86400000000) * 86400000000, size
			FROM {schema}.entry, generate_series(1, `+strconv.Itoa(rows/1000-1)+`) AS n; ANALYZE {schema}.entry`)
		// One is kept, so that its month is not dropped.
		run(b, s.conn, s.at.schema, `UPDATE {schema}.entry SET keep_until = 9223372036854775807 WHERE id = (SELECT id FROM {schema}.entry LIMIT 1)`)

		run(b, s.conn, s.at.schema, `CHECKPOINT`)

		ctx, stop := context.WithCancel(b.Context())
		var all sync.WaitGroup
		var mu sync.Mutex
		var slowestWrite, slowestRead time.Duration
		var writes, reads, slowWrites, slowReads int
		note := func(slowest *time.Duration, count, slow *int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			*slowest = max(*slowest, took)
			if *count++; took > 50*time.Millisecond {
				*slow++
			}
		}
		all.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for n := rows * 2; ; n += 100 {
				var batch []forwarder.Record
				for i := range 100 {
					e := entry(n+i, 1)
					e.Timestamp = time.Now().UnixMicro() + int64(i)
					r := record(b, e, n+i)
					r.Stamp = &audit.Stamp{Retention: &audit.Retention{Class: "default"}}
					batch = append(batch, r)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				begin := time.Now()
				write(b, s, batch)
				note(&slowestWrite, &writes, &slowWrites, time.Since(begin))
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				documents(b, s, forwarder.Query{NewestFirst: true, Limit: 50})
				note(&slowestRead, &reads, &slowReads, time.Since(begin))
				time.Sleep(50 * time.Millisecond)
			}
		})
		tell := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			b.Logf("%s: slowest of %d writes %v, %d above 50ms; slowest of %d reads %v, %d above 50ms", what, writes, slowestWrite, slowWrites, reads, slowestRead, slowReads)
			b.ReportMetric(slowestWrite.Seconds()*1000, what+"-write-ms")
			b.ReportMetric(slowestRead.Seconds()*1000, what+"-read-ms")
			slowestWrite, slowestRead, writes, reads, slowWrites, slowReads = 0, 0, 0, 0, 0, 0
		}
		time.Sleep(time.Second)
		mu.Lock()
		slowestWrite, slowestRead, writes, reads, slowWrites, slowReads = 0, 0, 0, 0, 0, 0
		mu.Unlock()
		time.Sleep(20 * time.Second)
		tell("without")

		begin, steps, deleted := time.Now(), 0, int64(0)
		var slowest time.Duration
		for more := true; more; steps++ {
			one := time.Now()
			p, err := s.Prune(ctx, term.expiry(80))
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range p.Deleted {
				deleted += c.Entries
			}
			took := time.Since(one)
			slowest = max(slowest, took)
			time.Sleep(3 * took) // as forwarder.Keeping does
			more = p.More
		}
		took := time.Since(begin)
		tell("with")
		time.Sleep(20 * time.Second)
		tell("after")
		stop()
		all.Wait()
		b.Logf("deleted %d in %v: %d steps, the slowest %v", deleted, took, steps, slowest)
		b.ReportMetric(float64(deleted)/took.Seconds(), "deleted/s")
	}
}
