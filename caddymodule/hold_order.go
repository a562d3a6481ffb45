package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// serveHold sets or releases a hold, in every store that enforces retention itself. One
// that is set holds before the answer leaves; that it was is an entry.
func (a *App) serveHold(w http.ResponseWriter, r *http.Request) error {
	var o operator.HoldOrder
	err := readOrder(w, r, 64<<10, &o)
	if err == nil {
		err = o.Check()
	}
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("holding entries: %w", err)}
	}
	answer, err := a.orderHold(r.Context(), &o)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

func (a *App) orderHold(ctx context.Context, o *operator.HoldOrder) (answer operator.HoldAnswer, err error) {
	s, err := a.hold()
	if err != nil {
		return answer, err
	}
	defer s.release()
	o.Hold.ID = cmp.Or(o.Hold.ID, "hold-"+uuid.NewString()[:8])
	o.Hold.Reason, o.Hold.Since = o.Reason, time.Now().UTC()
	facts := map[string]any{"do": o.Do, "hold": o.Hold.ID, "reason": o.Reason}
	for name, value := range map[string]string{"organization": o.Hold.Organization, "actor": o.Hold.Actor} {
		if value != "" {
			facts[name] = value
		}
	}
	for name, t := range map[string]time.Time{"from": o.Hold.From, "to": o.Hold.To} {
		if !t.IsZero() {
			facts[name] = t.UTC().Format(time.RFC3339)
		}
	}
	answer = operator.HoldAnswer{ID: o.Hold.ID, Stores: []string{}, NotHeld: a.stores.NotKept()}
	if o.Do == operator.DoRelease {
		// Before anything can expire for it.
		s.event(audit.EventHold, facts)
	}
	err = a.ledgers(func(name string, d *delivery) error {
		err := d.store.keep(func(k forwarder.Keeper) error {
			if o.Do == operator.DoSet {
				return k.SetHold(ctx, o.Hold)
			}
			return k.ReleaseHold(ctx, o.Hold.ID)
		})
		if err != nil {
			return fmt.Errorf("store %q: %w: order it again with --id %s, which does it everywhere", name, err, o.Hold.ID)
		}
		answer.Stores = append(answer.Stores, name)
		return nil
	})
	if len(answer.Stores) == 0 && err == nil {
		err = errors.New("no configured store enforces retention itself, so nothing can be held: sqlite and postgres do")
	}
	if o.Do == operator.DoSet {
		facts["stores"] = answer.Stores
		if err != nil {
			facts["failed"] = true
		}
		s.event(audit.EventHold, facts)
	}
	if err != nil {
		return answer, fmt.Errorf("holding entries: %w", err)
	}
	return answer, nil
}
