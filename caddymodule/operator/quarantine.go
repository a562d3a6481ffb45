package operator

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// QuarantinedLine is one entry in quarantine, as it is listed.
type QuarantinedLine struct {
	Store    string    `json:"store"`
	Sequence uint64    `json:"sequence"`
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	// Entry is the entry as the store would be given it. What is no JSON is in Raw.
	Entry json.RawMessage `json:"entry,omitempty"`
	Raw   []byte          `json:"raw,omitempty"`
}

func lineOf(q buffer.Quarantined) QuarantinedLine {
	l := QuarantinedLine{Store: q.Store, Sequence: q.Sequence, Instance: q.Instance, At: q.At, Reason: q.Reason}
	if r, err := forwarder.NewRecord(q.Instance, q.Sequence, q.Payload); err == nil {
		l.Entry = r.JSON
	} else {
		l.Raw = slices.Clone(q.Payload)
	}
	return l
}

// EachQuarantined calls do for what is in quarantine; an empty store is all, and so is
// sequence 0.
func EachQuarantined(b interface {
	Quarantined(store string, from uint64, visit func(buffer.Quarantined) bool) error
}, store string, sequence uint64, do func(QuarantinedLine) error,
) (err error) {
	readErr := b.Quarantined(store, sequence, func(q buffer.Quarantined) bool {
		if sequence == 0 || q.Sequence == sequence {
			err = do(lineOf(q))
		}
		return err == nil && (sequence == 0 || q.Sequence < sequence || store == "")
	})
	return errors.Join(err, readErr)
}

// QuarantineOrder is the body of a POST to ResolvePath.
type QuarantineOrder struct {
	Store string `json:"store"`
	// Sequences are the entries; none means all of the store.
	Sequences []uint64 `json:"sequences,omitempty"`
	// Do is "retry" or "drop".
	Do string `json:"do"`
	// Reason is why entries are dropped; the log keeps it.
	Reason string `json:"reason,omitempty"`
}

// What a QuarantineOrder may say to do.
const (
	DoRetry = "retry"
	DoDrop  = "drop"
)

// ResolvedLine says what became of one entry.
type ResolvedLine struct {
	Sequence uint64 `json:"sequence"`
	// Result is "delivered", "dropped" or "kept", and Error why it is kept.
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
}
