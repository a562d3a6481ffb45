package httpstore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
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
	httpclient.Options

	// Method is POST, PUT or PATCH. Default: POST.
	Method string `json:"method,omitempty"`
	// Secrets sign each request, all of them, so that one can be replaced by another. Each
	// is a placeholder for a whsec_ or whsk_ secret. Default: requests are not signed.
	Secrets []string `json:"secrets,omitempty"`
	// Encoding of the body: json, an array, or ndjson, an entry a line. Default: json.
	Encoding string `json:"encoding,omitempty"`
	// Compress is gzip, zstd or none. Default: gzip.
	Compress string `json:"compress,omitempty"`
	// Success has the statuses, and ranges of them, that say that the batch has
	// arrived. Default: 200-299.
	Success []string `json:"success,omitempty"`
	// Refused has the statuses that say that a batch will never be taken for what is
	// in it. Its entries are then tried apart. All others are tried again. Default: 400,
	// 413 and 422.
	Refused []string `json:"refused,omitempty"`

	config Config
	target httpclient.Target
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.http", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options, beside those of httpclient.Options. Syntax:
//
//	store http <url> {
//		encoding json|ndjson
//		compress gzip|zstd|none
//		secret   <placeholder...>
//		method   POST|PUT|PATCH
//		success  <status...>
//		refused  <status...>
//		…
//	}
//
// secret may be repeated.
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return m.Unmarshal(d, httpclient.Block{Kind: "http", Example: "https://siem.example.com/ingest", Own: []httpclient.Own{
		{Name: "encoding", Value: &m.Encoding},
		{Name: "compress", Value: &m.Compress},
		{Name: "secret", List: &m.Secrets, Repeated: true},
		{Name: "method", Value: &m.Method},
		{Name: "success", List: &m.Success},
		{Name: "refused", List: &m.Refused},
	}})
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
	client, err := m.Options.Config()
	if err != nil {
		return err
	}
	m.config = Config{
		URL: client.URL, Method: m.Method, Headers: client.Headers, Secrets: m.Secrets, Encoding: m.Encoding, Compress: m.Compress,
		Timeout: client.Timeout, Success: success, Refused: refused, MaxBody: client.MaxBody, Proxy: client.Proxy,
		TLS: client.TLS, Insecure: client.Insecure, Resolve: client.Resolve,
	}.withDefaults()
	m.target, err = m.config.check()
	return err
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return describe(m.target.Location()) }

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
