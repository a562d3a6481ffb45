package httpstore

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The bounds of a request, and the defaults of Config.
const (
	// DefaultTimeout is what one request may take, from the dial to the end of the
	// answer's head.
	DefaultTimeout = 30 * time.Second
	// MaxTimeout is the longest that may be configured.
	MaxTimeout = 10 * time.Minute
	// BatchEntries and BatchWait are the size of a batch while there is no backlog:
	// a request costs more than what is in it, so entries wait for others.
	BatchEntries = 250
	BatchWait    = time.Second
	// MaxBatchEntries is what batches grow to on a backlog.
	MaxBatchEntries = 1000
	// MinBody is the least MaxBody that may be configured, in bytes.
	MinBody = 64 << 10
)

// The encodings of a body.
const (
	// EncodingJSON is one JSON array, application/json.
	EncodingJSON = "json"
	// EncodingNDJSON is one entry a line, application/x-ndjson.
	EncodingNDJSON = "ndjson"
)

// The compressions of a body.
const (
	CompressGzip = "gzip"
	CompressZstd = "zstd"
	CompressNone = "none"
)

// ProxyNone is the Config.Proxy that goes to the receiver directly, whatever the
// environment says.
const ProxyNone = "none"

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
	Headers []Header
	// Secrets sign each request, all of them, so that one can be replaced by another
	// without a moment in which neither is known to the receiver. What each
	// placeholder stands for is a whsec_ or whsk_ secret of the Standard Webhooks
	// specification. Without one, requests are not signed.
	Secrets []string
	// Encoding is EncodingJSON, which empty is too, or EncodingNDJSON.
	Encoding string
	// Compress is CompressGzip, which empty is too, CompressZstd or CompressNone.
	Compress string
	// Timeout of one request. Zero is DefaultTimeout.
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
	// Proxy is an http:// or socks5:// URL, ProxyNone, or empty for what the environment
	// says (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
	Proxy string
	TLS   TLS
	// Insecure allows an http:// URL whose host is not this one.
	Insecure bool
	// Resolve returns what one placeholder stands for, and else an error that does
	// not show it. Nil knows none.
	Resolve func(placeholder string) (string, error)
}

// Header is one header of each request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TLS names files, in PEM. They are read again when they change.
type TLS struct {
	// CA has the certificates that the receiver's must come from. Empty is those that
	// the system trusts.
	CA string `json:"ca,omitempty"`
	// Certificate and Key are what this client shows to the receiver.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// ServerName is the name that the receiver's certificate must have. Empty is the
	// URL's host.
	ServerName string `json:"server_name,omitempty"`
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
		c.Compress = CompressGzip
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if len(c.Success) == 0 {
		c.Success = Statuses{{200, 299}}
	}
	if len(c.Refused) == 0 {
		c.Refused = Statuses{{400, 400}, {413, 413}, {422, 422}}
	}
	if c.Resolve == nil {
		c.Resolve = func(placeholder string) (string, error) {
			return "", fmt.Errorf("nothing replaces the placeholder %s here", placeholder)
		}
	}
	return c
}

