package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// servePass lets calls pass for a time that cannot be recorded, or ends that. What
// can be recorded still is.
func (a *App) servePass(w http.ResponseWriter, r *http.Request) error {
	var o operator.PassOrder
	bad := func(format string, args ...any) error {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf(format, args...)}
	}
	if err := readOrder(w, r, 64<<10, &o); err != nil {
		return bad("%w", err)
	}
	if err := o.Check(); err != nil {
		return bad("%w", err)
	}
	d := o.Duration()
	s := a.shared.Load()
	if s == nil {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the audit buffer is not open")}
	}
	answer := s.orderPass(d, o.Reason)
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// orderPass lets calls pass for d, or ends that with zero. It ends by itself.
func (s *shared) orderPass(d time.Duration, reason string) (answer operator.PassAnswer) {
	s.mu.Lock()
	if s.passEnds != nil {
		s.passEnds.Stop()
		s.passEnds = nil
	}
	facts := map[string]any{"state": "withdrawn"}
	if d > 0 {
		answer.Until = time.Now().Add(d)
		facts = map[string]any{"state": "begun", "until": answer.Until.UTC().Format(time.RFC3339), "reason": reason}
		s.passEnds = time.AfterFunc(d, func() { s.passEnded(answer.Until) })
	} else if reason != "" {
		facts["reason"] = reason
	}
	s.buf.PassUntil(answer.Until)
	s.mu.Unlock()
	s.log().Warn("whether calls may pass unrecorded was ordered", "state", facts["state"], "until", answer.Until, "reason", reason)
	go s.passEvent(facts) // the disk may be what this is about
	return answer
}

// resumePass goes on with an order that was given before a restart.
func (s *shared) resumePass() {
	until := s.buf.Ordered()
	if until.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until = time.Now().Add(min(time.Until(until), operator.MaxPass)) // whatever the clock did meanwhile
	s.buf.PassUntil(until)
	s.passEnds = time.AfterFunc(time.Until(until), func() { s.passEnded(until) })
}

// passEnded ends an order whose time is over, by the clock that does not jump.
// It reports nothing of one that another order has taken the place of.
func (s *shared) passEnded(until time.Time) {
	s.mu.Lock()
	if is := s.buf.Ordered(); !is.IsZero() && !is.Equal(until.Truncate(time.Microsecond)) {
		s.mu.Unlock()
		return
	}
	s.buf.PassUntil(time.Time{})
	s.mu.Unlock()
	s.passEvent(map[string]any{"state": "ended"})
}

func (s *shared) passEvent(facts map[string]any) {
	if !s.hold() {
		return // the buffer is closed; the next start goes on
	}
	defer s.release()
	s.event(audit.EventPass, facts)
}
