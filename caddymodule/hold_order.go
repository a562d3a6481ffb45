package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// holdOrder is the body of a POST to holdPath.
type holdOrder struct {
	// Do is "set" or "release".
	Do string `json:"do"`
	// Hold is what is set; of one that is released only the ID counts.
	Hold forwarder.Hold `json:"hold"`
	// Reason is why; the audit log keeps it.
	Reason string `json:"reason"`
}

// holdAnswer says what became of it.
type holdAnswer struct {
	ID string `json:"id"`
	// Stores are those that follow it, and NotHeld those that do not enforce retention
	// themselves: there, the entries go when that store's own rules say so.
	Stores  []string `json:"stores"`
	NotHeld []string `json:"not_held,omitempty"`
}

const (
	doSet     = "set"
	doRelease = "release"

	maxHoldText = 400
)

func (o *holdOrder) check() error {
	h := &o.Hold
	switch {
	case o.Do != doSet && o.Do != doRelease:
		return fmt.Errorf("do %q: it is set or release", o.Do)
	case o.Reason == "" || len(o.Reason) > maxPassReason || !utf8.ValidString(o.Reason):
		return fmt.Errorf("give a reason of up to %d bytes, which the audit log keeps", maxPassReason)
	case o.Do == doRelease && h.ID == "":
		return errors.New("name the hold that is released: caddy audit retention hold list shows them")
	case o.Do == doSet && h.Organization == "" && h.Actor == "" && h.From.IsZero() && h.To.IsZero():
		return errors.New("say what is held: an organization, an actor, or a time")
	case !h.From.IsZero() && !h.To.IsZero() && !h.From.Before(h.To):
		return errors.New("its time ends before it begins")
	}
	for _, text := range []string{h.ID, h.Organization, h.Actor} {
		if len(text) > maxHoldText || !utf8.ValidString(text) {
			return fmt.Errorf("its id, organization and actor are texts of up to %d bytes", maxHoldText)
		}
	}
	return nil
}

// serveHold sets or releases a hold, in every store that enforces retention itself. One
// that is set holds before the answer leaves; that it was is an entry.
func (a *App) serveHold(w http.ResponseWriter, r *http.Request) error {
	var o holdOrder
	err := readOrder(w, r, 64<<10, &o)
	if err == nil {
		err = o.check()
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

func (a *App) orderHold(ctx context.Context, o *holdOrder) (answer holdAnswer, err error) {
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
	answer = holdAnswer{ID: o.Hold.ID, Stores: []string{}, NotHeld: a.stores.NotKept()}
	if o.Do == doRelease {
		// Before anything can expire for it.
		s.event(audit.EventHold, facts)
	}
	err = a.ledgers(func(name string, d *delivery) error {
		err := d.store.keep(func(k forwarder.Keeper) error {
			if o.Do == doSet {
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
	if o.Do == doSet {
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