// check says what is wrong with a configuration that has its defaults. No error shows
// a value that may be a credential.
func (c Config) check() (target, error) {
	t, err := parseTarget(c.URL)
	if err != nil {
		return target{}, err
	}
	if !t.encrypted() && !t.loopback() && !c.Insecure {
		return target{}, fmt.Errorf("%s is not encrypted: write https://, or the option insecure if the network may see every entry", t.location())
	}
	if methods := []string{http.MethodPost, http.MethodPut, http.MethodPatch}; !slices.Contains(methods, c.Method) {
		return target{}, fmt.Errorf("method %q is not one that takes a body: use %s", c.Method, strings.Join(methods, ", "))
	}
	if c.Encoding != EncodingJSON && c.Encoding != EncodingNDJSON {
		return target{}, fmt.Errorf("encoding %q is not known: use %s or %s", c.Encoding, EncodingJSON, EncodingNDJSON)
	}
	if c.Compress != CompressGzip && c.Compress != CompressZstd && c.Compress != CompressNone {
		return target{}, fmt.Errorf("compress %q is not known: use %s, %s or %s", c.Compress, CompressGzip, CompressZstd, CompressNone)
	}
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		return target{}, fmt.Errorf("timeout %s is out of range: use one up to %s", c.Timeout, MaxTimeout)
	}
	if c.MaxBody != 0 && c.MaxBody < MinBody {
		return target{}, fmt.Errorf("max_body is %d bytes: use %d or more", c.MaxBody, MinBody)
	}
	if status, both := c.Success.shared(c.Refused); both {
		return target{}, fmt.Errorf("status %d cannot be both success and refused: take it out of one", status)
	}
	for _, h := range c.Headers {
		if err := h.check(); err != nil {
			return target{}, err
		}
	}
	for _, secret := range c.Secrets {
		if !isPlaceholder(secret) {
			return target{}, errors.New("a secret is written out: name one by a placeholder, as in {env.AUDIT_WEBHOOK_SECRET}")
		}
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		return target{}, errors.New("a client certificate is two files: name that of the certificate and that of its key")
	}
	if c.TLS != (TLS{}) && !t.encrypted() {
		return target{}, fmt.Errorf("%s has no TLS: write https://, or take the tls options out", t.location())
	}
	return t, c.checkProxy(t)
}

// own are the headers that say what a request is, which the configuration may not.
var own = []string{
	"Host", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Connection",
	"Keep-Alive", "Proxy-Connection", "Expect", "Te", "Trailer", "Upgrade",
	headerInstance, headerFirst, headerLast, headerEntries,
	http.CanonicalHeaderKey(headerID), http.CanonicalHeaderKey(headerTimestamp), http.CanonicalHeaderKey(headerSignature),
}

func (h Header) check() error {
	if !httpguts.ValidHeaderFieldName(h.Name) {
		return fmt.Errorf("header %q is not a name: use letters, digits and -", h.Name)
	}
	if slices.Contains(own, http.CanonicalHeaderKey(h.Name)) {
		return fmt.Errorf("header %s is set by this store itself: take it out", h.Name)
	}
	if err := checkPlaceholders(h.Value); err != nil {
		return fmt.Errorf("header %s: %w", h.Name, err)
	}
	if !httpguts.ValidHeaderFieldValue(h.Value) {
		return fmt.Errorf("header %s: its value has a control character: take it out", h.Name)
	}
	if !hasPlaceholder(h.Value) && (suggestsCredential(h.Name) || looksLikeCredential(h.Value)) {
		return fmt.Errorf("header %s is written out and may be a credential: give its value by a placeholder, as in {env.AUDIT_TOKEN}", h.Name)
	}
	return nil
}

// suggestsCredential reports whether what has such a name is likely to be secret.
func suggestsCredential(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"auth", "cookie", "key", "token", "secret", "password", "credential", "signature"},
		func(part string) bool { return strings.Contains(name, part) })
}

func looksLikeCredential(value string) bool {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	return rest != "" && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Basic"))
}

func (c Config) checkProxy(to target) error {
	if c.Proxy == "" || c.Proxy == ProxyNone {
		return nil
	}
	t, err := parseURL(c.Proxy, "http", "socks5")
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if t.path != "/" || t.query != "" {
		return fmt.Errorf("proxy %s has a path: a proxy is a scheme, a host and a port", t.location())
	}
	if !to.encrypted() && !t.loopback() && !c.Insecure {
		return fmt.Errorf("%s is not encrypted, and the proxy is not on this host: write https://, or the option insecure if the network may see every entry", to.location())
	}
	return nil
}

func (c Config) describe(t target) forwarder.Description {
	return forwarder.Description{Kind: "http", Location: t.location(), Delivery: forwarder.DeliveryAtLeastOnce}
}

// batching is what suits the receiver.
func (c Config) batching() forwarder.Batching {
	b := forwarder.Batching{
		BatchEntries: BatchEntries, MaxBatchEntries: MaxBatchEntries,
		BatchBytes: forwarder.DefaultBatchBytes, BatchWait: BatchWait,
	}
	if c.MaxBody > 0 {
		// What comes between the entries is a byte for each.
		b.BatchBytes = min(b.BatchBytes, c.MaxBody-MaxBatchEntries-2)
	}
	return b
}
