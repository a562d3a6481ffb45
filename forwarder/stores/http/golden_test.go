package httpstore

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

var update = flag.Bool("update", false, "write testdata/request.golden anew")

// TestARequestLooksAsDocumented compares what goes over the wire with the golden
// file, and that with docs/http.md.
func TestARequestLooksAsDocumented(t *testing.T) {
	var wire bytes.Buffer
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &wire)))
		if err == nil {
			_, err = io.Copy(io.Discard, req.Body)
		}
		if err == nil {
			_, err = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
		done <- err
	}()
	p := placeholders{"{env.AUDIT_TOKEN}": "TOKEN", "{file./run/secrets/webhook}": vectorSecret}
	s := open(t, Config{
		URL: "http://" + l.Addr().String() + "/ingest", Compress: httpclient.CompressNone, Resolve: p.resolve,
		Headers: []httpclient.Header{{Name: "Authorization", Value: "Bearer {env.AUDIT_TOKEN}"}},
		Secrets: []string{"{file./run/secrets/webhook}"},
	})
	s.client.Now = func() time.Time { return time.Unix(vectorTime, 0) }
	var batch []forwarder.Record
	for n := range 2 {
		r := record(t, 41+n, 20)
		e := &audit.Entry{
			ID: r.Entry.ID, Revision: 1 + n, Timestamp: r.Entry.Timestamp, Outcome: audit.OutcomeSuccess,
			Policy: r.Entry.Policy, Origin: r.Entry.Origin, SchemaVersion: audit.SchemaVersion,
		}
		if r.JSON, err = e.Encode(); err != nil {
			t.Fatal(err)
		}
		r.Entry = e
		batch = append(batch, r)
	}
	write(t, s, batch)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(wire.String(), "\r\n", "\n")
	got = strings.Replace(got, l.Addr().String(), "siem.example.com", 1) + "\n"

	golden := filepath.Join("testdata", "request.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant, or write it anew with -update:\n%s", got, want)
	}
	docs, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "http.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(docs, want) {
		t.Errorf("docs/http.md does not show the request:\n%s", want)
	}
}
