package rig

import (
	"net/http"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// Serve serves a stub API on a free port until stop is called. stop closes
// what is open at once.
func Serve(h http.Handler) (addr string, stop func(), err error) {
	l, err := ports.Listen()
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }() // returns when stop closes it
	return l.Addr().String(), func() { _ = srv.Close() }, nil
}
