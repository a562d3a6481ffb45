package httpclient

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// The bounds of a connection.
const (
	dialTimeout = 10 * time.Second
	// idleTimeout is below what load balancers have, so that a connection is rarely
	// closed from the other side just when it is used again.
	idleTimeout = 50 * time.Second
	// pingAfter is how long an HTTP/2 connection may be silent before it is asked
	// whether it lives.
	pingAfter = 15 * time.Second
	// maxKept is how many connections are kept; one is used at a time.
	maxKept = 2
	// maxAnswerHead bounds the head of an answer, in bytes.
	maxAnswerHead = 64 << 10
	// MaxFile bounds a certificate's file, in bytes.
	MaxFile = 1 << 20
)

// pool keeps the connections, and makes new ones when a certificate's file has changed.
// One goroutine uses it.
type pool struct {
	tls   TLS
	proxy func(*http.Request) (*url.URL, error)

	// asked is set when the receiver asks for a certificate.
	asked atomic.Bool

	transport *http.Transport
	conns     *conns
	files     []os.FileInfo // as they were when the transport was made
}

// get returns the transport for the next request.
func (p *pool) get() (*http.Transport, error) {
	files, err := p.stat()
	if err != nil {
		return nil, err
	}
	if p.transport != nil && unchanged(p.files, files) {
		return p.transport, nil
	}
	c, err := p.tls.Config()
	if err != nil {
		return nil, err
	}
	shown := c.GetClientCertificate
	c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		p.asked.Store(true)
		return shown(r)
	}
	p.close()
	p.files = files
	p.conns = &conns{open: map[net.Conn]struct{}{}}
	p.transport = &http.Transport{
		Proxy:                  p.proxy,
		DialContext:            p.conns.dial,
		TLSClientConfig:        c,
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		DisableCompression:     true, // an answer is text for a person, and must not grow
		MaxIdleConns:           maxKept,
		MaxIdleConnsPerHost:    maxKept,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHead,
	}
	return p.transport, nil
}

// close closes all connections. No request is under way.
func (p *pool) close() {
	if p.transport != nil {
		p.transport.CloseIdleConnections()
		p.conns.close()
		p.transport = nil
	}
	p.asked.Store(false)
}

func (p *pool) stat() ([]os.FileInfo, error) {
	var files []os.FileInfo
	for _, name := range p.tls.Names() {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		files = append(files, info)
	}
	return files, nil
}

func unchanged(a, b []os.FileInfo) bool {
	for i := range a {
		if !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() {
			return false
		}
	}
	return true
}
