package httpclient

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// answerTime is what the body of an answer may take that decides nothing, so that no
	// receiver can hold the delivery up by sending it slowly.
	answerTime = 2 * time.Second
	// drained is what is read of the body of a success, in bytes, to keep the connection.
	drained = 64 << 10
	// userAgent is sent unless the configuration has another one.
	userAgent = "caddy-audit-log"
)

var errTimeout = errors.New("the time is over")

// Request is a part of a batch that is posted at once.
type Request struct {
	// First and Last are the sequences at its ends.
	First, Last uint64
	// Fill makes the body, which stays as it is until Post has returned or calls another
	// Fill, and sets the headers that say what it is. The configuration's stand in h by
	// then. Resolve is for further placeholders; what else must not be shown goes to
	// known. An error is final for this Post.
	Fill func(h http.Header, resolve func(string) (string, error), known *Secrets) (body []byte, err error)
}

// Post makes the requests, one after another, until one fails. It ends soon after ctx
// and after Config.Timeout for each. All that it returns is fit for a log.
func (c *Client) Post(ctx context.Context, requests ...Request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Err() != nil {
		return &sendError{text: fmt.Sprintf("posting to audit store %q: it is closed", c.target.Location())}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.closed, cancel)()
	for _, r := range requests {
		if err := c.post(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) post(ctx context.Context, r Request) error {
	var known Secrets
	bounded, cancel := context.WithTimeoutCause(ctx, c.c.Timeout, errTimeout)
	defer cancel()

	out, err := c.outgoing(bounded, r, &known)
	if err == nil {
		err = c.exchange(cancel, out, &known)
	}
	if err == nil {
		return nil
	}
	failure := &sendError{text: fmt.Sprintf("posting entries %d to %d to audit store %q: ", r.First, r.Last, c.target.Location())}
	var status *statusError
	var refused *forwarder.RefusedError
	switch {
	case errors.As(err, &status):
		failure.text += status.Error()
		failure.retryAfter = status.retryAfter
		if c.dialect.Refused != nil && c.dialect.Refused(status.status) {
			return &forwarder.RefusedError{Err: failure}
		}
	case errors.As(err, &refused):
		failure.text += known.Clean(refused.Error())
		return &forwarder.RefusedError{Err: failure}
	case c.closed.Err() != nil:
		failure.text += "it is closed"
	case ctx.Err() != nil:
		failure.text += "it was broken off"
		failure.cause = context.Cause(ctx)
	case errors.Is(context.Cause(bounded), errTimeout):
		failure.text += fmt.Sprintf("the receiver did not answer within %s: check that it keeps up, or give it a longer timeout", c.c.Timeout)
	default:
		failure.text += known.Clean(err.Error()) + cure(err, c.pool.asked.Load())
	}
	return failure
}

// outgoing is a request that is ready.
type outgoing struct {
	http    *http.Request
	payload *payload
	proxy   proxyFunc
}

// outgoing makes the request. What its placeholders stand for is added to known, also
// when there is an error.
func (c *Client) outgoing(ctx context.Context, r Request, known *Secrets) (out outgoing, err error) {
	resolve := func(p string) (string, error) {
		value, err := c.c.Resolve(p)
		value = strings.TrimSpace(value) // a secret's file often ends with a line break
		known.Add(value)
		return value, err
	}
	u, err := c.target.resolve(resolve)
	if err != nil {
		return out, err
	}
	if out.proxy, err = c.c.chooseProxy(resolve, known); err != nil {
		return out, err
	}
	h := http.Header{}
	h.Set("User-Agent", userAgent)
	if user := u.User; user != nil {
		password, _ := user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		known.Add(basic)
		h.Set("Authorization", "Basic "+basic)
		u.User = nil
	}
	if err := c.c.setHeaders(h, resolve); err != nil {
		return out, err
	}
	body, err := r.Fill(h, resolve, known)
	if err != nil {
		return out, err
	}
	out.payload = &payload{data: body}
	if out.http, err = http.NewRequestWithContext(ctx, c.dialect.Method, u.String(), out.payload.reader()); err != nil {
		return out, err
	}
	out.http.Header = h
	out.http.ContentLength = int64(len(body))
	out.http.GetBody = func() (io.ReadCloser, error) { return out.payload.reader(), nil }
	return out, nil
}

// setHeaders adds what the configuration has. A name that it has twice is sent twice;
// the first of a name takes the place of what is there.
func (c Config) setHeaders(h http.Header, resolve func(string) (string, error)) error {
	seen := map[string]bool{}
	for _, header := range c.Headers {
		value, err := expand(header.Value, resolve, verbatim)
		if err != nil {
			return fmt.Errorf("header %s: %w", header.Name, err)
		}
		if name := http.CanonicalHeaderKey(header.Name); !seen[name] {
			seen[name] = true
			h.Del(name)
		}
		h.Add(header.Name, value)
	}
	return nil
}

type proxyFunc func(*http.Request) (*url.URL, error)

// chooseProxy returns what the transport asks for the proxy. The environment is read
// each time.
func (c Config) chooseProxy(resolve func(string) (string, error), known *Secrets) (proxyFunc, error) {
	switch c.Proxy {
	case ProxyNone:
		return func(*http.Request) (*url.URL, error) { return nil, nil }, nil
	case "":
		choose := httpproxy.FromEnvironment().ProxyFunc()
		return func(r *http.Request) (*url.URL, error) {
			u, err := choose(r.URL)
			if u != nil && u.User != nil {
				password, _ := u.User.Password()
				known.Add(password)
			}
			return u, err
		}, nil
	}
	t, err := parseURL(c.Proxy, "http", "socks5")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	u, err := t.resolve(resolve)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return func(*http.Request) (*url.URL, error) { return u, nil }, nil
}

// exchange sends the request and judges the answer. Cancel ends the request.
func (c *Client) exchange(cancel func(), out outgoing, known *Secrets) error {
	c.proxy = out.proxy
	transport, err := c.pool.get()
	if err != nil {
		return err
	}
	// The transport and no client around it: it follows no redirect and keeps no cookie.
	answer, err := roundTrip(transport, out)
	complete := out.payload.takeBack()
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	success := c.dialect.Success(answer.StatusCode)
	if !success || c.dialect.Accept == nil {
		defer time.AfterFunc(answerTime, cancel).Stop()
	}
	if !success {
		return c.judge(answer, *known)
	}
	if !complete {
		return fmt.Errorf("the receiver answered %s before it had the whole body: check that it reads it", statusName(answer.StatusCode))
	}
	if c.dialect.Accept != nil {
		return c.dialect.Accept(answer, *known)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, drained) // the status has said it
	return nil
}

// roundTrip sends the request, again if a connection that was kept fails: the receiver
// has most likely closed it just then, which is no failure of the receiver. Two are kept.
func roundTrip(transport *http.Transport, out outgoing) (*http.Response, error) {
	for try := 1; ; try++ {
		var kept atomic.Bool
		ctx := httptrace.WithClientTrace(out.http.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { kept.Store(info.Reused) },
		})
		again := out.http.Clone(ctx)
		again.Body = out.payload.reader()
		answer, err := transport.RoundTrip(again)
		if err == nil || !kept.Load() || try > maxKept || ctx.Err() != nil {
			return answer, err
		}
	}
}

// statusName is a status with the name that it has in the specification: the
// receiver's own may be anything.
func statusName(status int) string {
	if name := http.StatusText(status); name != "" {
		return fmt.Sprintf("%d %s", status, name)
	}
	return fmt.Sprint(status)
}
