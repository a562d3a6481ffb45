package caddymodule

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestWhatARunningServerSaysOfItselfIsFound(t *testing.T) {
	since := time.Now().Add(-time.Hour)
	store := func(change func(*StatusStore)) func(*Status) {
		return func(s *Status) { change(&s.Stores[0]) }
	}
	for name, c := range map[string]struct {
		change func(*Status)
		check  string
		state  diagnosisState
		has    string
	}{
		"well":                {func(*Status) {}, "calls", diagnosisOK, "add up"},
		"well, too":           {func(*Status) {}, "delivery", diagnosisOK, "add up"},
		"calls are missing":   {func(s *Status) { s.Calls.Holds = false }, "calls", diagnosisWrong, "do not add up"},
		"its disk fails":      {func(s *Status) { s.Failing = "input/output error" }, "calls", diagnosisWrong, "input/output error"},
		"its disk is slow":    {func(s *Status) { s.Slow = true }, "calls", diagnosisWrong, "max_wait"},
		"it is full":          {func(s *Status) { s.BufferBytes = s.BufferMaxBytes }, "calls", diagnosisWrong, "the buffer is full"},
		"it is nearly full":   {func(s *Status) { s.BufferBytes = s.BufferMaxBytes * 9 / 10 }, "calls", diagnosisWarning, "nearly full"},
		"its disk is full":    {func(s *Status) { s.FreeBytes = 1 }, "calls", diagnosisWrong, "leaves 256 MiB to others"},
		"calls pass":          {func(s *Status) { s.PassingSince = &since }, "calls", diagnosisWrong, "pass unrecorded"},
		"calls may pass":      {func(s *Status) { s.PassUntil = &since }, "calls", diagnosisWarning, "by order"},
		"entries are damaged": {func(s *Status) { s.Damaged = 7 }, "calls", diagnosisWarning, "7 entries were found damaged"},
		"calls were refused":  {func(s *Status) { s.Calls.Refused = 3 }, "calls", diagnosisOK, "3 calls were refused"},
		"strangers":           {func(s *Status) { s.StrangersBytes = s.StrangersMaxBytes }, "calls", diagnosisWarning, "used up their share"},
		"entries wait":        {func(s *Status) { s.OldestPendingSeconds = 301 }, "delivery", diagnosisWarning, "waits for a store since 5m1s"},
		"entries are missing": {store(func(s *StatusStore) { s.Holds = false }), "delivery", diagnosisWrong, "do not add up"},
		"a store fails":       {store(func(s *StatusStore) { s.FailingSince, s.LastError = &since, "no route to host" }), "delivery", diagnosisWrong, "no route to host"},
		"quarantine":          {store(func(s *StatusStore) { s.Quarantined = 2 }), "delivery", diagnosisWarning, "refuses 2 entries"},
		"nearly detached":     {store(func(s *StatusStore) { s.PendingBytes, s.MaxPendingBytes = 9, 10 }), "delivery", diagnosisWarning, "about to be detached"},
		"was taken away":      {store(func(s *StatusStore) { s.Configured = false }), "delivery", diagnosisWarning, "not in the configuration any more"},
	} {
		s := &Status{
			Live: true, BufferMaxBytes: 8 << 30, FreeBytes: 100 << 30, MinFreeBytes: 256 << 20, StrangersMaxBytes: 800 << 20, Calls: StatusCalls{Holds: true},
			Stores: []StatusStore{{Name: "sqlite", Holds: true, Configured: true}},
		}
		s.Calls.Seen = 100
		c.change(s)
		d := &doctor{status: s}
		r := newVerdict()
		r.add("calls", checkCalls(t.Context(), d))
		r.add("delivery", checkDelivery(t.Context(), d))
		f := r.one(c.check, c.has)
		if f == nil || f.State != c.state || c.state != diagnosisOK && f.Cure == "" {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
	now := time.Now()
	gap := func(ago time.Duration) liveEntry {
		e := audit.Event(audit.EventGap, now.Add(-ago), map[string]any{"reason": "detached"})
		return liveEntry{Entry: e}
	}
	if list := gapFindings([]liveEntry{gap(25 * time.Hour), gap(time.Hour), {Entry: audit.Event(audit.EventHeartbeat, now, nil)}}, now); len(list) != 1 ||
		list[0].State != diagnosisWarning || !strings.Contains(list[0].Seen, "detached") {
		t.Errorf("gaps: %+v", list)
	}
	for _, look := range []func(context.Context, *doctor) []diagnosis{checkCalls, checkDelivery} {
		if list := look(t.Context(), new(doctor)); len(list) != 1 || list[0].State != diagnosisNotKnown {
			t.Errorf("without a server: %+v", list)
		}
	}
}
