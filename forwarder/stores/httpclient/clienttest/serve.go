// Package clienttest is the other side of httpclient for the tests of the stores that are
// built on it: receivers with every fault, and connections that a real server cannot be.
// Only tests import it.
package clienttest

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

// ServeTLS serves HTTP/2 with what an authority issues, to clients that come from a pool,
// or to all if that is nil. It returns the URL.
func ServeTLS(t testing.TB, h http.Handler, a *certtest.Authority, change func(*x509.Certificate), clients *x509.CertPool) string {
	t.Helper()
	cert, key := a.Pair(t, change)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		srv.TLS.ClientAuth, srv.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}
