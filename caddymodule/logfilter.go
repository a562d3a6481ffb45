package caddymodule

import (
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func init() {
	caddy.RegisterModule(URIFilter{})
}

// URIFilter is a filter of Caddy's log encoder "filter", for fields that hold
// a request's URI: it takes the query's values and the credentials in the path
// away, those of the sites' own shapes too. Caddy's own logs print both, for
// instance when the API is down.
type URIFilter struct{}

// CaddyModule returns the Caddy module information.
func (URIFilter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.filter.audit_log", New: func() caddy.Module { return new(URIFilter) }}
}

// filtered are the configurations that have the filter in some log, by the
// channel that is closed with them.
var filtered sync.Map

// filteredBy reports whether a log of the same configuration has the filter.
// Caddy sets logs up before apps.
func filteredBy(ctx caddy.Context) bool {
	_, ok := filtered.Load(ctx.Done())
	return ok
}

// Provision notes that the configuration has the filter.
func (*URIFilter) Provision(ctx caddy.Context) error {
	filtered.Store(ctx.Done(), true)
	ctx.OnCancel(func() { filtered.Delete(ctx.Done()) })
	return nil
}

// UnmarshalCaddyfile reads the filter, which has no options. Syntax:
//
//	<field> audit_log
func (*URIFilter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume filter name
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

// Filter implements logging.LogFieldFilter.
func (URIFilter) Filter(f zapcore.Field) zapcore.Field {
	if f.Type != zapcore.StringType {
		return f
	}
	f.String = audit.Supabase().RedactURI(f.String)
	if app := running.current(); app != nil {
		for _, h := range app.handlers {
			if len(h.Tokens) > 0 {
				f.String = h.platform.RedactURI(f.String)
			}
		}
	}
	return f
}

// Interface guards
var (
	_ caddy.Provisioner      = (*URIFilter)(nil)
	_ caddyfile.Unmarshaler  = (*URIFilter)(nil)
	_ logging.LogFieldFilter = URIFilter{}
)
