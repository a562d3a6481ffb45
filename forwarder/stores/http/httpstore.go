// Package httpstore is the audit store behind an HTTP endpoint: batches of entries
// are posted to it as JSON, compressed and signed as the Standard Webhooks
// specification says.
//
// Its delivery is at least once: a receiver that takes a batch whose answer is lost
// gets it again, and tells a repeat by the entries' (id, revision).
package httpstore

import (
	"log/slog"
	"net/http"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// Store posts batches to one URL. It is a forwarder.Store, with delivery
// at_least_once.
//
// What Write has returned nil for was answered with a status of Config.Success after
// the whole body had been sent. What the receiver did with it then is not known: the
// body of such an answer is not looked at.
type Store struct {
	c      Config
	client *httpclient.Client
	// body is the memory that is used again for each request. Only what the client calls
	// touches it, and Close after the last.
	body body
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
	client, err := httpclient.New(c.client(), httpclient.Dialect{
		Method: c.Method, Success: c.Success.has, Refused: c.Refused.has, Cure: statusCure,
	}, log)
	if err != nil {
		return nil, err
	}
	return &Store{c: c, client: client}, nil
}

// statusCure is what to do about a status that this protocol knows more of.
func statusCure(status int) string {
	switch status {
	case http.StatusMethodNotAllowed:
		return "check the path of its URL and its option method"
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		return "try compress none, and the other encoding"
	case http.StatusSwitchingProtocols:
		return "check that an endpoint for webhooks is behind its URL"
	case http.StatusConflict:
		return "if that is its answer to a repeat, add 409 to its option success"
	}
	return ""
}

// Describe names the URL without what may be a credential in it.
func (s *Store) Describe() forwarder.Description { return describe(s.client.Location()) }

// Close ends a Write that is under way, waits for it and closes the connections.
func (s *Store) Close() error {
	s.client.Close()
	s.body.Drop()
	return nil
}
