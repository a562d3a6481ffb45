// Package otlp is the audit store behind a receiver of the OpenTelemetry protocol: each
// entry is sent as a log record, over http/protobuf.
//
// OpenTelemetry's own exporter of logs (otlploghttp) is not used, though Caddy links it.
// It reports a partial success to a global handler of errors and returns nil, so that what
// the receiver refused would count as delivered; it tries again by itself, for a time of
// its own; and it takes records of its SDK, whose attributes and clock are not ours.
//
// Its delivery is at least once: a receiver that takes a batch whose answer is lost gets
// it again, and tells a repeat by the entries' (id, revision).
package otlp

import (
	"log/slog"
	"net/http"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// Store posts batches to one receiver. It is a forwarder.Store, with delivery
// at_least_once.
//
// What Write has returned nil for was answered with a success that says that nothing was
// refused. Whether the receiver had it on a disk by then is the receiver's: a Collector
// answers from memory unless its exporters are configured otherwise, see docs/otlp.md.
type Store struct {
	c      Config
	client *httpclient.Client
	log    *slog.Logger
	// body and said are touched by what the client calls, and by Close after the last.
	body httpclient.Body
	// said are the receiver's warnings that were logged.
	said map[string]struct{}
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
	if _, err := c.check(); err != nil {
		return nil, err
	}
	s := &Store{c: c, log: log, said: map[string]struct{}{}}
	var err error
	s.client, err = httpclient.New(c.HTTP, httpclient.Dialect{
		Method: http.MethodPost, Success: success, Refused: refused, Cure: statusCure, Said: statusText, Accept: s.accept,
	}, log)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Describe names the URL without what may be a credential in it.
func (s *Store) Describe() forwarder.Description { return describe(s.client.Location()) }

// Close ends a Write that is under way, waits for it and closes the connections.
func (s *Store) Close() error {
	s.client.Close()
	s.body.Drop()
	return nil
}
