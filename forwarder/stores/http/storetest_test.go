package httpstore

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
)

func TestTheStoreKeepsItsContract(t *testing.T) {
	const unread = "what a receiver has taken is its own: this store neither reads nor changes it"
	o := storetest.Options{NotApplicable: map[string]string{
		"a pruned entry does not come back":                                 unread,
		"a redacted text does not come back":                                unread,
		"Read yields each entry once, in its highest revision and in order": unread,
		"each field of a query narrows":                                     unread,
		"a reader that stops halfway delays no write":                       unread,
		"Received and Missing are what arrived":                             unread,
		"Highest is the highest sequence that was taken":                    unread,
	}}
	t.Run("HTTP/1.1, NDJSON, gzip", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *storetest.Target {
			return contractTarget(t, false, EncodingNDJSON, CompressGzip)
		}, o)
	})
	t.Run("HTTP/2, JSON, zstd", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *storetest.Target {
			return contractTarget(t, true, EncodingJSON, CompressZstd)
		}, o)
	})
}

// endpoint is a receiver that keeps what it takes, and has every fault.
type endpoint struct {
	t       testing.TB
	address string
	tls     *tls.Config // nil for HTTP/1.1 without it
	server  *http.Server
	stop    func()
	secret  string

	mu       sync.Mutex
	docs     [][]byte
	refusing bool
	refuse   string
	slow     time.Duration
	fast     chan struct{}
	cut      int // 1: before it is stored, 2: after
	cuts     int
}

func contractTarget(t testing.TB, encrypted bool, encoding, compress string) *storetest.Target {
	const user, password, token = "planted-contract-user", "planted-contract-password", "planted-contract-token"
	e := &endpoint{t: t, secret: secretOf("c")}
	t.Setenv("HTTP_CONTRACT_USER", user)
	t.Setenv("HTTP_CONTRACT_PASSWORD", password)
	t.Setenv("HTTP_CONTRACT_TOKEN", token)
	t.Setenv("HTTP_CONTRACT_SECRET", e.secret)
	m := &Module{
		Encoding: encoding, Compress: compress, Proxy: ProxyNone, Secrets: []string{"{env.HTTP_CONTRACT_SECRET}"},
		Headers: []Header{{"X-Token", "{env.HTTP_CONTRACT_TOKEN}"}},
	}
	scheme := "http"
	if encrypted {
		a := newAuthority(t)
		cert, key := a.pair(t, nil)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		e.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
		scheme, m.TLS.CA = "https", save(t, filepath.Join(t.TempDir(), "ca.pem"), a.pem())
	}
	e.start()
	t.Cleanup(func() { e.stop() })
	m.URL = scheme + "://{env.HTTP_CONTRACT_USER}:{env.HTTP_CONTRACT_PASSWORD}@" + e.address + "/in"
	provision(t, m)
	return &storetest.Target{
		Opener: m,
		Credentials: []string{
			user, password, token, e.secret, strings.TrimPrefix(e.secret, "whsec_"), base64.StdEncoding.EncodeToString([]byte(user + ":" + password)),
		},
		Documents: func() ([][]byte, error) {
			e.mu.Lock()
			defer e.mu.Unlock()
			return slices.Clone(e.docs), nil
		},
		Refuse: func(text string) func() {
			e.set(func() { e.refusing, e.refuse = true, text })
			return func() { e.set(func() { e.refusing = false }) }
		},
		Break: func() func() {
			e.stop()
			return e.start
		},
		Slow: func(d time.Duration) func() {
			fast := make(chan struct{})
			e.set(func() { e.slow, e.fast = d, fast })
			return sync.OnceFunc(func() {
				e.set(func() { e.slow = 0 })
				close(fast)
			})
		},
		Cut: func() {
			e.set(func() {
				e.cuts++
				e.cut = 1 + e.cuts%2
			})
		},
	}
}

func (e *endpoint) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// start listens where it listened before.
func (e *endpoint) start() {
	address := e.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		e.t.Error(err)
		return
	}
	e.address = l.Addr().String()
	e.server = &http.Server{Handler: e, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), TLSConfig: e.tls, ReadHeaderTimeout: time.Minute}
	server, ended := e.server, make(chan struct{})
	e.stop = func() {
		server.Close()
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

func (e *endpoint) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e.mu.Lock()
	cut, slow, fast := e.cut, e.slow, e.fast
	e.cut, e.slow = 0, 0
	e.mu.Unlock()
	if cut == 1 {
		io.CopyN(io.Discard, req.Body, req.ContentLength/2)
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
	r := received{req, body}
	docs, err := r.documents(e.t)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case !verifies(e.secret, req.Header, body):
		http.Error(w, "signature", http.StatusUnauthorized)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, doc := range docs {
		if e.refusing && bytes.Contains(doc, []byte(e.refuse)) {
			http.Error(w, everything(req), http.StatusUnprocessableEntity)
			return
		}
	}
	e.docs = append(e.docs, docs...)
	if cut == 2 {
		panic(http.ErrAbortHandler)
	}
}

// documents takes a body apart as a receiver does.
func (r received) documents(t testing.TB) (docs [][]byte, err error) {
	plain := r.plain(t)
	if r.Header.Get("Content-Type") == "application/x-ndjson" {
		for line := range bytes.Lines(plain) {
			docs = append(docs, bytes.TrimSuffix(line, []byte("\n")))
		}
		return docs, nil
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		var doc json.RawMessage
		if err := d.Decode(&doc); err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more behind the array")
	}
	return docs, nil
}
