package caddymodule

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
)

// quarantine keeps an entry that a store will never take, and records that. The entry
// that says so is not told of itself, or two stores that take nothing of the kind would
// go on for ever.
func (s *shared) quarantine(store string, sequence uint64, reason string, payload []byte) error {
	q := buffer.Quarantined{
		Store: store, Sequence: sequence, Instance: s.buf.Instance(sequence), At: time.Now(), Reason: reason, Payload: payload,
	}
	if err := s.buf.Quarantine(q); err != nil {
		return err
	}
	facts := map[string]any{"store": store, "sequence": sequence, "instance": q.Instance, "reason": printable(reason[:min(len(reason), 512)])}
	if e, err := audit.Decode(payload); err == nil {
		if e.Action.Code == audit.EventQuarantined {
			return nil
		}
		facts["entry_id"], facts["revision"] = e.ID, e.Revision
	}
	s.event(audit.EventQuarantined, facts)
	return nil
}
