package forwarder

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestAFilterTakesWhatItSays(t *testing.T) {
	call := &audit.Entry{
		ID: "x", OrganizationID: "org-1", OrganizationSlug: "acme",
		Action: audit.Action{Code: "v1-delete-a-function", Method: "DELETE", Route: "/v1/projects/{ref}/functions/{slug}"},
		Policy: audit.Policy{Rule: "default", Level: audit.LevelRequest}, Outcome: audit.OutcomeDenied,
	}
	stranger := &audit.Entry{ID: "y", Action: audit.Action{Method: "GET", Route: "/v1/projects"}, Policy: audit.Policy{Level: audit.LevelMetadata}, Outcome: audit.OutcomeSuccess}
	gap := audit.Event(audit.EventGap, time.Now(), nil)
	only := func(c Conditions) Filter { return Filter{Only: c} }
	except := func(c Conditions) Filter { return Filter{Except: c} }
	for name, c := range map[string]struct {
		f                   Filter
		call, stranger, gap bool
	}{
		"nothing":                 {Filter{}, true, true, true},
		"only organization slug":  {only(Conditions{Organizations: []string{"other", "acme"}}), true, false, false},
		"only organization id":    {only(Conditions{Organizations: []string{"org-1"}}), true, false, false},
		"only none":               {only(Conditions{Organizations: []string{""}}), false, false, false},
		"only action":             {only(Conditions{Actions: []string{"v1-delete-*"}}), true, false, false},
		"only action by route":    {only(Conditions{Actions: []string{"* /v1/projects*"}}), true, true, false},
		"only events":             {only(Conditions{Actions: []string{"audit.*"}}), false, false, true},
		"only level":              {only(Conditions{Levels: []audit.Level{audit.LevelRequest}}), true, false, true},
		"only outcome":            {only(Conditions{Outcomes: []audit.Outcome{audit.OutcomeSuccess}}), false, true, true},
		"only both":               {only(Conditions{Outcomes: []audit.Outcome{audit.OutcomeDenied}, Actions: []string{"DELETE *"}}), true, false, false},
		"except organization":     {except(Conditions{Organizations: []string{"acme"}}), false, true, true},
		"except events":           {except(Conditions{Actions: []string{"audit.heartbeat", "audit.gap"}}), true, true, false},
		"except outcome":          {except(Conditions{Outcomes: []audit.Outcome{audit.OutcomeSuccess}}), true, false, true},
		"except level":            {except(Conditions{Levels: []audit.Level{audit.LevelMetadata}}), true, false, true},
		"except either":           {except(Conditions{Outcomes: []audit.Outcome{audit.OutcomeSuccess}, Organizations: []string{"acme"}}), false, false, true},
		"only and except":         {Filter{Only: Conditions{Organizations: []string{"acme"}}, Except: Conditions{Actions: []string{"DELETE *"}}}, false, false, false},
		"an event has no method":  {only(Conditions{Actions: []string{"* *"}}), true, true, false},
		"a star alone":            {only(Conditions{Actions: []string{"*"}}), true, true, true},
		"a code is not a pattern": {only(Conditions{Actions: []string{"v1-delete-a"}}), false, false, false},
	} {
		for what, e := range map[*audit.Entry]bool{call: c.call, stranger: c.stranger, gap: c.gap} {
			if got := c.f.Takes(what); got != e {
				t.Errorf("%s: entry %s %s: %t, want %t", name, what.ID, what.Action.Code, got, e)
			}
		}
	}
}

func TestAFilterThatNoEntryCanMeetIsAnError(t *testing.T) {
	for _, f := range []Filter{
		{Only: Conditions{Levels: []audit.Level{"everything"}}},
		{Except: Conditions{Outcomes: []audit.Outcome{"done"}}},
		{Only: Conditions{Levels: []audit.Level{audit.LevelNone}}}, // nothing is recorded at it
	} {
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), "it is one of") {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
