package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// pool is what clients of one server share.
type pool struct {
	roots *x509.CertPool
	three *http3.Transport
}

func newPool(roots *x509.CertPool) *pool {
	p := &pool{roots: roots}
	p.three = &http3.Transport{TLSClientConfig: p.config(), DisableCompression: true}
	return p
}

func (p *pool) config(alpn ...string) *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: host, NextProtos: alpn, MinVersion: tls.VersionTLS12}
}

func (p *pool) dialTLS(addr, alpn string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience, KeepAlive: time.Minute}, Config: p.config(alpn)}
	return d.DialContext(ctx, "tcp", addr)
}

func (p *pool) close() { _ = p.three.Close() }
