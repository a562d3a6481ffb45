// Package httpclient is how stores post their batches to an endpoint that is somebody
// else's: with credentials that are read for each request and shown nowhere, over
// connections that find renewed certificates, following no redirect, and with everything
// bounded that comes back. A store says by its Dialect what the answers mean, and keeps
// to itself what is in a request.
package httpclient

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Dialect is what a protocol over HTTP means by its answers. Success must be set.
type Dialect struct {
	// Method of each request.
	Method string
	// Success says which statuses mean that the receiver has taken the request.
	Success func(status int) bool
	// Refused says which statuses mean that it will never take these bytes. All others
	// are tried again. Nil is none.
	Refused func(status int) bool
	// Cure is what to do about a status, where the protocol knows better than HTTP;
	// empty elsewhere. Nil knows nothing better.
	Cure func(status int) string
	// Said is the text in the body of an answer that is no success; the body is hostile,
	// may be cut off, and has MaxAnswer bytes at most. What it returns is then made fit
	// for a log. Nil is the body as it is.
	Said func(h http.Header, body []byte) string
	// Accept reads the body of a success, where that still decides, and bounds what it
	// reads; the request's timeout goes on. Its error may show what the receiver said: it
	// is made fit for a log, and a *forwarder.RefusedError stays one. Nil looks at no
	// body.
	Accept func(answer *http.Response, known Secrets) error
}

// Client sends requests to one URL. Post is called by one goroutine at a time, Close
// once.
type Client struct {
	// Now is the clock, time.Now unless a test has another one.
	Now func() time.Time

	c       Config
	target  Target
	dialect Dialect
	pool    pool

	// stop ends a Post that is under way when Close is called.
	stop   context.CancelFunc
	closed context.Context

	// mu lets Close wait for that. It also guards proxy.
	mu sync.Mutex
	// proxy chooses the proxy for the request in hand.
	proxy proxyFunc
}

// New checks the configuration. It connects to nothing: a receiver that is down shows
// at the first request, and so does a credential that is not there.
func New(c Config, d Dialect, log *slog.Logger) (*Client, error) {
	c = c.WithDefaults()
	t, err := c.Check()
	if err != nil {
		return nil, err
	}
	if !t.encrypted() && !t.loopback() {
		log.Warn("audit entries travel unencrypted to this store", "location", t.Location())
	}
	cl := &Client{c: c, target: t, dialect: d, Now: time.Now}
	cl.closed, cl.stop = context.WithCancel(context.Background())
	cl.pool = pool{tls: c.TLS, proxy: cl.chooseProxy}
	return cl, nil
}

// Location names the URL without what may be a credential in it.
func (c *Client) Location() string { return c.target.Location() }

// Close ends a Post that is under way, waits for it and closes the connections.
func (c *Client) Close() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pool.close()
}

// chooseProxy is asked by the transport, in the goroutine that called it.
func (c *Client) chooseProxy(r *http.Request) (*url.URL, error) { return c.proxy(r) }
