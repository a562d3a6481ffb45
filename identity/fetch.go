package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// fetcher asks servers over HTTP. It follows no redirect: keys come from the URL
// that somebody wrote down, a credential goes there, and neither to where its
// server may point.
type fetcher struct {
	client *http.Client
	limit  int64 // of a reply's body, in bytes
	// Words for the operator: how the limit is called, and what the right URL
	// does where the configured one redirects.
	most, does string
}

func newFetcher(t *http.Transport, limit int64, most, does string) *fetcher {
	t.Proxy, t.MaxResponseHeaderBytes = http.ProxyFromEnvironment, 64<<10
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &fetcher{client: &http.Client{Transport: t, CheckRedirect: stay}, limit: limit, most: most, does: does}
}

// reply is what a server sent; nothing of it is set if it sent none.
type reply struct {
	status int
	header http.Header
	body   []byte // only of 200
}

// fetch sends a request. Any status but 200 is an error. Errors name nothing that
// the server sent but its status, and not the URL, whose query may hold a
// credential.
func (f *fetcher) fetch(req *http.Request) (r reply, err error) {
	req.Header.Set("User-Agent", "caddy-audit-log")
	resp, err := f.client.Do(req)
	if err != nil {
		return r, noAnswer(err)
	}
	defer resp.Body.Close()
	r.status, r.header = resp.StatusCode, resp.Header
	switch {
	case r.status >= 300 && r.status < 400:
		return r, fmt.Errorf("it answered with a redirect (%d), which is not followed: configure the URL that %s", r.status, f.does)
	case r.status != http.StatusOK:
		return r, fmt.Errorf("it answered %d", r.status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.limit+1))
	if err != nil {
		return r, fmt.Errorf("reading its answer: %w", noAnswer(err))
	}
	if int64(len(body)) > f.limit {
		return r, errors.New("its answer has more than " + f.most)
	}
	r.body = body
	return r, nil
}

// errURL says that a URL was configured that no request can be made of.
var errURL = errors.New("its URL cannot be asked: check it")

// noAnswer says why a server gave no answer. What it may have sent instead is not
// repeated, nor the URL, whose query may hold a credential: an error of net/http
// quotes both.
func noAnswer(err error) error {
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

// WithoutQuery is a URL as it may stand in a log: its query may hold a key.
func WithoutQuery(address string) string {
	plain, _, _ := strings.Cut(address, "?")
	return plain
}
