package operator

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// HoldOrder is the body of a POST to HoldPath.
type HoldOrder struct {
	// Do is "set" or "release".
	Do string `json:"do"`
	// Hold is what is set; of one that is released only the ID counts.
	Hold forwarder.Hold `json:"hold"`
	// Reason is why; the audit log keeps it.
	Reason string `json:"reason"`
}

// HoldAnswer says what became of it.
type HoldAnswer struct {
	ID string `json:"id"`
	// Stores are those that follow it, and NotHeld those that do not enforce retention
	// themselves: there, the entries go when that store's own rules say so.
	Stores  []string `json:"stores"`
	NotHeld []string `json:"not_held,omitempty"`
}

// What a HoldOrder may say to do.
const (
	DoSet     = "set"
	DoRelease = "release"

	maxHoldText = 400
	// MaxReason bounds the reason of an order, of any, in bytes.
	MaxReason = 1000
)

// Check says what is wrong with an order.
func (o *HoldOrder) Check() error {
	h := &o.Hold
	switch {
	case o.Do != DoSet && o.Do != DoRelease:
		return fmt.Errorf("do %q: it is set or release", o.Do)
	case o.Reason == "" || len(o.Reason) > MaxReason || !utf8.ValidString(o.Reason):
		return fmt.Errorf("give a reason of up to %d bytes, which the audit log keeps", MaxReason)
	case o.Do == DoRelease && h.ID == "":
		return errors.New("name the hold that is released: caddy audit retention hold list shows them")
	case o.Do == DoSet && h.Organization == "" && h.Actor == "" && h.From.IsZero() && h.To.IsZero():
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
