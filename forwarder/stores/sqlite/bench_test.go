package sqlite

import (
	"fmt"
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
	stretchesOf(b, 512)
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
	stretchesOf(b, 512)
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
