package otlp

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

// Module is the audit store "otlp": entries are sent to an OpenTelemetry Collector, or
// whatever else takes OTLP, as log records over http/protobuf. Its delivery is at least
// once.
//
// The URL is the base endpoint of an OTLP receiver, to which /v1/logs is appended, or has
// a path, which is then taken as it is. Placeholders are {env.NAME} and {file.PATH}. They
// are replaced for each request, so that a credential that was renewed is used at once.
type Module struct {
	httpclient.Options

	// Compress is gzip or none. Default: gzip.
	Compress string `json:"compress,omitempty"`

	config Config
	target httpclient.Target
}

// CaddyModule returns the Caddy module information.
func (*Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.otlp", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options, beside those of httpclient.Options. Syntax:
//
//	store otlp <url> {
//		compress gzip|none
//		…
//	}
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return m.Unmarshal(d, httpclient.Block{Kind: "otlp", Example: "https://collector.example.com:4318", Own: []httpclient.Own{
		{Name: "compress", Value: &m.Compress},
	}})
}

// Provision checks the configuration. It reads no credential.
func (m *Module) Provision(caddy.Context) error {
	client, err := m.Options.Config()
	if err == nil {
		m.config = Config{HTTP: client, Compress: m.Compress}.withDefaults()
		m.target, err = m.config.check()
	}
	if err != nil {
		return fmt.Errorf("store otlp: %w", err)
	}
	return nil
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
