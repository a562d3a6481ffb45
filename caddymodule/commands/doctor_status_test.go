package commands

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestWhatARunningServerSaysOfItselfIsFound(t *testing.T) {
	since := time.Now().Add(-time.Hour)
	store := func(change func(*operator.StatusStore)) func(*operator.Status) {
		return func(s *operator.Status) { change(&s.Stores[0]) }
	}
	for name, c := range map[string]struct {
		change func(*operator.Status)
		check  string
		state  doctor.State
		has    string
	}{
		"well":                {func(*operator.Status) {}, "calls", doctor.StateOK, "add up"},
		"well, too":           {func(*operator.Status) {}, "delivery", doctor.StateOK, "add up"},
		"calls are missing":   {func(s *operator.Status) { s.Calls.Holds = false }, "calls", doctor.StateWrong, "do not add up"},
		"its disk fails":      {func(s *operator.Status) { s.Failing = "input/output error" }, "calls", doctor.StateWrong, "input/output error"},
		"its disk is slow":    {func(s *operator.Status) { s.Slow = true }, "calls", doctor.StateWrong, "max_wait"},
		"it is full":          {func(s *operator.Status) { s.BufferBytes = s.BufferMaxBytes }, "calls", doctor.StateWrong, "the buffer is full"},
		"it is nearly full":   {func(s *operator.Status) { s.BufferBytes = s.BufferMaxBytes * 9 / 10 }, "calls", doctor.StateWarning, "nearly full"},
		"its disk is full":    {func(s *operator.Status) { s.FreeBytes = 1 }, "calls", doctor.StateWrong, "leaves 256 MiB to others"},
		"calls pass":          {func(s *operator.Status) { s.PassingSince = &since }, "calls", doctor.StateWrong, "pass unrecorded"},
		"calls may pass":      {func(s *operator.Status) { s.PassUntil = &since }, "calls", doctor.StateWarning, "by order"},
		"entries are damaged": {func(s *operator.Status) { s.Damaged = 7 }, "calls", doctor.StateWarning, "7 entries were found damaged"},
		"calls were refused":  {func(s *operator.Status) { s.Calls.Refused = 3 }, "calls", doctor.StateOK, "3 calls were refused"},
		"strangers":           {func(s *operator.Status) { s.StrangersBytes = s.StrangersMaxBytes }, "calls", doctor.StateWarning, "used up their share"},
		"entries wait":        {func(s *operator.Status) { s.OldestPendingSeconds = 301 }, "delivery", doctor.StateWarning, "waits for a store since 5m1s"},
		"entries are missing": {store(func(s *operator.StatusStore) { s.Holds = false }), "delivery", doctor.StateWrong, "do not add up"},
		"a store fails":       {store(func(s *operator.StatusStore) { s.FailingSince, s.LastError = &since, "no route to host" }), "delivery", doctor.StateWrong, "no route to host"},
		"quarantine":          {store(func(s *operator.StatusStore) { s.Quarantined = 2 }), "delivery", doctor.StateWarning, "refuses 2 entries"},
		"nearly detached":     {store(func(s *operator.StatusStore) { s.PendingBytes, s.MaxPendingBytes = 9, 10 }), "delivery", doctor.StateWarning, "about to be detached"},
		"was taken away":      {store(func(s *operator.StatusStore) { s.Configured = false }), "delivery", doctor.StateWarning, "not in the configuration any more"},
	} {
		s := &operator.Status{
			Live: true, BufferMaxBytes: 8 << 30, FreeBytes: 100 << 30, MinFreeBytes: 256 << 20, StrangersMaxBytes: 800 << 20, Calls: operator.StatusCalls{Holds: true},
			Stores: []operator.StatusStore{{Name: "sqlite", Holds: true, Configured: true}},
		}
		s.Calls.Seen = 100
		c.change(s)
		d := &examination{status: s}
		r := new(doctor.Report)
		r.Add("calls", checkCalls(t.Context(), d))
		r.Add("delivery", checkDelivery(t.Context(), d))
		var f *doctor.Diagnosis
		for i := range r.Findings {
			if one := &r.Findings[i]; one.Check == c.check && strings.Contains(one.Seen, c.has) {
				f = one
			}
		}
		if f == nil || f.State != c.state || c.state != doctor.StateOK && f.Cure == "" {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
	now := time.Now()
	gap := func(ago time.Duration) liveEntry {
		e := audit.Event(audit.EventGap, now.Add(-ago), map[string]any{"reason": "detached"})
		return liveEntry{Entry: e}
	}
	if list := gapFindings([]liveEntry{gap(25 * time.Hour), gap(time.Hour), {Entry: audit.Event(audit.EventHeartbeat, now, nil)}}, now); len(list) != 1 ||
		list[0].State != doctor.StateWarning || !strings.Contains(list[0].Seen, "detached") {
		t.Errorf("gaps: %+v", list)
	}
	for _, look := range []func(context.Context, *examination) []doctor.Diagnosis{checkCalls, checkDelivery} {
		if list := look(t.Context(), new(examination)); len(list) != 1 || list[0].State != doctor.StateNotKnown {
			t.Errorf("without a server: %+v", list)
		}
	}
}
