package caddymodule

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/page"
)

// Join implements the page's Log.
func (a *App) Join(ctx caddy.Context, v *page.Viewer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.viewers = append(a.viewers, v)
	a.http = httpApp(ctx)
}

// Identify implements the page's Log, by the means of the sites: the first that verifies the
// credential counts.
func (a *App) Identify(r *http.Request) (*audit.Caller, error) {
	s, err := a.hold()
	if err != nil {
		return nil, err
	}
	defer s.release()
	call := snapshot(r, time.Now(), nil)
	var first *audit.Caller
	for _, h := range a.handlers {
		c := h.deriver(s.key).Caller(call)
		if c.Question.Asks() && h.lookups != nil {
			// What the service says is remembered, and found then.
			if _, _, ok := h.lookups.Ask(c.Question).Wait(r.Context()); ok {
				c = h.deriver(s.key).Caller(call)
			}
		}
		if c.Actor.IsVerified() {
			return c, nil
		}
		if first == nil {
			first = c
		}
	}
	if first == nil {
		first = (&audit.Deriver{Platform: audit.Generic(), Key: s.key}).Caller(call)
	}
	return first, nil
}

// Record implements the page's Log.
func (a *App) Record(e *audit.Entry) error {
	payload, err := e.Encode()
	if err != nil {
		return err
	}
	s, err := a.hold()
	if err != nil {
		return err
	}
	defer s.release()
	return s.buf.Append(payload)
}

// Plan implements the page's Log.
func (a *App) Plan(organization string) (string, bool) {
	s, err := a.hold()
	if err != nil {
		return "", false
	}
	defer s.release()
	return s.directory.Plan(organization)
}

// SlugsStay implements the page's Log.
func (a *App) SlugsStay() bool {
	for _, h := range a.handlers {
		if h.platform.Name != "supabase" {
			return false
		}
	}
	return len(a.handlers) > 0
}

// CursorKey implements the page's Log.
func (a *App) CursorKey() (key [32]byte, err error) {
	s, err := a.hold()
	if err != nil {
		return key, err
	}
	defer s.release()
	return s.key.Derive("audit_log_viewer cursors")
}
