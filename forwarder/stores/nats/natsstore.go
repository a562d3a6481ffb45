// Package natsstore is the audit store in NATS JetStream: each entry is a message,
// published to the stream of its retention class, and written when the stream has
// acknowledged it.
//
// Its delivery is at least once: within its duplicate window a stream keeps a repeat of
// (id, revision) out, and afterwards a repeat shows, with the same id and revision in
// its headers.
package natsstore

import (
	"context"
	"log/slog"
	"sync"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Store publishes entries. It is a forwarder.Store, with delivery at_least_once, and a
// forwarder.Witness.
//
// What Write has returned nil for was acknowledged by the stream that it belongs to. A
// stream with several replicas does so when most of them have it; whether they have
// synced it to their disks by then is a setting of the servers, sync_interval.
type Store struct {
	c           Config
	servers     []server
	description forwarder.Description
	log         *slog.Logger
	known       secrets

	// stop ends a Write that is under way when Close is called.
	stop   context.CancelFunc
	closed context.Context

	// mu lets Close wait for that, and guards what is below.
	mu   sync.Mutex
	link *link
	// streams are by class those that were looked at.
	streams map[string]*stream
	// highest are by instance the highest sequences that were acknowledged. One that
	// is not there was not asked for yet.
	highest map[string]uint64
}

var (
	_ forwarder.Store   = (*Store)(nil)
	_ forwarder.Witness = (*Store)(nil)
)

// Open connects, and looks at the stream of entries that have no class, which it creates
// if it is missing and Config allows that. All others it looks at with their first
// entries. A nil logger discards.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c = c.withDefaults()
	servers, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Store{
		c: c, servers: servers, description: c.describe(servers), log: log,
		streams: map[string]*stream{}, highest: map[string]uint64{},
	}
	s.closed, s.stop = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.connect(ctx); err != nil {
		return nil, s.opening(ctx, err)
	}
	if !servers[0].tls && !servers[0].loopback() {
		log.Warn("audit entries travel unencrypted to this store", "location", s.description.Location)
	}
	if most := s.link.nc.MaxPayload(); most < minMessage {
		log.Warn("a server takes no large audit entries: raise its max_payload to 8MB", "location", s.description.Location, "max_payload", most)
	}
	if err := s.prepare(ctx, defaultClass); err != nil {
		err = s.opening(ctx, err)
		s.link.close()
		s.stop()
		return nil, err
	}
	return s, nil
}

// connect makes a link if there is none, or if the library has given it up, as it does
// when a server says something that it does not know.
func (s *Store) connect(ctx context.Context) error {
	if s.link != nil && !s.link.nc.IsClosed() {
		return nil
	}
	l, err := connect(ctx, s.closed, &s.c, s.servers, &s.known)
	if err != nil {
		return &offlineError{err}
	}
	s.link = l
	return nil
}

// Describe names the first server and the streams.
func (s *Store) Describe() forwarder.Description { return s.description }

// Close ends a Write that is under way, waits for it and closes the connection.
func (s *Store) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		s.link.close()
	}
	return nil
}

// during returns a context that ends with ctx and with the store.
func (s *Store) during(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if s.closed.Err() != nil { // AfterFunc would say so a moment too late, and a link be made that nobody closes
		cancel(errClosed)
	}
	stop := context.AfterFunc(s.closed, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
