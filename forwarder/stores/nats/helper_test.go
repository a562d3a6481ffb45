package natsstore

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

const (
	testInstance  = "0198c0de-0000-7000-8000-000000000001"
	otherInstance = "0198c0de-0000-7000-8000-000000000002"
)

// natsServer is a real server in this process, with JetStream in a directory of the
// test. It is stopped when the test ends.
type natsServer struct {
	t       testing.TB
	options natsd.Options

	mu      sync.Mutex
	running *natsd.Server
}

// serve starts a server. Set may change its options.
func serve(t testing.TB, set func(*natsd.Options)) *natsServer {
	t.Helper()
	free, err := ports.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	s := &natsServer{t: t, options: natsd.Options{
		Host: ports.Host, Port: free[0], NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), MaxPayload: 8 << 20,
		DisableJetStreamBanner: true,
	}}
	if set != nil {
		set(&s.options)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start() {
	s.t.Helper()
	options := s.options // it changes its own
	running, err := natsd.NewServer(&options)
	if err != nil {
		s.t.Fatal(err)
	}
	running.Start()
	if !running.ReadyForConnections(20 * time.Second) {
		s.t.Fatal("the server does not come up")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = running
}

func (s *natsServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.Shutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

func (s *natsServer) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.options.Port) }
func (s *natsServer) url() string  { return "nats://" + s.addr() }

// client is a connection beside the store's, and what it speaks JetStream by.
func (s *natsServer) client(o ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	s.t.Helper()
	o = append(o, nats.Timeout(20*time.Second))
	if s.options.Username != "" {
		o = append(o, nats.UserInfo(s.options.Username, s.options.Password))
	}
	nc, err := nats.Connect(s.url(), o...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	return nc, js
}

// stored is a message of a stream.
type stored struct {
	stream, subject string
	header          nats.Header
	data            []byte
}

// messages are those of all streams: the streams in the order in which they were made,
// and each one's as they arrived. Between streams there is no order.
func messages(js jetstream.JetStream) (all []stored, err error) {
	ctx, cancel := contextOf(20 * time.Second)
	defer cancel()
	list := js.ListStreams(ctx)
	infos := slices.SortedFunc(chanSeq(list.Info()), func(a, b *jetstream.StreamInfo) int { return a.Created.Compare(b.Created) })
	if err := list.Err(); err != nil {
		return nil, err
	}
	for _, info := range infos {
		name, left := info.Config.Name, info.State.Msgs
		if left == 0 {
			continue
		}
		consumer, err := js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{})
		if err != nil {
			return nil, err
		}
		for last := uint64(0); left > 0; {
			batch, err := consumer.Fetch(int(min(left, 2000)), jetstream.FetchMaxWait(10*time.Second))
			if err != nil {
				return nil, err
			}
			for m := range batch.Messages() {
				meta, err := m.Metadata()
				if err != nil {
					return nil, err
				}
				if meta.Sequence.Stream <= last {
					continue
				}
				last = meta.Sequence.Stream
				all = append(all, stored{name, m.Subject(), m.Headers(), bytes.Clone(m.Data())})
				left--
			}
			if ctx.Err() != nil {
				return nil, errors.Join(fmt.Errorf("%d messages of %s do not come", left, name), batch.Error())
			}
			if batch.Error() != nil { // a cluster that does not yet know the consumer
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	return all, nil
}

func chanSeq[T any](c <-chan T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for v := range c {
			if !yield(v) {
				return
			}
		}
	}
}

// got is messages for a test that wants them.
func (s *natsServer) got() []stored {
	s.t.Helper()
	nc, js := s.client()
	defer nc.Close()
	all, err := messages(js)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// record returns entry n at a revision, as the forwarder gives it to a store.
func record(t testing.TB, n, revision, size int) forwarder.Record {
	t.Helper()
	return recordOf(t, n, revision, size, nil)
}

func recordOf(t testing.TB, n, revision, size int, change func(*audit.Entry)) forwarder.Record {
	t.Helper()
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: revision, Timestamp: 1_760_000_000_000_000 + int64(n),
		Action: audit.Action{
			Code: "v1-update-function", Method: "PATCH", Route: "/v1/projects/{ref}", Host: "api.example.com",
			Path: "/v1/projects/" + strings.Repeat("x", size), Status: 200, StatusSource: audit.StatusWritten,
		},
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Origin:        &audit.Origin{Instance: testInstance, Sequence: uint64(n)},
		SchemaVersion: audit.SchemaVersion,
	}
	if change != nil {
		change(e)
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
		batch = append(batch, record(t, n, audit.RevisionAnswer, 200))
	}
	return batch
}

// config is that of a store of one server.
func (s *natsServer) config() Config {
	return Config{Servers: []string{s.url()}, Replicas: 1, Timeout: 5 * time.Second}
}

func open(t testing.TB, c Config, log *slog.Logger) *Store {
	t.Helper()
	s, err := Open(t.Context(), c, log)
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

func write(t testing.TB, s *Store, batch []forwarder.Record) {
	t.Helper()
	if err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// deliver writes until it succeeds.
func deliver(t testing.TB, s *Store, batch []forwarder.Record) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := s.Write(t.Context(), batch)
		if err == nil {
			return
		}
		if isRefused(err) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func isRefused(err error) bool {
	var refused *forwarder.RefusedError
	return errors.As(err, &refused)
}

func mentions(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not mention %q: %v", part, err)
		}
	}
}

// placeholders resolves those of a test.
type placeholders map[string]string

func (p placeholders) resolve(name string) (string, error) {
	if value, ok := p[name]; ok {
		return value, nil
	}
	return "", fmt.Errorf("reading %s: nobody has set it", name)
}

// textLog is a log that a test reads.
type textLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *textLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *textLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
