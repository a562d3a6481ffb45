package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// mismatch is one field that is not what the oracle expects.
type mismatch struct {
	Call, Field, Want, Got string
}

// result is what a replay found; it is its last line.
type result struct {
	Operations int `json:"operations"`
	Entries    int `json:"entries"`
	Exact      int `json:"exact"`
	Mismatches int `json:"mismatches"`
	Leaks      int `json:"leaks"`
}

func (r result) ok() bool {
	return r.Operations > 0 && r.Exact == r.Operations && r.Entries == r.Operations && r.Mismatches == 0 && r.Leaks == 0
}

// compare counts the calls that have exactly one entry with exactly the
// expected fields. Entries that belong to no call are mismatches too.
func compare(calls []call, entries []rig.Entry) (result, []mismatch) {
	res := result{Operations: len(calls)}
	var wrong []mismatch
	byAgent := map[string][]rig.Entry{}
	known := map[string]bool{}
	for _, c := range calls {
		known[c.UserAgent] = true
	}
	for _, e := range entries {
		if e.Event() {
			continue
		}
		res.Entries++
		if !known[e.Actor.UserAgent] {
			wrong = append(wrong, mismatch{"(no call)", "entry", "none", e.Action.Method + " " + e.Action.Route + " by " + strconv.Quote(e.Actor.UserAgent)})
		}
		byAgent[e.Actor.UserAgent] = append(byAgent[e.Actor.UserAgent], e)
	}
	for _, c := range calls {
		found := byAgent[c.UserAgent]
		if len(found) != 1 {
			wrong = append(wrong, mismatch{c.key(), "entries", "1", strconv.Itoa(len(found))})
			continue
		}
		diff := c.diff(found[0])
		if len(diff) == 0 {
			res.Exact++
		}
		wrong = append(wrong, diff...)
	}
	res.Mismatches = len(wrong)
	return res, wrong
}

// diff lists the fields in which an entry is not what the oracle expects of
// the call.
func (c call) diff(e rig.Entry) []mismatch {
	t := rig.Target{}
	if e.Target != nil {
		t = *e.Target
	}
	sequence := uint64(0)
	if e.Origin != nil {
		sequence = e.Origin.Sequence
	}
	var wrong []mismatch
	for _, f := range []struct{ field, want, got string }{
		{"action.method", c.Method, e.Action.Method},
		{"action.route", c.Template, e.Action.Route},
		{"action.code", c.Code, e.Action.Code},
		{"action.status", strconv.Itoa(c.Status), strconv.Itoa(e.Action.Status)},
		{"outcome", rig.OutcomeOf(c.Status), e.Outcome},
		{"target.type", c.TargetType, t.Type},
		{"target.id", c.Params[c.TargetIDParam], t.ID},
		{"target.parent", c.Params[c.TargetParentParam], t.Parent},
		{"organization_slug", c.Params[c.OrganizationParam], e.OrganizationSlug},
		{"project_ref", c.Params[c.ProjectParam], e.ProjectRef},
		{"request_id", c.RequestID, e.RequestID},
		{"has origin.sequence", "true", strconv.FormatBool(sequence > 0)},
		{"is answered", "true", strconv.FormatBool(e.Revision >= 1)},
	} {
		if f.want != f.got {
			wrong = append(wrong, mismatch{c.key(), f.field, f.want, f.got})
		}
	}
	return wrong
}

// leaks looks for the calls' credentials in every file under dir: the export,
// the buffer, the store, the log.
func leaks(calls []call, dir string) ([]mismatch, error) {
	var found []mismatch
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("looking for credentials: %w", err)
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		for _, c := range calls {
			for _, s := range c.Secrets {
				if n := bytes.Count(b, []byte(s)); n > 0 {
					found = append(found, mismatch{c.key(), "credential in " + name, "never", fmt.Sprintf("%d times: %.8s…", n, s)})
				}
			}
		}
		return nil
	})
	return found, err
}
