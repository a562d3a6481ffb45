package sqlite

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// BenchmarkWrite drains new entries of about 800 bytes in batches. The file
// grows during the benchmark and the indexes with it.
func BenchmarkWrite(b *testing.B) {
	b.Run("unstamped", func(b *testing.B) { benchmarkWrite(b, nil) })
	b.Run("stamped", func(b *testing.B) {
		keep := &audit.Keep{Default: audit.Days(400)}
		benchmarkWrite(b, func(e *audit.Entry) *audit.Stamp {
			return &audit.Stamp{Membership: audit.MembershipProven, Retention: keep.Retention(e, "team", false)}
		})
	})
}

func benchmarkWrite(b *testing.B, stamp func(*audit.Entry) *audit.Stamp) {
	for _, size := range []int{250, 1000, 5000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := newStore(b)
			s.now = func() time.Time { return time.UnixMicro(epoch) }
			n, bytes := 0, 0
			for b.Loop() {
				b.StopTimer()
				batch := records(b, n+1, n+size)
				for i := range batch {
					if stamp != nil {
						batch[i].Stamp = stamp(batch[i].Entry)
					}
				}
				n += size
				bytes += size * len(batch[0].JSON)
				b.StartTimer()
				write(b, s, batch)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
			b.ReportMetric(float64(bytes)/float64(n), "B/entry")
		})
	}
}

// hashes are a trail's: one token has made calls, its other spellings have not.
func hashes(n int) (all []string) {
	for i := range n {
		all = append(all, tokenHash(9972+i))
	}
	return all
}

// BenchmarkRead exports 100,000 entries, reads one page of an
// organization's newest, and searches.
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
		"a token's trail":   {Trail: audit.Trail{Hashes: hashes(64), Session: entry(7, 1).Actor.SessionID}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			entries := 0
			for b.Loop() {
				for _, err := range s.Read(b.Context(), q) {
					if err != nil {
						b.Fatal(err)
					}
					entries++
				}
			}
			b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkPrune writes 1,000 entries a second and reads the newest page, first alone and
// then while as many entries expire as SQLITE_BENCH_PRUNE says, such as 1000000. It shows
// the slowest of each. Without that it is skipped: it takes minutes.
func BenchmarkPrune(b *testing.B) {
	total, err := strconv.Atoi(os.Getenv("SQLITE_BENCH_PRUNE"))
	if err != nil {
		b.Skip("SQLITE_BENCH_PRUNE does not say how many entries to prune")
	}
	s := newStoreAt(b)
	const batch = 5000
	n := 0
	for n < total {
		write(b, s, stamped(b, n+1, n+batch, "short", 10))
		n += batch
	}
	// As many stay.
	for n < 2*total {
		write(b, s, stamped(b, n+1, n+batch, "long", 100))
		n += batch
	}
	const size, pause = 100, 100 * time.Millisecond
	round := func(name string, ended func() bool) {
		var writes, reads []time.Duration
		for !ended() {
			begun := time.Now()
			records := stamped(b, n+1, n+size, "long", 100)
			n += size
			at := time.Now()
			write(b, s, records)
			writes = append(writes, time.Since(at))
			at = time.Now()
			documents(b, s, forwarder.Query{NewestFirst: true, Limit: 50})
			reads = append(reads, time.Since(at))
			time.Sleep(pause - time.Since(begun))
		}
		for what, all := range map[string][]time.Duration{"write": writes, "read": reads} {
			slices.Sort(all)
			b.Logf("%s: %d %ss, median %v, 99%% %v, slowest %v", name, len(all), what, all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
		}
	}
	for b.Loop() {
		until := time.Now().Add(time.Minute)
		round("without pruning", func() bool { return time.Now().After(until) })
		var done atomic.Bool
		var running sync.WaitGroup
		running.Go(func() {
			defer done.Store(true)
			begun := time.Now()
			var deleted, steps int64
			var slowest time.Duration
			for more := true; more; steps++ {
				at := time.Now()
				p, err := s.Prune(context.Background(), inDays(20))
				if err != nil {
					b.Error(err)
					return
				}
				slowest = max(slowest, time.Since(at))
				time.Sleep(3 * time.Since(at)) // as forwarder.Keeping rests
				for _, d := range p.Deleted {
					deleted += d.Entries
				}
				more = p.More
			}
			b.Logf("%d entries in %d steps and %v, slowest step with its wait %v", deleted, steps, time.Since(begun).Round(time.Second), slowest)
		})
		round("while pruning", done.Load)
		running.Wait()
	}
}
