package httpclient

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/tlsfiles"
)

// The bounds of a request, and the defaults of Config.
const (
	// DefaultTimeout is what one request may take, from the dial to the end of the
	// answer's head.
	DefaultTimeout = 30 * time.Second
	// MaxTimeout is the longest that may be configured.
	MaxTimeout = 10 * time.Minute
	// MinBody is the least MaxBody that may be configured, in bytes.
	MinBody = 64 << 10
	// BatchEntries and BatchWait are the size of a batch while there is no backlog:
	// a request costs more than what is in it, so entries wait for others.
	BatchEntries = 250
	BatchWait    = time.Second
	// MaxBatchEntries is what batches grow to on a backlog.
	MaxBatchEntries = 1000
)

// Batching is what suits a receiver, where the JSON of a batch is bounded by bytes.
func Batching(bytes int) forwarder.Batching {
	return forwarder.Batching{
		BatchEntries: BatchEntries, MaxBatchEntries: MaxBatchEntries,
		BatchBytes: min(forwarder.DefaultBatchBytes, bytes), BatchWait: BatchWait,
	}
}

// ProxyNone is the Config.Proxy that goes to the receiver directly, whatever the
// environment says.
const ProxyNone = "none"

// Config of a Client. URL, the values of Headers and Proxy may hold placeholders,
// {env.NAME} and {file.PATH}. They are replaced for each request, so that a credential
// that was renewed is used at once.
type Config struct {
	// URL that requests are sent to. Placeholders may stand for its user and password,
	// in its path and in its query, where what they stand for is escaped; its scheme
	// and host are written out, because they are what the destination is known by.
	URL string
	// DefaultPath is the path of a URL that has none. Empty is "/".
	DefaultPath string
	// Headers are sent with each request, beside those that it has anyway.
	Headers []Header
	// OwnHeaders are the names of those that the store sets itself.
	OwnHeaders []string
	// Timeout of one request. Zero is DefaultTimeout.
	Timeout time.Duration
	// MaxBody bounds a request's body before it is compressed, in bytes: the store
	// divides its batches by it. Zero is no bound.
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
	// Name of the header. Required.
	Name string `json:"name"`
	// Value of the header, in which placeholders are replaced for each request. Required.
	Value string `json:"value"`
}

// TLS names files, in PEM. They are read again when they change.
type TLS = tlsfiles.Files

// WithDefaults fills in what is zero.
func (c Config) WithDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Resolve == nil {
		c.Resolve = func(placeholder string) (string, error) {
			return "", fmt.Errorf("nothing replaces the placeholder %s here", placeholder)
		}
	}
	return c
}

// Check says what is wrong with a configuration that has its defaults, and returns the
// destination. No error shows a value that may be a credential.
func (c Config) Check() (Target, error) {
	t, err := parseTarget(c.URL)
	if err != nil {
		return Target{}, err
	}
	if t.path == "/" && c.DefaultPath != "" {
		t.path = c.DefaultPath
	}
	if !t.encrypted() && !t.loopback() && !c.Insecure {
		return Target{}, fmt.Errorf("%s is not encrypted: write https://, or the option insecure if the network may see every entry", t.Location())
	}
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		return Target{}, fmt.Errorf("timeout %s is out of range: use one up to %s", c.Timeout, MaxTimeout)
	}
	if c.MaxBody != 0 && c.MaxBody < MinBody {
		return Target{}, fmt.Errorf("max_body is %d bytes: use %d or more", c.MaxBody, MinBody)
	}
	for _, h := range c.Headers {
		if err := h.check(c.OwnHeaders); err != nil {
			return Target{}, err
		}
	}
	if err := c.TLS.Check(); err != nil {
		return Target{}, err
	}
	if c.TLS != (TLS{}) && !t.encrypted() {
		return Target{}, fmt.Errorf("%s has no TLS: write https://, or take the tls options out", t.Location())
	}
	return t, c.checkProxy(t)
}

// own are the headers that say what a request is, which the configuration may not.
var own = []string{
	"Host", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Connection",
	"Keep-Alive", "Proxy-Connection", "Expect", "Te", "Trailer", "Upgrade",
}

func (h Header) check(store []string) error {
	if !httpguts.ValidHeaderFieldName(h.Name) {
		return fmt.Errorf("header %q is not a name: use letters, digits and -", h.Name)
	}
	name := http.CanonicalHeaderKey(h.Name)
	if slices.Contains(own, name) || slices.ContainsFunc(store, func(s string) bool { return http.CanonicalHeaderKey(s) == name }) {
		return fmt.Errorf("header %s is set by this store itself: take it out", h.Name)
	}
	if err := checkPlaceholders(h.Value); err != nil {
		return fmt.Errorf("header %s: %w", h.Name, err)
	}
	if !httpguts.ValidHeaderFieldValue(h.Value) {
		return fmt.Errorf("header %s: its value has a control character: take it out", h.Name)
	}
	if !HasPlaceholder(h.Value) && (suggestsCredential(h.Name) || looksLikeCredential(h.Value)) {
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

func (c Config) checkProxy(to Target) error {
	if c.Proxy == "" || c.Proxy == ProxyNone {
		return nil
	}
	t, err := parseURL(c.Proxy, "http", "socks5")
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if t.path != "/" || t.query != "" {
		return fmt.Errorf("proxy %s has a path: a proxy is a scheme, a host and a port", t.Location())
	}
	if !to.encrypted() && !t.loopback() && !c.Insecure {
		return fmt.Errorf("%s is not encrypted, and the proxy is not on this host: write https://, or the option insecure if the network may see every entry", to.Location())
	}
	return nil
}
