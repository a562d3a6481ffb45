package httpstore

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"regexp"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

func init() {
	caddy.RegisterModule(new(Module))
}

// Module is the audit store "http": batches of entries are sent to a URL, as JSON, and
// signed as the Standard Webhooks specification says. Its delivery is at least once.
//
// Placeholders are {env.NAME} and {file.PATH}. They are replaced for each request, so
// that a credential that was renewed is used at once.
type Module struct {
	// URL that takes the entries. Its scheme and host are written out; placeholders may
	// stand for its user and password, in its path and in its query, and are escaped.
	// There is no default.
	URL string `json:"url"`
	// Method is POST, PUT or PATCH. Default: POST.
	Method string `json:"method,omitempty"`
	// Headers are sent with each request. A value whose header's name suggests a
	// credential must hold a placeholder.
	Headers []Header `json:"headers,omitempty"`
	// Secrets sign each request, all of them. Each is a placeholder for a whsec_ or
	// whsk_ secret. Default: requests are not signed.
	Secrets []string `json:"secrets,omitempty"`
	// Encoding of the body: json, an array, or ndjson, an entry a line. Default: json.
	Encoding string `json:"encoding,omitempty"`
	// Compress is gzip, zstd or none. Default: gzip.
	Compress string `json:"compress,omitempty"`
	// Timeout of one request. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Success has the statuses, and ranges of them, that say that the batch has
	// arrived. Default: 200-299.
	Success []string `json:"success,omitempty"`
	// Refused has the statuses that say that a batch will never be taken for what is
	// in it. Its entries are then tried apart. Default: 400, 413 and 422.
	Refused []string `json:"refused,omitempty"`
	// MaxBody is the largest body that the receiver takes, in bytes before it is
	// compressed. Default: batches have up to 4 MiB.
	MaxBody int64 `json:"max_body,omitempty"`
	// Proxy is an http:// or socks5:// URL, or none. Default: what the environment says.
	Proxy string `json:"proxy,omitempty"`
	// TLS names the files of certificates.
	TLS TLS `json:"tls,omitzero"`
	// Insecure allows an http:// URL whose host is not this one. Default: refused.
	Insecure bool `json:"insecure,omitempty"`

	config Config
	target target
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.http", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store http <url> {
//		encoding json|ndjson
//		compress gzip|zstd|none
//		header   <name> <value>
//		secret   <placeholder...>
//		method   POST|PUT|PATCH
//		timeout  <duration>
//		success  <status...>
//		refused  <status...>
//		max_body <size>
//		proxy    <url>|none
//		tls {
//			ca                 <file>
//			client_certificate <file> <key file>
//			server_name        <name>
//		}
//		insecure
//	}
//
// header and secret may be repeated.
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if !d.AllArgs(&m.URL) {
		return d.Errf("store http takes one argument, the URL that takes the entries, as in: store http https://siem.example.com/ingest")
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] && option != "header" && option != "secret" {
			return d.Errf("there is a %s already: remove one", option)
		}
		seen[option] = true
		if err := m.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	return nil
}

func (m *Module) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "header":
		var h Header
		if !d.AllArgs(&h.Name, &h.Value) {
			return d.Errf("header takes a name and a value, as in: header Authorization \"Bearer {env.AUDIT_TOKEN}\"")
		}
		m.Headers = append(m.Headers, h)
		return nil
	case "secret", "success", "refused":
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("%s takes one argument or more", option)
		}
		list := map[string]*[]string{"secret": &m.Secrets, "success": &m.Success, "refused": &m.Refused}[option]
		*list = append(*list, args...)
		return nil
	case "insecure":
		if d.NextArg() {
			return d.Errf("insecure takes no argument")
		}
		m.Insecure = true
		return nil
	case "tls":
		return m.unmarshalTLS(d)
	case "encoding", "compress", "method", "timeout", "max_body", "proxy":
		var value string
		if !d.AllArgs(&value) {
			return d.Errf("%s takes one argument", option)
		}
		return m.unmarshalValue(d, option, value)
	}
	return d.Errf("%q is not an option of store http: it knows encoding, compress, header, secret, method, timeout, success, refused, max_body, proxy, tls, insecure", option)
}

