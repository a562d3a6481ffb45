package otlp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// record returns entry n of an instance, as the forwarder gives it to a store.
func record(t testing.TB, instance string, n int, change func(*audit.Entry)) forwarder.Record {
	t.Helper()
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: audit.RevisionAnswer, Timestamp: 1_760_000_000_000_000 + int64(n),
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Origin:        &audit.Origin{Instance: instance, Sequence: uint64(n)},
		SchemaVersion: audit.SchemaVersion,
	}
	if change != nil {
		change(e)
	}
	doc, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forwarder.Record{Sequence: uint64(n), Entry: e, JSON: doc}
}

func records(t testing.TB, first, last int) (batch []forwarder.Record) {
	t.Helper()
	for n := first; n <= last; n++ {
		batch = append(batch, record(t, testInstance, n, nil))
	}
	return batch
}

func config(url string) Config {
	return Config{HTTP: httpclient.Config{URL: url, Proxy: httpclient.ProxyNone}}
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
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

// decode reads a request as the specification has it.
func decode(h http.Header, body []byte) (*collogspb.ExportLogsServiceRequest, error) {
	if got := h.Get("Content-Type"); got != "application/x-protobuf" {
		return nil, fmt.Errorf("content type %q", got)
	}
	switch how := h.Get("Content-Encoding"); how {
	case "":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("content encoding %q", how)
	}
	m := new(collogspb.ExportLogsServiceRequest)
	return m, proto.Unmarshal(body, m)
}

// logs are the records of a request, as they stand in it.
func logs(m *collogspb.ExportLogsServiceRequest) (all []*logspb.LogRecord) {
	for _, r := range m.GetResourceLogs() {
		for _, s := range r.GetScopeLogs() {
			all = append(all, s.GetLogRecords()...)
		}
	}
	return all
}

func documents(m *collogspb.ExportLogsServiceRequest) (docs [][]byte) {
	for _, l := range logs(m) {
		if b, ok := l.GetBody().GetValue().(*commonpb.AnyValue_BytesValue); ok {
			docs = append(docs, b.BytesValue)
			continue
		}
		docs = append(docs, []byte(l.GetBody().GetStringValue()))
	}
	return docs
}

// statusOf is a google.rpc.Status.
func statusOf(code uint64, message string) []byte {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, code)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendString(b, message)
}

// response is what a receiver answers with that refuses a part.
func response(t testing.TB, rejected int64, message string) []byte {
	t.Helper()
	b, err := proto.Marshal(&collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{
		RejectedLogRecords: rejected, ErrorMessage: message,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// receiver takes every request, unless told otherwise.
type receiver struct {
	t    testing.TB
	mu   sync.Mutex
	all  []*collogspb.ExportLogsServiceRequest
	last *http.Request
	then http.HandlerFunc
}

func newReceiver(t testing.TB) (*receiver, string) {
	t.Helper()
	r := &receiver{t: t}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return r, srv.URL
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	m, err := decode(req.Header, b)
	if err != nil {
		r.t.Errorf("decoding a request: %v", err)
	}
	r.mu.Lock()
	r.all, r.last = append(r.all, m), req
	then := r.then
	r.mu.Unlock()
	if then != nil {
		then(w, req)
	}
}

func (r *receiver) answer(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.then = h
}

// answers has a status, a content type and a body.
func answers(status int, media string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		if media != "" {
			w.Header().Set("Content-Type", media)
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func (r *receiver) requests() []*collogspb.ExportLogsServiceRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*collogspb.ExportLogsServiceRequest(nil), r.all...)
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
	err := s.Write(context.Background(), records(t, 1, 3))
	if err == nil {
		t.Fatal("the batch was written")
	}
	return err
}

// outcome says in a word what came of a batch.
func outcome(err error) string {
	switch {
	case err == nil:
		return "taken"
	case clienttest.IsRefused(err):
		return "refused"
	}
	return "tried again"
}
