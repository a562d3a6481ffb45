//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// receiver is a store over HTTP that can be down, and that can refuse entries.
type receiver struct {
	addr string
	// poison says that it refuses each batch with "poison" in it.
	poison atomic.Bool

	mu  sync.Mutex
	srv *http.Server
}

func newReceiver() (*receiver, error) {
	free, err := ports.Free(1)
	if err != nil {
		return nil, err
	}
	r := &receiver{addr: ports.Address(free[0])}
	return r, r.up()
}

func (r *receiver) up() error {
	l, err := ports.ListenAgain(r.addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	r.mu.Lock()
	r.srv = srv
	r.mu.Unlock()
	go func() { _ = srv.Serve(l) }() // returns when it is closed
	return nil
}

// down breaks off what is under way. It may be called when it is down.
func (r *receiver) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.srv != nil {
		_ = r.srv.Close()
		r.srv = nil
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<20))
	if err != nil {
		return // the build went away
	}
	if req.Header.Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, _ = io.ReadAll(io.LimitReader(z, 256<<20))
		}
	}
	if r.poison.Load() && bytes.Contains(body, []byte("poison")) {
		http.Error(w, "poison", http.StatusUnprocessableEntity)
	}
}

// api is the stub API of a stage. It answers what the calls need; what is asked of a
// service can be broken.
type api struct {
	// slow is how long it takes, and broken what it answers to members with 500.
	slow   atomic.Int64
	broken atomic.Bool
}

func newAPI() *api { return &api{} }

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d := time.Duration(a.slow.Load()); d > 0 {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case a.broken.Load() && r.URL.Path == "/v1/organizations/acme":
		w.WriteHeader(http.StatusInternalServerError)
	case r.Header.Get("Authorization") == "":
		w.WriteHeader(http.StatusUnauthorized)
	case strings.HasPrefix(r.URL.Path, "/nowhere/"):
		w.WriteHeader(http.StatusNotFound)
	case r.URL.Path == "/v1/organizations/acme":
		_, _ = io.WriteString(w, `{"id":"acme","slug":"acme","name":"Acme","plan":"enterprise"}`)
	default:
		_, _ = io.WriteString(w, `{"id":"x"}`)
	}
}

// drain reads an answer to its end, so that its connection can be used again.
func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
