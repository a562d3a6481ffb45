package caddymodule

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// closingStore notes what is written after, or while, it is closed.
type closingStore struct {
	pickyStore
	mu             sync.Mutex
	closed         bool
	after          int
	entered, leave chan struct{} // of a write of one entry, once armed
	armed          bool
}

func (s *closingStore) Open(context.Context, *slog.Logger) (forwarder.Store, error) { return s, nil }

func (s *closingStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *closingStore) Write(_ context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	armed := s.armed
	s.mu.Unlock()
	if armed {
		close(s.entered)
		<-s.leave
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.after++
	}
	return nil
}

// A configuration that is replaced closes its stores, and the next one opens them. A
// retry that an operator has ordered of the one before must not write behind that.
func TestARetryDoesNotWriteToAStoreThatAReloadHasClosed(t *testing.T) {
	b, err := buffer.Open(filepath.Join(t.TempDir(), "buffer"), buffer.Options{Gap: gapEntry, MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	payload, err := audit.Event(audit.EventProbe, time.Now(), nil).Encode()
	if err == nil {
		err = b.Append(payload)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Hold("s")
	sink := &closingStore{entered: make(chan struct{}), leave: make(chan struct{})}
	s := &shared{buf: b, leases: map[string]chan struct{}{}}
	ctx, stop := context.WithCancel(t.Context())
	d := startDelivery(ctx, s, &stores.Store{StoreConfig: new(stores.StoreConfig), Name: "s", Opener: sink}, retention{}, slog.New(slog.DiscardHandler), nil)
	await(t, "delivery", func() bool { return b.Position("s") == 1 })
	sink.mu.Lock()
	sink.armed = true
	sink.mu.Unlock()
	retried := make(chan error, 1)
	go func() { retried <- d.forwarder.Retry(context.Background(), b.Instance(1), 1, payload) }()
	<-sink.entered
	stop()
	select {
	case <-d.done: // its store is closed, and its lease free for the next configuration
		close(sink.leave)
	case <-time.After(2 * time.Second): // it waits for the retry, as it should
		close(sink.leave)
		<-d.done
	}
	<-retried
	sink.mu.Lock()
	sink.armed = false
	during := sink.after
	sink.mu.Unlock()
	err = d.forwarder.Retry(context.Background(), b.Instance(1), 1, payload)
	if during > 0 {
		t.Error("the store was closed while a retry wrote to it")
	}
	if sink.after > during || err == nil {
		t.Errorf("a retry after the end wrote to a closed store, and returned %v", err)
	}
}
