package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// api serves the oracle, and can part with its callers.
type api struct {
	srv   *http.Server
	addr  string
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func serve(h http.Handler) (*api, error) {
	free, err := ports.Free(1)
	if err != nil {
		return nil, err
	}
	l, err := ports.ListenAgain(ports.Address(free[0]))
	if err != nil {
		return nil, fmt.Errorf("starting the API: %w", err)
	}
	a := &api{addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	a.srv = &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ConnState: a.note}
	go func() { _ = a.srv.Serve(l) }() // returns when it is closed
	return a, nil
}

func (a *api) note(c net.Conn, s http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s == http.StateClosed || s == http.StateHijacked {
		delete(a.conns, c)
	} else {
		a.conns[c] = true
	}
}

// part closes all connections. A build keeps some for minutes, which must not
// hide what it keeps for ever. Nothing is to be under way.
func (a *api) part() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.conns {
		_ = c.Close()
	}
}

func (a *api) stop() { _ = a.srv.Close() }
