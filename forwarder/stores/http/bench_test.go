package httpstore

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// BenchmarkWrite posts batches of entries of about 700 bytes, in turn with a bare client
// that posts the very same bytes, which are then already compressed. The ratio is what
// the store takes for each time the client does.
func BenchmarkWrite(b *testing.B) {
	url := serve(b, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) }))
	p := placeholders{"{env.A}": secretOf("a")}
	for _, size := range []int{1, 250, 1000} {
		for _, compress := range []string{httpclient.CompressNone, httpclient.CompressGzip, httpclient.CompressZstd} {
			b.Run(fmt.Sprint(size, " ", compress), func(b *testing.B) {
				s := open(b, Config{URL: url, Compress: compress, Secrets: []string{"{env.A}"}, Resolve: p.resolve})
				batch := records(b, 1, size)
				write(b, s, batch)
				sent := bytes.Clone(s.body.Sent)
				client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
				defer client.CloseIdleConnections()
				var ours, theirs time.Duration
				for b.Loop() {
					start := time.Now()
					write(b, s, batch)
					ours += time.Since(start)
					start = time.Now()
					answer, err := client.Post(url, "application/json", bytes.NewReader(sent))
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
					theirs += time.Since(start)
				}
				b.ReportMetric(float64(ours)/float64(theirs), "ratio")
				b.ReportMetric(float64(b.N*size)/ours.Seconds(), "entries/s")
				b.ReportMetric(float64(len(sent))/float64(size), "B/entry")
			})
		}
	}
}
