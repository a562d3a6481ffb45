package httpstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// record returns entry n at revision 1, as the forwarder gives it to a store.
func record(t testing.TB, n int, size int) forwarder.Record {
	t.Helper()
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: audit.RevisionAnswer, Timestamp: 1_760_000_000_000_000 + int64(n),
		Action: audit.Action{
			Code: "v1-update-function", Method: "PATCH", Route: "/v1/projects/{ref}", Host: "api.example.com",
			Path: "/v1/projects/" + strings.Repeat("x", size), Status: 200, StatusSource: audit.StatusWritten,
		},
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Origin:        &audit.Origin{Instance: testInstance, Sequence: uint64(n)},
		SchemaVersion: audit.SchemaVersion,
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forwarder.Record{Sequence: uint64(n), Entry: e, JSON: b}
}

func records(t testing.TB, first, last int) (batch []forwarder.Record) {
	t.Helper()
	for n := first; n <= last; n++ {
		batch = append(batch, record(t, n, 200))
	}
	return batch
}

// placeholders resolves those of a test.
type placeholders map[string]string

func (p placeholders) resolve(name string) (string, error) {
	if value, ok := p[name]; ok {
		return value, nil
	}
	return "", fmt.Errorf("reading %s: nobody has set it", name)
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
	if c.Proxy == "" {
		c.Proxy = httpclient.ProxyNone
	}
	s, err := Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

// received is a request as it arrived.
type received struct {
	*http.Request
	body []byte // as it was sent
}

// plain decompresses the body.
func (r received) plain(t testing.TB) []byte {
	t.Helper()
	var from io.Reader = bytes.NewReader(r.body)
	var err error
	switch how := r.Header.Get("Content-Encoding"); how {
	case "":
	case "gzip":
		from, err = gzip.NewReader(from)
	case "zstd":
		// What RFC 9659 lets a receiver have.
		from, err = zstd.NewReader(from, zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderConcurrency(1))
	default:
		t.Fatalf("content encoding %q", how)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// receiver is an endpoint that takes every request, unless told otherwise.
type receiver struct {
	mu   sync.Mutex
	all  []received
	then http.HandlerFunc
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.all = append(r.all, received{req, b})
	then := r.then
	r.mu.Unlock()
	if then != nil {
		then(w, req)
	}
}

// answer sets what comes of the requests from now on.
func (r *receiver) answer(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.then = h
}

func (r *receiver) requests() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.all...)
}

func (r *receiver) last(t testing.TB) received {
	t.Helper()
	all := r.requests()
	if len(all) == 0 {
		t.Fatal("no request arrived")
	}
	return all[len(all)-1]
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func newReceiver(t testing.TB) (*receiver, string) {
	t.Helper()
	r := new(receiver)
	return r, serve(t, r)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func write(t testing.TB, s *Store, batch []forwarder.Record) {
	t.Helper()
	if err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// fails writes a batch that must come to nothing.
func fails(t testing.TB, s *Store) error {
	t.Helper()
	err := s.Write(t.Context(), records(t, 1, 3))
	if err == nil {
		t.Fatal("the batch was written")
	}
	return err
}

// array takes a JSON array apart.
func array(t testing.TB, b []byte) []string {
	t.Helper()
	var all []json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, raw := range all {
		texts = append(texts, string(raw))
	}
	return texts
}

func documents(batch []forwarder.Record) (all []string) {
	for _, r := range batch {
		all = append(all, string(r.JSON))
	}
	return all
}
