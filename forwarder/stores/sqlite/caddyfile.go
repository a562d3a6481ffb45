package sqlite

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func init() {
	caddy.RegisterModule(Module{})
}

// Module is the audit store "sqlite": one file on a local disk. It is for one
// instance; several instances that are to be read together need a server.
type Module struct {
	// Path of the database file. It is made with mode 0600 if it is not
	// there. Placeholders are replaced when it is loaded. Required.
	//
	// Caddyfile: store sqlite <path>
	Path string `json:"path"`
}

// CaddyModule returns the Caddy module information.
func (Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.sqlite", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store sqlite <path>
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if !d.AllArgs(&m.Path) {
		return d.Errf("store sqlite takes one argument, the path of its file, as in: store sqlite ./audit-data/audit.db")
	}
	for d.NextBlock(d.Nesting()) {
		return d.Errf("unrecognized option %q of store sqlite: it has none", d.Val())
	}
	return nil
}

// Provision replaces placeholders.
func (m *Module) Provision(caddy.Context) error {
	path, err := caddy.NewReplacer().ReplaceOrErr(m.Path, true, true)
	if err != nil {
		return fmt.Errorf("store sqlite: the path %q: %w", m.Path, err)
	}
	if path == "" {
		return fmt.Errorf("store sqlite: the path is empty: name a file, as in ./audit-data/audit.db")
	}
	if m.Path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("store sqlite: the path %q: %w", path, err)
	}
	return nil
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description {
	return forwarder.Description{Kind: "sqlite", Location: m.Path, Delivery: forwarder.DeliveryOnce}
}

// Open implements forwarder.Opener.
func (m *Module) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	return Open(ctx, Config{Path: m.Path}, log)
}

// OpenReader implements forwarder.ReaderOpener.
func (m *Module) OpenReader(ctx context.Context) (forwarder.ReadCloser, error) {
	return OpenReader(ctx, m.Path)
}

// OpenLedger implements forwarder.LedgerOpener.
func (m *Module) OpenLedger(ctx context.Context) (forwarder.LedgerCloser, error) {
	return OpenReader(ctx, m.Path)
}

// Interface guards
var (
	_ caddy.Provisioner      = (*Module)(nil)
	_ caddyfile.Unmarshaler  = (*Module)(nil)
	_ forwarder.Opener       = (*Module)(nil)
	_ forwarder.LedgerOpener = (*Module)(nil)
)
