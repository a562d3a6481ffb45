package otlp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// BenchmarkWrite posts batches of full entries, in turn with a bare client that posts the
// very same bytes, which are then already encoded and compressed. The ratio is what the
// store takes for each time the client does.
func BenchmarkWrite(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) }))
	defer srv.Close()
	for _, size := range []int{1, 250, 1000} {
		for _, compress := range []string{httpclient.CompressNone, httpclient.CompressGzip} {
			b.Run(fmt.Sprint(size, " ", compress), func(b *testing.B) {
				c := config(srv.URL)
				c.Compress = compress
				s := open(b, c)
				var batch []forwarder.Record
				for n := range size {
					batch = append(batch, record(b, testInstance, n+1, full))
				}
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
					answer, err := client.Post(srv.URL, mediaProtobuf, bytes.NewReader(sent))
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, answer.Body)
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
