package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/otelcol"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// otlpStore is a real Collector without a queue, in front of a receiver of this
// program's own that keeps what arrives. Its outage is that the Collector is killed.
type otlpStore struct {
	collector *otelcol.Collector
	srv       *http.Server

	mu sync.Mutex
	// messages are those that arrived, as they did, each with its length before it.
	messages *os.File
}

// newOTLP starts both, with their files in dir.
func newOTLP(dir string) (s *otlpStore, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s = &otlpStore{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.messages, err = os.Create(filepath.Join(dir, "messages")); err != nil {
		return s, fmt.Errorf("making the receiver's file: %w", err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ports.Host, "0"))
	if err != nil {
		return s, fmt.Errorf("listening as the receiver: %w", err)
	}
	s.srv = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func(srv *http.Server) { _ = srv.Serve(l) }(s.srv) // returns when it is closed
	s.collector, err = otelcol.Start(context.Background(), dir, "http://"+l.Addr().String(), otelcol.QueueNone)
	return s, err
}

func (*otlpStore) name() string { return otlpKind }
func (*otlpStore) kind() string { return otlpKind }
func (*otlpStore) once() bool   { return false }

func (s *otlpStore) block() string {
	return "store otlp " + s.collector.Endpoint + " {\n\ttimeout 5s\n}"
}

func (s *otlpStore) down(context.Context) error { return s.collector.Kill() }
func (s *otlpStore) up(context.Context) error   { return s.collector.Up() }

func (s *otlpStore) close() (err error) {
	if s.collector != nil {
		err = s.collector.Close()
	}
	if s.srv != nil {
		err = errors.Join(err, s.srv.Close())
	}
	if s.messages != nil {
		err = errors.Join(err, s.messages.Close())
	}
	return err
}

// ServeHTTP takes a message, whole or not at all.
func (s *otlpStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var from io.Reader = http.MaxBytesReader(w, r.Body, maxReceived)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(from)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
			return
		}
		from = z
	}
	body, err := io.ReadAll(io.LimitReader(from, maxReceived))
	if err != nil {
		http.Error(w, "the body did not arrive", http.StatusServiceUnavailable)
		return
	}
	m := new(collogspb.ExportLogsServiceRequest)
	if err := proto.Unmarshal(body, m); err != nil || r.URL.Path != "/v1/logs" {
		http.Error(w, "this is no OTLP", http.StatusUnsupportedMediaType)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var line bytes.Buffer
	if _, err = protodelim.MarshalTo(&line, m); err == nil {
		_, err = s.messages.Write(line.Bytes())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// each reads what has arrived, record by record.
func (s *otlpStore) each(visit func(from *logspb.ResourceLogs, record *logspb.LogRecord) error) error {
	s.mu.Lock()
	name := s.messages.Name()
	s.mu.Unlock()
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		m := new(collogspb.ExportLogsServiceRequest)
		if err := (protodelim.UnmarshalOptions{MaxSize: -1}).UnmarshalFrom(r, m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading what the receiver has: %w", err)
		}
		for _, from := range m.GetResourceLogs() {
			for _, scope := range from.GetScopeLogs() {
				for _, record := range scope.GetLogRecords() {
					if err := visit(from, record); err != nil {
						return err
					}
				}
			}
		}
	}
}

func (s *otlpStore) arrivals(context.Context) ([]rig.Entry, error) {
	return decode(func(yield func([]byte) error) error {
		return s.each(func(_ *logspb.ResourceLogs, record *logspb.LogRecord) error {
			return yield([]byte(record.GetBody().GetStringValue()))
		})
	})
}

// otlpBatch is what the build's batches grow to for this store.
const otlpBatch = 1000

// rewrite posts the same records once more, by a client that has its requests ready, to a
// Collector of its own in front of a receiver of its own.
func (s *otlpStore) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	var requests [][]byte
	var pending *collogspb.ExportLogsServiceRequest
	var records *logspb.ScopeLogs
	flush := func() error {
		if pending == nil {
			return nil
		}
		body, err := proto.Marshal(pending)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		requests, pending = append(requests, out.Bytes()), nil
		return nil
	}
	err = s.each(func(from *logspb.ResourceLogs, record *logspb.LogRecord) error {
		if pending == nil {
			records = &logspb.ScopeLogs{Scope: from.GetScopeLogs()[0].GetScope(), SchemaUrl: from.GetSchemaUrl()}
			pending = &collogspb.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
				Resource: from.GetResource(), SchemaUrl: from.GetSchemaUrl(), ScopeLogs: []*logspb.ScopeLogs{records},
			}}}
		}
		records.LogRecords = append(records.LogRecords, record)
		n++
		if len(records.GetLogRecords()) >= min(size, otlpBatch) {
			return flush()
		}
		return nil
	})
	if err := errors.Join(err, flush()); err != nil {
		return 0, 0, err
	}
	second, err := newOTLP(filepath.Join(filepath.Dir(s.messages.Name()), "bare"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, second.close()) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	began := time.Now()
	for _, body := range requests {
		if err := second.post(ctx, client, body); err != nil {
			return 0, 0, err
		}
	}
	return n, time.Since(began), nil
}

// post sends one request that is ready.
func (s *otlpStore) post(ctx context.Context, client *http.Client, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.collector.Endpoint+"/v1/logs", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "gzip")
	return exchange(client, r)
}