// sizeForm wants a unit: a bare number is more often a mistake than a count of bytes.
var sizeForm = regexp.MustCompile(`^[0-9.]+ ?[KMGkmg]i?[Bb]$`)

func (m *Module) unmarshalValue(d *caddyfile.Dispenser, option, value string) error {
	switch option {
	case "encoding":
		m.Encoding = value
	case "compress":
		m.Compress = value
	case "method":
		m.Method = value
	case "proxy":
		m.Proxy = value
	case "timeout":
		timeout, err := caddy.ParseDuration(value)
		if err != nil || timeout <= 0 {
			return d.Errf("timeout %q is not a duration above zero: write it as in 30s", value)
		}
		m.Timeout = caddy.Duration(timeout)
	case "max_body":
		size, err := humanize.ParseBytes(value)
		if err != nil || !sizeForm.MatchString(value) || size == 0 || size > math.MaxInt32 {
			return d.Errf("max_body %q is not a size: give it a unit, as in 1MiB", value)
		}
		m.MaxBody = int64(size)
	}
	return nil
}

func (m *Module) unmarshalTLS(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("tls takes no argument: put its options into a block")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var ok bool
		switch option {
		case "ca":
			ok = d.AllArgs(&m.TLS.CA)
		case "client_certificate":
			ok = d.AllArgs(&m.TLS.Certificate, &m.TLS.Key)
		case "server_name":
			ok = d.AllArgs(&m.TLS.ServerName)
		default:
			return d.Errf("%q is not an option of tls: it knows ca, client_certificate, server_name", option)
		}
		if !ok {
			return d.Errf("tls %s: write it as one of ca <file>, client_certificate <file> <key file>, server_name <name>", option)
		}
	}
	return nil
}

// Provision checks the configuration. It reads no credential.
func (m *Module) Provision(caddy.Context) error {
	if err := m.provision(); err != nil {
		return fmt.Errorf("store http: %w", err)
	}
	return nil
}

func (m *Module) provision() error {
	success, err := ParseStatuses(m.Success...)
	if err != nil {
		return fmt.Errorf("success: %w", err)
	}
	refused, err := ParseStatuses(m.Refused...)
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	if m.MaxBody < 0 || m.MaxBody > math.MaxInt32 {
		return fmt.Errorf("max_body %d is out of range: give a number of bytes below 2 GiB", m.MaxBody)
	}
	for _, file := range []*string{&m.TLS.CA, &m.TLS.Certificate, &m.TLS.Key} {
		if *file == "" {
			continue
		}
		name, err := caddy.NewReplacer().ReplaceOrErr(*file, true, true)
		if err != nil {
			return fmt.Errorf("tls file %q: %w", *file, err)
		}
		if *file, err = filepath.Abs(name); err != nil {
			return fmt.Errorf("tls file %q: %w", name, err)
		}
	}
	m.config = Config{
		URL: m.URL, Method: m.Method, Headers: m.Headers, Secrets: m.Secrets, Encoding: m.Encoding, Compress: m.Compress,
		Timeout: time.Duration(m.Timeout), Success: success, Refused: refused, MaxBody: int(m.MaxBody), Proxy: m.Proxy,
		TLS: m.TLS, Insecure: m.Insecure, Resolve: placeholder.Replace,
	}.withDefaults()
	m.target, err = m.config.check()
	return err
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return m.config.describe(m.target) }

// Batching implements forwarder.BatchOpener.
func (m *Module) Batching() forwarder.Batching { return m.config.batching() }

// Open implements forwarder.Opener.
func (m *Module) Open(_ context.Context, log *slog.Logger) (forwarder.Store, error) {
	return Open(m.config, log)
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Module)(nil)
	_ caddyfile.Unmarshaler = (*Module)(nil)
	_ forwarder.Opener      = (*Module)(nil)
	_ forwarder.BatchOpener = (*Module)(nil)
)
