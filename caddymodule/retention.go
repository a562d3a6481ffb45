package caddymodule

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// retention is what deliveries need to stamp entries and to hold stores to that.
type retention struct {
	stamper  forwarder.Stamper // nil stamps nothing
	keep     *audit.Keep       // nil deletes nothing
	changes  func(after uint64) []forwarder.Change
	lastSeen time.Time
	buf      *buffer.Buffer
}

// retention is the configuration's, over a buffer.
func (a *App) retention(s *shared) retention {
	r := retention{stamper: s.directory, changes: s.changes, lastSeen: s.lastSeen, buf: s.buf}
	if a.Keep != nil {
		r.keep = &a.Keep.Keep
	}
	return r
}

// changes are the directory's, as a keeping asks for them.
func (s *shared) changes(after uint64) (all []forwarder.Change) {
	for _, c := range s.directory.Changes(after) {
		all = append(all, forwarder.Change{
			Number: c.Number, OrganizationID: c.OrganizationID, OrganizationSlug: c.OrganizationSlug, From: c.From, To: c.To,
		})
	}
	return all
}

// options are those of one store's keeping.
func (r retention) options(name string, log *slog.Logger) forwarder.KeepingOptions {
	return forwarder.KeepingOptions{
		Keep: r.keep, Stamper: r.stamper, Changes: r.changes, Notes: notes{r.buf, name}, LastSeen: r.lastSeen,
		Every: pruneEvery, LookEvery: lookEvery, Logger: log, OnPruned: func(p forwarder.Pruned) { observePruned(name, p) },
	}
}

// The pace of keeping; zero is its own. Tests are quicker.
var pruneEvery, lookEvery time.Duration

// ledgers calls do for each store that enforces retention and is open.
func (a *App) ledgers(do func(name string, d *delivery) error) error {
	a.mu.Lock()
	deliveries := slices.Clone(a.deliveries)
	a.mu.Unlock()
	for i, d := range deliveries {
		if d.keeping == nil {
			continue
		}
		if err := do(a.stores[i].Name, d); err != nil {
			return err
		}
	}
	return nil
}

// Retention implements the commands' Sidecar: how long entries are kept and may be read, by configuration.
func (a *App) Retention() *operator.Retention {
	k := &operator.Retention{Stores: a.stores, Readable: a.Readable, Plan: a.planOf}
	if a.Keep != nil {
		k.Keep = &a.Keep.Keep
	}
	return k
}

// planOf is the plan that an entry's organization has now, as far as this server knows it,
// and else the one that it had then.
func (a *App) planOf(e *audit.Entry) string {
	if s := a.shared.Load(); s != nil {
		for _, name := range []string{e.OrganizationID, e.OrganizationSlug} {
			if name == "" {
				continue
			}
			if plan, ok := s.directory.Plan(name); ok {
				return plan
			}
		}
	}
	if e.Retention != nil {
		return e.Retention.Plan
	}
	return ""
}

// serveRetention answers what `caddy audit retention` asks: a preview, or with an id why
// an entry is kept, or with receipts what has gone.
func (a *App) serveRetention(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	store := q.Get("store")
	var answer any
	var err error
	switch {
	case q.Has("id"):
		answer, err = a.Retention().Explain(r.Context(), store, q.Get("id"), time.Now())
	case q.Has("receipts"):
		return a.serveReceipts(w, r)
	default:
		before := time.Now()
		if v := q.Get("before"); v != "" {
			if before, err = time.Parse(time.RFC3339, v); err != nil {
				return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("before is not a time: write it as in 2026-01-31T00:00:00Z")}
			}
		}
		answer, err = a.Retention().Preview(r.Context(), store, before)
	}
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

func (a *App) serveReceipts(w http.ResponseWriter, r *http.Request) error {
	l, _, err := a.stores.OpenLedger(r.Context(), r.URL.Query().Get("store"))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	defer l.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		return operator.EachReceipt(r.Context(), l, emit)
	})
}

func (a *App) serveVerify(w http.ResponseWriter, r *http.Request) error {
	v, err := operator.Verify(r.Context(), a.stores, r.URL.Query().Get("store"))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}
