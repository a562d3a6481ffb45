package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

func init() {
	caddy.RegisterModule(Module{})
}

// Module is the audit store "postgres": tables in a PostgreSQL database, for any number
// of instances. docs/postgres.md has its roles and how to read it in SQL.
type Module struct {
	// DSN says where the database is and who connects: a URL, as in
	// postgres://audit@db.example.com/audit?sslmode=verify-full, or keywords, as in
	// "host=db.example.com user=audit dbname=audit sslmode=verify-full". Several hosts,
	// separated by commas, are tried in turn; the one that can write is taken. sslmode
	// must be said unless all hosts are on this machine.
	//
	// Placeholders of the forms {env.NAME} and {file.PATH} are replaced before each
	// connection. It may be one placeholder and nothing else. A password must come from
	// one, or from a passfile. Required.
	//
	// Caddyfile: store postgres <dsn>
	DSN string `json:"dsn"`
	// Schema is that of the tables. It is made if it is not there. Default:
	// "caddy_audit".
	Schema string `json:"schema,omitempty"`
	// Migrate says whether the tables are made, and brought to the version of this
	// build, by the role of the DSN. With false that is another role's work, and this
	// one needs no more than to write. Default: true.
	Migrate *bool `json:"migrate,omitempty"`
	// Timeout bounds everything that is asked of the server, a batch for instance.
	// Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	location string
}

// CaddyModule returns the Caddy module information.
func (Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.postgres", New: func() caddy.Module { return new(Module) }}
}

// UnmarshalCaddyfile reads the store's options. Syntax:
//
//	store postgres <dsn> {
//		schema  <name>
//		migrate on|off
//		timeout <duration>
//	}
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume store name
	if !d.AllArgs(&m.DSN) {
		return d.Err("store postgres takes one argument, its DSN, as in: store postgres {env.AUDIT_DSN}")
	}
	if err := checkDSN(m.DSN); err != nil {
		return d.Errf("store postgres: %v", err)
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if seen[option] {
			return d.Errf("option %q of store postgres is there twice: leave one out", option)
		}
		seen[option] = true
		var value string
		if known := option == "schema" || option == "migrate" || option == "timeout"; !known {
			return d.Errf("unrecognized option %q of store postgres: it has schema, migrate and timeout", option)
		}
		if !d.AllArgs(&value) {
			return d.Errf("option %q of store postgres takes one argument", option)
		}
		switch option {
		case "schema":
			if err := schemaName(value); err != nil {
				return d.Errf("schema %q of store postgres: %v", value, err)
			}
			m.Schema = value
		case "migrate":
			if value != "on" && value != "off" {
				return d.Errf("migrate %q of store postgres: it is on or off", value)
			}
			on := value == "on"
			m.Migrate = &on
		case "timeout":
			timeout, err := caddy.ParseDuration(value)
			if err != nil || timeout <= 0 {
				return d.Errf("timeout %q of store postgres: give a duration, as in 30s", value)
			}
			m.Timeout = caddy.Duration(timeout)
		}
	}
	return nil
}

// Provision reads the DSN once, to say early what is wrong with it and where it leads.
// Nothing is connected to, and no credential is kept.
func (m *Module) Provision(caddy.Context) error {
	if m.DSN == "" {
		return errors.New("store postgres: its DSN is empty: give one, as in {env.AUDIT_DSN}")
	}
	if err := checkDSN(m.DSN); err != nil {
		return fmt.Errorf("store postgres: %w", err)
	}
	if m.Timeout < 0 {
		return errors.New("store postgres: its timeout is negative: give a duration, as in 30s")
	}
	s, err := newServer(m.config())
	if err != nil {
		return fmt.Errorf("store postgres: %w", err)
	}
	m.location = s.location
	return nil
}

func (m *Module) config() Config {
	return Config{
		DSN:    func() (string, error) { return expand(m.DSN, placeholder.Replace) },
		Schema: m.Schema, NoMigrate: m.Migrate != nil && !*m.Migrate, Timeout: time.Duration(m.Timeout),
	}
}

// Describe implements forwarder.Opener.
func (m *Module) Describe() forwarder.Description { return describe(m.location) }

// Open implements forwarder.Opener.
func (m *Module) Open(ctx context.Context, log *slog.Logger) (forwarder.Store, error) {
	return Open(ctx, m.config(), log)
}

// OpenReader implements forwarder.ReaderOpener.
func (m *Module) OpenReader(ctx context.Context) (forwarder.ReadCloser, error) {
	return OpenReader(ctx, m.config())
}

// OpenLedger implements forwarder.LedgerOpener.
func (m *Module) OpenLedger(ctx context.Context) (forwarder.LedgerCloser, error) {
	return OpenReader(ctx, m.config())
}

// Interface guards
var (
	_ caddy.Provisioner      = (*Module)(nil)
	_ caddyfile.Unmarshaler  = (*Module)(nil)
	_ forwarder.Opener       = (*Module)(nil)
	_ forwarder.LedgerOpener = (*Module)(nil)
)
