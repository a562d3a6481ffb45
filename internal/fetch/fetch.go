// Package fetch asks servers over HTTP for something that somebody has configured: keys,
// whose a credential is, whose a project is.
package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Client asks servers over HTTP. It follows no redirect: keys come from the URL
// that somebody wrote down, a credential goes there, and neither to where its
// server may point. It is safe for concurrent use.
type Client struct {
	client *http.Client
	limit  int64 // of a reply's body, in bytes
	// Words for the operator: how the limit is called, and what the right URL
	// does where the configured one redirects.
	most, does string
}

// Transport is one that goes through the environment's proxy, bounds headers, and keeps
// so many connections to a server; none keeps no connection.
func Transport(connections int) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute, DisableKeepAlives: connections == 0,
	}
}

// New makes a client that reads up to limit bytes, which is called most, and says of the
// right URL what it does.
func New(t http.RoundTripper, limit int64, most, does string) *Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{client: &http.Client{Transport: t, CheckRedirect: stay}, limit: limit, most: most, does: does}
}

// Close ends the connections that wait for another request.
func (f *Client) Close() { f.client.CloseIdleConnections() }

// Reply is what a server sent; nothing of it is set if it sent none.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte // only of 200
}

// Do sends a request. Any status but 200 is an error. Errors name nothing that
// the server sent but its status, and not the URL, whose query may hold a
// credential.
func (f *Client) Do(req *http.Request) (r Reply, err error) {
	req.Header.Set("User-Agent", "caddy-audit-log")
	resp, err := f.client.Do(req) //nolint:gosec // whose URL it is the operator wrote down, and no redirect is followed
	if err != nil {
		return r, NoAnswer(err)
	}
	defer resp.Body.Close()
	r.Status, r.Header = resp.StatusCode, resp.Header
	switch {
	case r.Status >= 300 && r.Status < 400:
		return r, fmt.Errorf("it answered with a redirect (%d), which is not followed: configure the URL that %s", r.Status, f.does)
	case r.Status != http.StatusOK:
		return r, fmt.Errorf("it answered %d", r.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.limit+1))
	if err != nil {
		return r, fmt.Errorf("reading its answer: %w", NoAnswer(err))
	}
	if int64(len(body)) > f.limit {
		return r, errors.New("its answer has more than " + f.most)
	}
	r.Body = body
	return r, nil
}

// ErrURL says that a URL was configured that no request can be made of.
var ErrURL = errors.New("its URL cannot be asked: check it")

// NoAnswer says why a server gave no answer. What it may have sent instead is not
// repeated, nor the URL, whose query may hold a credential: an error of net/http
// quotes both.
func NoAnswer(err error) error {
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("it did not answer in time: %w", context.DeadlineExceeded)
	case errors.As(err, &certificate):
		return errors.New("its certificate is not trusted")
	case errors.As(err, &dial):
		return fmt.Errorf("%s: %w", dial.Op, dial.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closed the connection")
	default:
		return errors.New("it answered with what is no HTTP")
	}
}
