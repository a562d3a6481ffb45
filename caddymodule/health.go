package caddymodule

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

func init() {
	caddy.RegisterModule(Health{})
	httpcaddyfile.RegisterHandlerDirective("audit_log_health", parseHealth)
	httpcaddyfile.RegisterDirectiveOrder("audit_log_health", httpcaddyfile.Before, "reverse_proxy")
}

// Health answers the probes of whoever runs this process: 200, as long as the process runs
// and this configuration is loaded. The state of the buffer stands in the body, and never
// changes the status: while the buffer is full or its disk fails, calls that a rule excludes
// go on, or all of them where they may pass; and what is refused is refused by each of a fleet
// alike, so that taking one away from its load balancer, or killing it, helps nobody.
//
// It belongs on a listener of its own, such as that of the metrics. What it answers says
// nothing of calls or of whose they are.
type Health struct{}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.audit_log_health", New: func() caddy.Module { return new(Health) }}
}

// parseHealth reads the directive. Syntax:
//
//	audit_log_health [<matcher>]
func parseHealth(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	d := helper.Dispenser
	d.Next() // consume directive name
	if d.NextArg() {
		return nil, d.Errf("audit_log_health takes no argument %q: write a matcher before it, as in: audit_log_health /healthz", d.Val())
	}
	if d.NextBlock(0) {
		return nil, d.Errf("audit_log_health has no option %q", d.Val())
	}
	return new(Health), nil
}

// The states of the buffer, as a probe sees them.
const (
	healthOK      = "ok"
	healthFull    = "full"
	healthFailing = "failing"
	healthSlow    = "slow"
	// healthClosed is before the audit log has started, or after it has ended.
	healthClosed = "closed"
)

// health is what a probe is answered.
type health struct {
	// Status is always "ok": who can read it talks to a process that runs.
	Status string `json:"status"`
	Buffer string `json:"buffer"`
	// Used is the part of max_size that is in use, 0 to 1.
	Used float64 `json:"buffer_used"`
	// Passing says that calls pass unrecorded.
	Passing bool `json:"passing"`
}

func healthOf(app *App) health {
	h := health{Status: healthOK, Buffer: healthClosed}
	if app == nil {
		return h
	}
	if s := app.shared.Load(); s != nil {
		h = healthOfBuffer(s.buf.Stats())
	}
	return h
}

func healthOfBuffer(b buffer.Stats) health {
	h := health{Status: healthOK, Buffer: healthOK, Passing: b.Passing}
	if b.MaxBytes > 0 {
		h.Used = float64(b.Bytes*100/b.MaxBytes) / 100
	}
	switch {
	case b.Failing != nil:
		h.Buffer = healthFailing
	case b.Slow:
		h.Buffer = healthSlow
	case b.Bytes+reserveBytes > b.MaxBytes, b.FreeBytes >= 0 && b.FreeBytes < b.MinFreeBytes:
		h.Buffer = healthFull
	}
	return h
}

// ServeHTTP answers GET and HEAD; nothing behind it is asked.
func (Health) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	body, err := json.Marshal(healthOf(running.current()))
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(append(body, '\n')) // after an error there is nobody to tell
	}
	return nil
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = Health{}
