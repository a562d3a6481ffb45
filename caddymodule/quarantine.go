package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// quarantine keeps an entry that a store will never take, and records that, unless it is
// one of the sidecar's own: a store that takes nothing of the kind would refuse what tells
// of it as well, for ever. The log, status and metrics tell of those.
func (s *shared) quarantine(store string, sequence uint64, reason string, payload []byte) error {
	q := buffer.Quarantined{
		Store: store, Sequence: sequence, Instance: s.buf.Instance(sequence), At: time.Now(), Reason: reason, Payload: payload,
	}
	if err := s.buf.Quarantine(q); err != nil {
		return err
	}
	facts := map[string]any{"store": store, "sequence": sequence, "instance": q.Instance, "reason": display.Printable(reason[:min(len(reason), 512)])}
	if e, err := audit.Decode(payload); err == nil {
		if e.IsEvent() {
			return nil
		}
		facts["entry_id"], facts["revision"] = e.ID, e.Revision
	}
	s.event(audit.EventQuarantined, facts)
	return nil
}

// maxResolve bounds how many entries one order names.
const maxResolve = 10_000

// serveQuarantine lists what is in quarantine, of one store if it is named, and one
// entry if its sequence is.
func (a *App) serveQuarantine(w http.ResponseWriter, r *http.Request) error {
	s, err := a.hold()
	if err != nil {
		return err
	}
	defer s.release()
	var only uint64
	if v := r.URL.Query().Get("sequence"); v != "" {
		if only, err = strconv.ParseUint(v, 10, 64); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("sequence %q is not a number", v)}
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		return operator.EachQuarantined(s.buf, r.URL.Query().Get("store"), only, func(l operator.QuarantinedLine) error {
			line, err := json.Marshal(l)
			if err != nil {
				return err
			}
			return emit(line)
		})
	})
}

// checkResolve says what is wrong with an order.
func (a *App) checkResolve(o *operator.QuarantineOrder) error {
	switch {
	case o.Do != operator.DoRetry && o.Do != operator.DoDrop:
		return fmt.Errorf("do %q: it is retry or drop", o.Do)
	case o.Store == "":
		return errors.New("name the store whose entries are meant")
	case o.Do == operator.DoRetry && !a.stores.Has(o.Store):
		return fmt.Errorf("there is no store %q in the configuration that could be tried", o.Store)
	case o.Do == operator.DoDrop && (o.Reason == "" || len(o.Reason) > operator.MaxReason || !utf8.ValidString(o.Reason)):
		return fmt.Errorf("dropping entries: give a reason of up to %d bytes, which the audit log keeps", operator.MaxReason)
	case len(o.Sequences) > maxResolve:
		return fmt.Errorf("%d sequences: name up to %d, or none for all", len(o.Sequences), maxResolve)
	}
	return nil
}

// serveResolve tries entries in quarantine once more, or gives them up.
func (a *App) serveResolve(w http.ResponseWriter, r *http.Request) error {
	var o operator.QuarantineOrder
	err := readOrder(w, r, 1<<20, &o)
	if err == nil {
		err = a.checkResolve(&o)
	}
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("resolving quarantine: %w", err)}
	}
	s, err := a.hold()
	if err != nil {
		return err
	}
	defer s.release()
	if len(o.Sequences) == 0 {
		err = s.buf.Quarantined(o.Store, 0, func(q buffer.Quarantined) bool {
			o.Sequences = append(o.Sequences, q.Sequence)
			return len(o.Sequences) < maxResolve
		})
		if err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		for _, sequence := range o.Sequences {
			if err := r.Context().Err(); err != nil {
				return err
			}
			result, err := a.resolve(r.Context(), s, &o, sequence)
			line, encodeErr := json.Marshal(result)
			if encodeErr != nil {
				return encodeErr
			}
			if err := emit(line); err != nil {
				return err
			}
			if err != nil && o.Do == operator.DoRetry && !stores.IsRefused(err) && !errors.Is(err, buffer.ErrNotQuarantined) && !errors.Is(err, errResolving) {
				return nil // it is the store, which would be asked for nothing
			}
		}
		return nil
	})
}

// errResolving says that somebody else is at an entry.
var errResolving = errors.New("another order is about it just now")

// quarantinedEntry is what names one.
type quarantinedEntry struct {
	store    string
	sequence uint64
}

// resolve carries an order out for one entry. Two orders about it do not meet, or the
// log would say of an entry that its store has got that it was dropped.
func (a *App) resolve(ctx context.Context, s *shared, o *operator.QuarantineOrder, sequence uint64) (operator.ResolvedLine, error) {
	entry := quarantinedEntry{o.Store, sequence}
	if _, busy := s.resolving.LoadOrStore(entry, true); busy {
		return operator.ResolvedLine{Sequence: sequence, Result: "kept", Error: errResolving.Error()}, errResolving
	}
	defer s.resolving.Delete(entry)
	as, result := buffer.ResolvedDropped, "dropped"
	var err error
	if o.Do == operator.DoRetry {
		as, result = buffer.ResolvedDelivered, "delivered"
		err = a.retry(ctx, s, o.Store, sequence)
	}
	if err == nil {
		err = s.buf.Resolve(o.Store, sequence, as, o.Reason)
	}
	if err != nil {
		return operator.ResolvedLine{Sequence: sequence, Result: "kept", Error: err.Error()}, err
	}
	return operator.ResolvedLine{Sequence: sequence, Result: result}, nil
}

// retry writes an entry in quarantine to its store.
func (a *App) retry(ctx context.Context, s *shared, store string, sequence uint64) error {
	var q *buffer.Quarantined
	err := s.buf.Quarantined(store, sequence, func(x buffer.Quarantined) bool {
		if x.Sequence == sequence {
			x.Payload = slices.Clone(x.Payload)
			q = &x
		}
		return false
	})
	if err != nil {
		return err
	}
	if q == nil {
		return buffer.ErrNotQuarantined
	}
	i := a.stores.Index(store)
	if i < 0 || i >= len(a.deliveries) {
		return fmt.Errorf("the store %q is not running", store)
	}
	return a.deliveries[i].forwarder.Retry(ctx, q.Instance, q.Sequence, q.Payload)
}
