// Package httpstore is the audit store behind an HTTP endpoint: batches of entries
// are posted to it as JSON, compressed and signed as the Standard Webhooks
// specification says.
//
// Its delivery is at least once: a receiver that takes a batch whose answer is lost
// gets it again, and tells a repeat by the entries' (id, revision).
package httpstore

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Store posts batches to one URL. It is a forwarder.Store, with delivery
// at_least_once.
//
// What Write has returned nil for was answered with a status of Config.Success after
// the whole body had been sent. What the receiver did with it then is not known: the
// body of such an answer is not looked at.
type Store struct {
	c      Config
	target target
	pool   pool
	now    func() time.Time

	// stop ends a Write that is under way when Close is called.
	stop   context.CancelFunc
	closed context.Context

	// mu lets Close wait for that. It also guards the memory that is used again for
	// each request, and proxy.
	mu   sync.Mutex
	body body
	// proxy chooses the proxy for the request in hand.
	proxy proxyFunc
}

var _ forwarder.Store = (*Store)(nil)

// Open checks the configuration. It connects to nothing: a receiver that is down
// shows at the first batch, and so does a credential that is not there. A nil logger
// discards.
func Open(c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c = c.withDefaults()
	t, err := c.check()
	if err != nil {
		return nil, err
	}
	if !t.encrypted() && !t.loopback() {
		log.Warn("audit entries travel unencrypted to this store", "location", t.location())
	}
	s := &Store{c: c, target: t, now: time.Now}
	s.closed, s.stop = context.WithCancel(context.Background())
	s.pool = pool{tls: c.TLS, proxy: s.chooseProxy}
	return s, nil
}

// Describe names the URL without what may be a credential in it.
func (s *Store) Describe() forwarder.Description { return s.c.describe(s.target) }

// Close ends a Write that is under way, waits for it and closes the connections.
func (s *Store) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.close()
	s.body.drop()
	return nil
}

// chooseProxy is asked by the transport, in the goroutine that called it.
func (s *Store) chooseProxy(r *http.Request) (*url.URL, error) { return s.proxy(r) }
