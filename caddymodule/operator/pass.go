package operator

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxPass bounds an order to let calls pass: a fault that lasts for longer wants another
// decision.
const MaxPass = 24 * time.Hour

// PassOrder is the body of a POST to PassPath.
type PassOrder struct {
	// Seconds is for how long calls may pass; zero ends an order.
	Seconds float64 `json:"seconds"`
	// Reason is what the entry says, up to MaxReason bytes.
	Reason string `json:"reason"`
}

// Duration is for how long calls may pass.
func (o *PassOrder) Duration() time.Duration { return time.Duration(o.Seconds * float64(time.Second)) }

// Check says what is wrong with an order.
func (o *PassOrder) Check() error {
	d := o.Duration()
	switch {
	case d < 0 || d > MaxPass:
		return fmt.Errorf("letting calls pass for %s: give a time of up to %s", d, MaxPass)
	case d > 0 && o.Reason == "":
		return errors.New("letting calls pass: give a reason, which the audit log keeps")
	case len(o.Reason) > MaxReason || !utf8.ValidString(o.Reason):
		return fmt.Errorf("letting calls pass: the reason must be a text of up to %d bytes", MaxReason)
	}
	return nil
}

// PassAnswer says until when calls may pass; zero if they may not.
type PassAnswer struct {
	Until time.Time `json:"until,omitzero"`
}
