package clienttest

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// Endpoint is a receiver that keeps what it takes, and has every fault. Its methods are
// the hooks of storetest.Target.
type Endpoint struct {
	// Address is where it listens, host and port. It stays the same.
	Address string

	t      testing.TB
	how    Receive
	tls    *tls.Config // nil for HTTP/1.1 without it
	server *http.Server
	stop   func()

	mu       sync.Mutex
	docs     [][]byte
	refusing bool
	refuse   string
	slow     time.Duration
	fast     chan struct{}
	cut      int // 1: before it is stored, 2: after
	cuts     int
}

// Receive is what a receiver makes of a request.
type Receive struct {
	// Take returns the documents in a request, or has answered with a failure and reports
	// false.
	Take func(w http.ResponseWriter, req *http.Request, body []byte) (docs [][]byte, ok bool)
	// Refuse answers that it will never take this, and Accept that it has. A nil Accept
	// answers with an empty 200.
	Refuse func(w http.ResponseWriter, req *http.Request)
	Accept func(w http.ResponseWriter, req *http.Request)
}

// NewEndpoint starts one on a free port of the loopback interface, with TLS and HTTP/2 if
// an authority is given, which issues its certificate. The test's end ends it.
func NewEndpoint(t testing.TB, how Receive, a *certtest.Authority) *Endpoint {
	t.Helper()
	e := &Endpoint{Address: ports.ForTest(t), t: t, how: how}
	if a != nil {
		cert, key := a.Pair(t, nil)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		e.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	e.start()
	t.Cleanup(func() { e.stop() })
	return e
}

// Documents are all that it has taken, as they came.
func (e *Endpoint) Documents() ([][]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.docs), nil
}

// Refuse refuses all documents that contain a text, and the requests they are in.
func (e *Endpoint) Refuse(text string) (accept func()) {
	e.set(func() { e.refusing, e.refuse = true, text })
	return func() { e.set(func() { e.refusing = false }) }
}

// Break listens no more, and breaks off what is under way.
func (e *Endpoint) Break() (mend func()) {
	e.stop()
	return e.start
}

// Slow delays the next request.
func (e *Endpoint) Slow(d time.Duration) (fast func()) {
	ended := make(chan struct{})
	e.set(func() { e.slow, e.fast = d, ended })
	return sync.OnceFunc(func() {
		e.set(func() { e.slow = 0 })
		close(ended)
	})
}

// Cut resets the connection of the next request, in turn before and after it is taken.
func (e *Endpoint) Cut() {
	e.set(func() {
		e.cuts++
		e.cut = 1 + e.cuts%2
	})
}

func (e *Endpoint) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// start listens where it listened before.
func (e *Endpoint) start() {
	l, err := ports.ListenAgain(e.Address)
	if err != nil {
		e.t.Error(err)
		return
	}
	e.server = &http.Server{Handler: e, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), TLSConfig: e.tls, ReadHeaderTimeout: time.Minute}
	server, ended := e.server, make(chan struct{})
	e.stop = func() {
		_ = server.Close() // what it says of its connections is what was wanted
		<-ended
	}
	go func() {
		defer close(ended)
		if e.tls != nil {
			_ = server.ServeTLS(l, "", "") // that it was closed
		} else {
			_ = server.Serve(l)
		}
	}()
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e.mu.Lock()
	cut, slow, fast := e.cut, e.slow, e.fast
	e.cut, e.slow = 0, 0
	e.mu.Unlock()
	if cut == 1 {
		_, _ = io.CopyN(io.Discard, req.Body, req.ContentLength/2)
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-fast:
		case <-req.Context().Done():
			return
		}
	}
	docs, ok := e.how.Take(w, req, body)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, doc := range docs {
		if e.refusing && bytes.Contains(doc, []byte(e.refuse)) {
			e.how.Refuse(w, req)
			return
		}
	}
	e.docs = append(e.docs, docs...)
	if cut == 2 {
		panic(http.ErrAbortHandler)
	}
	if e.how.Accept != nil {
		e.how.Accept(w, req)
	}
}
