package s3

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// The bounds of a connection.
const (
	dialTimeout = 10 * time.Second
	// idleTimeout is below what servers have, so that a connection is rarely closed from
	// the other side just when it is used again.
	idleTimeout = 15 * time.Second
	maxKept     = 2
	// maxAnswerHead bounds the head of an answer, and maxAnswer its body, in bytes: a page
	// of a listing, or an error. Objects have a bound of their own.
	maxAnswerHead = 64 << 10
	maxAnswer     = 16 << 20
)

// transport is HTTP/1.1, which is what S3 speaks.
func (c Config) transport() (*http.Transport, error) {
	conf, err := c.TLS.Config()
	if err != nil {
		return nil, err
	}
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    dialTimeout,
		Protocols:              protocols,
		DisableCompression:     true, // an answer must not grow
		MaxIdleConns:           maxKept,
		MaxIdleConnsPerHost:    maxKept,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHead,
	}, nil
}

type (
	// retryAfterKey is where a request's context has a *retryAfterSaid: minio-go does not
	// hand the header on.
	retryAfterKey struct{}
	// unboundedKey marks the request for an object.
	unboundedKey   struct{}
	retryAfterSaid = atomic.Int64
)

// bounded bounds what is read of answers, and takes note of Retry-After.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if said, ok := r.Context().Value(retryAfterKey{}).(*retryAfterSaid); ok {
		said.Store(int64(httpclient.RetryAfter(answer.Header, time.Now())))
	}
	if r.Context().Value(unboundedKey{}) == nil || answer.StatusCode != http.StatusOK {
		answer.Body = &boundedBody{ReadCloser: answer.Body, left: maxAnswer}
	}
	return answer, nil
}

var errTooMuch = errors.New("the answer is larger than 16 MiB")

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// noting remembers the error that ended a body, to tell the network's from the content's.
type noting struct {
	r   io.Reader
	err error
}

func (n *noting) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return k, err
}
