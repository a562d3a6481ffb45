package httpstore

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The headers that say which entries a request has.
const (
	headerInstance = "Audit-Instance"
	headerFirst    = "Audit-First-Sequence"
	headerLast     = "Audit-Last-Sequence"
	headerEntries  = "Audit-Entries"
)

// userAgent is sent unless the configuration has another one.
const userAgent = "caddy-audit-log"

type proxyFunc func(*http.Request) (*url.URL, error)

// request is one part of a batch on its way.
type request struct {
	http    *http.Request
	payload *payload
	proxy   proxyFunc
	// first and last are the sequences at its ends.
	first, last uint64
}

// divide cuts a batch into the parts that each are a request: of one instance, and no
// larger than the receiver takes. The order stays.
func divide(batch []forwarder.Record, maxBody int) (parts [][]forwarder.Record) {
	begin, size := 0, 2
	for i, r := range batch {
		if i > begin && (instance(r) != instance(batch[begin]) || maxBody > 0 && size+len(r.JSON)+1 > maxBody) {
			parts = append(parts, batch[begin:i])
			begin, size = i, 2
		}
		size += len(r.JSON) + 1
	}
	if begin < len(batch) {
		parts = append(parts, batch[begin:])
	}
	return parts
}

func instance(r forwarder.Record) string {
	if o := r.Entry.Origin; o != nil {
		return o.Instance
	}
	return ""
}

func bounds(part []forwarder.Record) (first, last uint64) {
	first, last = part[0].Sequence, part[0].Sequence
	for _, r := range part {
		first, last = min(first, r.Sequence), max(last, r.Sequence)
	}
	return first, last
}

// request makes the request for a part. What its placeholders stand for is added to
// known, also when there is an error.
func (s *Store) request(ctx context.Context, part []forwarder.Record, known *secrets) (request, error) {
	r := request{}
	r.first, r.last = bounds(part)
	resolve := func(p string) (string, error) {
		value, err := s.c.Resolve(p)
		value = strings.TrimSpace(value) // a secret's file often ends with a line break
		known.add(value)
		return value, err
	}

	u, err := s.target.resolve(resolve)
	if err != nil {
		return r, err
	}
	if r.proxy, err = s.c.chooseProxy(resolve, known); err != nil {
		return r, err
	}
	keys, err := s.c.keys(resolve, known)
	if err != nil {
		return r, err
	}
	if err := s.body.encode(part, s.c.Encoding, s.c.Compress); err != nil {
		return r, err
	}

	r.payload = &payload{data: s.body.sent}
	user := u.User
	u.User = nil
	if r.http, err = http.NewRequestWithContext(ctx, s.c.Method, u.String(), r.payload.reader()); err != nil {
		return r, err
	}
	r.http.ContentLength = int64(len(s.body.sent))
	r.http.GetBody = func() (io.ReadCloser, error) { return r.payload.reader(), nil }

	h := r.http.Header
	h.Set("User-Agent", userAgent)
	if user != nil {
		password, _ := user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		known.add(basic)
		h.Set("Authorization", "Basic "+basic)
	}
	if err := s.c.setHeaders(h, resolve); err != nil {
		return r, err
	}
	s.describeBody(h, part, r)
	at := s.now()
	id := requestID(instance(part[0]), r.first, r.last, part)
	h.Set(headerID, id)
	h.Set(headerTimestamp, strconv.FormatInt(at.Unix(), 10))
	if len(keys) > 0 {
		bodies := [][]byte{s.body.sent}
		if s.c.Compress != CompressNone {
			bodies = append(bodies, s.body.plain)
		}
		h.Set(headerSignature, signatures(keys, id, at, bodies...))
	}
	return r, nil
}

// describeBody sets the headers that say what the body is.
func (s *Store) describeBody(h http.Header, part []forwarder.Record, r request) {
	h.Set("Content-Type", "application/json")
	if s.c.Encoding == EncodingNDJSON {
		h.Set("Content-Type", "application/x-ndjson")
	}
	if s.c.Compress != CompressNone {
		h.Set("Content-Encoding", s.c.Compress)
	}
	h.Set(headerInstance, instance(part[0]))
	h.Set(headerFirst, strconv.FormatUint(r.first, 10))
	h.Set(headerLast, strconv.FormatUint(r.last, 10))
	h.Set(headerEntries, strconv.Itoa(len(part)))
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

// keys reads the secrets that sign.
func (c Config) keys(resolve func(string) (string, error), known *secrets) ([]signingKey, error) {
	var keys []signingKey
	for _, name := range c.Secrets {
		value, err := resolve(name)
		if err != nil {
			return nil, fmt.Errorf("the secret: %w", err)
		}
		_, bare, _ := strings.Cut(value, "_")
		known.add(bare)
		key, err := parseSecret(value)
		if err != nil {
			return nil, fmt.Errorf("the secret %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// chooseProxy returns what the transport asks for the proxy. The environment is read
// each time.
func (c Config) chooseProxy(resolve func(string) (string, error), known *secrets) (proxyFunc, error) {
	switch c.Proxy {
	case ProxyNone:
		return func(*http.Request) (*url.URL, error) { return nil, nil }, nil
	case "":
		choose := httpproxy.FromEnvironment().ProxyFunc()
		return func(r *http.Request) (*url.URL, error) {
			u, err := choose(r.URL)
			if u != nil && u.User != nil {
				password, _ := u.User.Password()
				known.add(password)
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
