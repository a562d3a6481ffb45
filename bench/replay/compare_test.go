package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func testCalls(t *testing.T) []call {
	t.Helper()
	ops, err := shippedOracle()
	if err != nil {
		t.Fatal(err)
	}
	return makeCalls(ops, maker{rand.New(rand.NewPCG(1, 1))})
}

// perfect is the entry that a call should have.
func perfect(c call) rig.Entry {
	e := rig.Entry{ID: c.UserAgent, Revision: 1, RequestID: c.RequestID, Outcome: rig.OutcomeOf(c.Status), Origin: &rig.Origin{Instance: "i", Sequence: 1}}
	e.Action.Method, e.Action.Route, e.Action.Code, e.Action.Status = c.Method, c.Template, c.Code, c.Status
	e.Actor.UserAgent = c.UserAgent
	e.OrganizationSlug, e.ProjectRef = c.Params[c.OrganizationParam], c.Params[c.ProjectParam]
	if c.TargetType != "" {
		e.Target = &rig.Target{Type: c.TargetType, ID: c.Params[c.TargetIDParam], Parent: c.Params[c.TargetParentParam]}
	}
	return e
}

func TestPerfectEntriesAreExact(t *testing.T) {
	calls := testCalls(t)
	var entries []rig.Entry
	for _, c := range calls {
		entries = append(entries, perfect(c))
	}
	event := rig.Entry{}
	event.Action.Code = "audit.started"
	res, wrong := compare(calls, append(entries, event))
	if !res.ok() || res.Exact != 483 {
		t.Errorf("got %+v with %v, want 483 exact", res, wrong)
	}
}

func TestEveryFieldIsCompared(t *testing.T) {
	all := testCalls(t)
	i := slices.IndexFunc(all, func(c call) bool { return c.TargetParentParam != "" && c.ProjectParam != "" })
	calls := all[i : i+1]
	for field, spoil := range map[string]func(*rig.Entry){
		"action.method":       func(e *rig.Entry) { e.Action.Method = "X" },
		"action.route":        func(e *rig.Entry) { e.Action.Route = "X" },
		"action.code":         func(e *rig.Entry) { e.Action.Code = "X" },
		"action.status":       func(e *rig.Entry) { e.Action.Status = 299 },
		"outcome":             func(e *rig.Entry) { e.Outcome = "unknown" },
		"target.type":         func(e *rig.Entry) { e.Target.Type = "X" },
		"target.id":           func(e *rig.Entry) { e.Target.ID = "X" },
		"target.parent":       func(e *rig.Entry) { e.Target.Parent = "X" },
		"organization_slug":   func(e *rig.Entry) { e.OrganizationSlug = "X" },
		"project_ref":         func(e *rig.Entry) { e.ProjectRef = "" },
		"request_id":          func(e *rig.Entry) { e.RequestID = "X" },
		"has origin.sequence": func(e *rig.Entry) { e.Origin = nil },
		"is answered":         func(e *rig.Entry) { e.Revision = 0 },
	} {
		e := perfect(calls[0])
		spoil(&e)
		res, wrong := compare(calls, []rig.Entry{e})
		if res.ok() || len(wrong) != 1 || wrong[0].Field != field {
			t.Errorf("%s: got %v, want one mismatch of that field", field, wrong)
		}
	}
}

func TestLostRepeatedAndStrangeEntriesAreFound(t *testing.T) {
	calls := testCalls(t)[:2]
	a, b := perfect(calls[0]), perfect(calls[1])
	stranger := perfect(calls[0])
	stranger.Actor.UserAgent = "somebody"
	for name, entries := range map[string][]rig.Entry{
		"lost":     {a},
		"repeated": {a, b, b},
		"strange":  {a, b, stranger},
		"empty":    nil,
	} {
		if res, _ := compare(calls, entries); res.ok() {
			t.Errorf("%s: was not noticed: %+v", name, res)
		}
	}
}

func TestLeakedCredentialsAreFound(t *testing.T) {
	dir := t.TempDir()
	calls := []call{{Secrets: []string{"a-secret-value"}}, {Secrets: []string{"never-written"}}}
	if err := os.WriteFile(filepath.Join(dir, "seg-1.db"), []byte("xx\x00a-secret-value\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := leaks(calls, dir)
	if err != nil || len(found) != 1 || found[0].Field != "credential in seg-1.db" {
		t.Errorf("got %v, %v; want one leak in seg-1.db", found, err)
	}
}
