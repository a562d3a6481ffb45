package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// serveH2C serves an API over HTTP/2 that echoes each line as it comes and
// ends with trailers, as a gRPC service does.
func serveH2C() (addr string, stop func(), err error) {
	free, err := ports.Free(1)
	if err != nil {
		return "", nil, err
	}
	ln, err := ports.ListenAgain(ports.Address(free[0]))
	if err != nil {
		return "", nil, fmt.Errorf("starting the stub API for HTTP/2: %w", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echoLines), Protocols: new(http.Protocols), ReadHeaderTimeout: 2 * patience}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(ln) }() // returns when stop closes it
	return ln.Addr().String(), func() { _ = srv.Close() }, nil
}

func echoLines(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(2 * patience))
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_ = rc.Flush() // a failure shows in what the client misses
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		_, _ = io.WriteString(w, "echo "+lines.Text()+"\n")
		_ = rc.Flush()
	}
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", "request trailer: "+r.Trailer.Get("Client-Trailer"))
}
