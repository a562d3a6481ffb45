package httpstore

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// The encodings of a body.
const (
	// EncodingJSON is one JSON array, application/json.
	EncodingJSON = "json"
	// EncodingNDJSON is one entry a line, application/x-ndjson.
	EncodingNDJSON = "ndjson"
)

// Config of a Store. URL, the values of Headers, Secrets and Proxy may hold
// placeholders, {env.NAME} and {file.PATH}. They are replaced for each request, so
// that a credential that was renewed is used at once.
type Config struct {
	// URL that batches are sent to. Placeholders may stand for its user and password,
	// in its path and in its query, where what they stand for is escaped; its scheme
	// and host are written out, because they are what the destination is known by.
	URL string
	// Method is POST, PUT or PATCH. Empty is POST.
	Method string
	// Headers are sent with each request, beside those that it has anyway.
	Headers []httpclient.Header
	// Secrets sign each request, all of them, so that one can be replaced by another
	// without a moment in which neither is known to the receiver. What each
	// placeholder stands for is a whsec_ or whsk_ secret of the Standard Webhooks
	// specification. Without one, requests are not signed.
	Secrets []string
	// Encoding is EncodingJSON, which empty is too, or EncodingNDJSON.
	Encoding string
	// Compress is httpclient.CompressGzip, which empty is too, CompressZstd or
	// CompressNone.
	Compress string
	// Timeout of one request. Zero is httpclient.DefaultTimeout.
	Timeout time.Duration
	// Success has the statuses that say that the batch is the receiver's. Empty is
	// 200 to 299.
	Success Statuses
	// Refused has the statuses that say that it will never take these bytes. Empty is
	// 400, 413 and 422. All others are tried again.
	Refused Statuses
	// MaxBody bounds a request's body before it is compressed, in bytes. An entry that
	// is larger travels alone. Zero is no bound but that of the batches.
	MaxBody int
	// Proxy is an http:// or socks5:// URL, httpclient.ProxyNone, or empty for what the
	// environment says (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
	Proxy string
	TLS   httpclient.TLS
	// Insecure allows an http:// URL whose host is not this one.
	Insecure bool
	// Resolve returns what one placeholder stands for, and else an error that does
	// not show it. Nil knows none.
	Resolve func(placeholder string) (string, error)
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Method == "" {
		c.Method = http.MethodPost
	}
	if c.Encoding == "" {
		c.Encoding = EncodingJSON
	}
	if c.Compress == "" {
		c.Compress = httpclient.CompressGzip
	}
	if len(c.Success) == 0 {
		c.Success = Statuses{{200, 299}}
	}
	if len(c.Refused) == 0 {
		c.Refused = Statuses{{400, 400}, {413, 413}, {422, 422}}
	}
	return c
}

// client is the part of a configuration that is the client's.
func (c Config) client() httpclient.Config {
	return httpclient.Config{
		URL: c.URL, Headers: c.Headers, OwnHeaders: own, Timeout: c.Timeout, MaxBody: c.MaxBody,
		Proxy: c.Proxy, TLS: c.TLS, Insecure: c.Insecure, Resolve: c.Resolve,
	}.WithDefaults()
}

// check says what is wrong with a configuration that has its defaults. No error shows
// a value that may be a credential.
func (c Config) check() (httpclient.Target, error) {
	t, err := c.client().Check()
	if err != nil {
		return t, err
	}
	if methods := []string{http.MethodPost, http.MethodPut, http.MethodPatch}; !slices.Contains(methods, c.Method) {
		return t, fmt.Errorf("method %q is not one that takes a body: use %s", c.Method, strings.Join(methods, ", "))
	}
	if c.Encoding != EncodingJSON && c.Encoding != EncodingNDJSON {
		return t, fmt.Errorf("encoding %q is not known: use %s or %s", c.Encoding, EncodingJSON, EncodingNDJSON)
	}
	if all := []string{httpclient.CompressGzip, httpclient.CompressZstd, httpclient.CompressNone}; !slices.Contains(all, c.Compress) {
		return t, fmt.Errorf("compress %q is not known: use %s", c.Compress, strings.Join(all, ", "))
	}
	if status, both := c.Success.shared(c.Refused); both {
		return t, fmt.Errorf("status %d cannot be both success and refused: take it out of one", status)
	}
	for _, secret := range c.Secrets {
		if !httpclient.IsPlaceholder(secret) {
			return t, errors.New("a secret is written out: name one by a placeholder, as in {env.AUDIT_WEBHOOK_SECRET}")
		}
	}
	return t, nil
}

// own are the headers that say which entries a request has, and sign it.
var own = []string{headerInstance, headerFirst, headerLast, headerEntries, headerID, headerTimestamp, headerSignature}

func describe(location string) forwarder.Description {
	return forwarder.Description{Kind: "http", Location: location, Delivery: forwarder.DeliveryAtLeastOnce}
}

// batching is what suits the receiver.
func (c Config) batching() forwarder.Batching {
	if c.MaxBody == 0 {
		return httpclient.Batching(forwarder.DefaultBatchBytes)
	}
	// What comes between the entries is a byte for each.
	return httpclient.Batching(c.MaxBody - httpclient.MaxBatchEntries - 2)
}
