package forwarder

import (
	"fmt"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Filter says which entries a store gets. The zero value is all of them.
type Filter struct {
	// Only are what an entry must meet: one of each list that is not empty. Default: all
	// entries.
	Only Conditions `json:"only,omitzero"`
	// Except are what it must not meet: none of any list. Default: nothing.
	Except Conditions `json:"except,omitzero"`
}

// Conditions are lists of what entries may have, each of alternatives.
type Conditions struct {
	// Organizations are ids or slugs. An entry that belongs to none, as the sidecar's
	// own events do, meets no list of them. Default: none.
	//
	// Caddyfile: only|except organization <value...>
	Organizations []string `json:"organizations,omitempty"`
	// Actions are codes such as v1-delete-a-function, or a method and a route where
	// there is a space, as in "DELETE /v1/projects/{ref}". A * stands for any text, so
	// that audit.* is the sidecar's own events and "DELETE *" all that is deleted. Default:
	// none.
	//
	// Caddyfile: only|except action <value...>
	Actions []string `json:"actions,omitempty"`
	// Levels are metadata, request and request_response. The sidecar's own events meet
	// each list of them, so that a store learns of gaps. Default: none.
	//
	// Caddyfile: only|except level <value...>
	Levels []audit.Level `json:"levels,omitempty"`
	// Outcomes are success, failure, denied, pending, unknown and refused. Each
	// revision of an entry is asked for by itself. For events, as with levels. Default: none.
	//
	// Caddyfile: only|except outcome <value...>
	Outcomes []audit.Outcome `json:"outcomes,omitempty"`
}

// IsZero reports whether there is no condition.
func (c Conditions) IsZero() bool {
	return len(c.Organizations)+len(c.Actions)+len(c.Levels)+len(c.Outcomes) == 0
}

// Check returns an error for what no entry can have.
func (f *Filter) Check() error {
	for _, c := range []*Conditions{&f.Only, &f.Except} {
		for _, l := range c.Levels {
			if !slices.Contains(levels, l) {
				return fmt.Errorf("there is no level %q: it is one of %v", l, levels)
			}
		}
		for _, o := range c.Outcomes {
			if !slices.Contains(outcomes, o) {
				return fmt.Errorf("there is no outcome %q: it is one of %v", o, outcomes)
			}
		}
	}
	return nil
}

var (
	levels   = []audit.Level{audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse}
	outcomes = []audit.Outcome{
		audit.OutcomeSuccess, audit.OutcomeFailure, audit.OutcomeDenied, audit.OutcomePending, audit.OutcomeUnknown, audit.OutcomeRefused,
	}
)

// IsZero reports whether the filter takes every entry.
func (f *Filter) IsZero() bool { return f.Only.IsZero() && f.Except.IsZero() }

// Takes reports whether the store gets an entry.
func (f *Filter) Takes(e *audit.Entry) bool {
	event := e.IsEvent()
	c := &f.Only
	if len(c.Organizations) > 0 && !c.organization(e) || len(c.Actions) > 0 && !c.action(e) ||
		len(c.Levels) > 0 && !event && !slices.Contains(c.Levels, e.Policy.Level) ||
		len(c.Outcomes) > 0 && !event && !slices.Contains(c.Outcomes, e.Outcome) {
		return false
	}
	c = &f.Except
	return !c.organization(e) && !c.action(e) &&
		(event || !slices.Contains(c.Levels, e.Policy.Level) && !slices.Contains(c.Outcomes, e.Outcome))
}

func (c *Conditions) organization(e *audit.Entry) bool {
	return e.OrganizationID != "" && slices.Contains(c.Organizations, e.OrganizationID) ||
		e.OrganizationSlug != "" && slices.Contains(c.Organizations, e.OrganizationSlug)
}

func (c *Conditions) action(e *audit.Entry) bool {
	return slices.ContainsFunc(c.Actions, e.IsAction)
}
