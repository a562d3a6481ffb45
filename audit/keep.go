package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The classes that are always there.
const (
	// ClassDefault is that of calls for which no other class is.
	ClassDefault = "default"
	// ClassUnattributed is that of calls of which nobody has said whose they are: a
	// scanner makes as many of them as it likes. Calls whose organization or plan is
	// still being asked for have it too, until the answer comes.
	ClassUnattributed = "unattributed"
	// ClassSidecar is that of the sidecar's own events, which say what is missing.
	ClassSidecar = "sidecar"
)

// Keep says how long entries exist. The zero value keeps all of them forever. It never
// changes once it is used, and is safe for concurrent use.
type Keep struct {
	// Default is the term of calls for which no class is. Default: forever.
	Default Term `json:"default,omitzero"`
	// Unattributed is the term of calls of which nobody has said whose they are.
	// Default: the term of Default.
	Unattributed Term `json:"unattributed,omitzero"`
	// Sidecar is the term of the sidecar's own events. Default: the longest of all
	// terms, so that they say what is missing for as long as anything is there.
	Sidecar Term `json:"sidecar,omitzero"`
	// Classes are tried in order; the first that matches counts. Default: none.
	Classes []KeepClass `json:"classes,omitempty"`
	// Minimum is what no term may be below, but for that of unattributed calls. It changes
	// no term: one that is shorter is an error when the configuration is loaded. Default:
	// none.
	Minimum Term `json:"minimum,omitzero"`
	// Maximum is what no term may be above, in the same way. Default: none.
	Maximum Term `json:"maximum,omitzero"`
}

// KeepClass is a retention class, and the calls that belong to it: those that meet one of
// each list that is not empty.
type KeepClass struct {
	// Name is what the class is called: up to 32 lower-case letters, digits, hyphens and
	// underscores. Required.
	//
	// Caddyfile: class <name> <term>
	Name string `json:"name"`
	// Term is how long its entries are kept. Required.
	//
	// Caddyfile: class <name> <term>
	Term Term `json:"term"`
	// Plans are the plans of the organization that a call belongs to. Default: any.
	Plans []string `json:"plans,omitempty"`
	// Actions are codes such as v1-delete-a-function, or a method and a route where there
	// is a space, as in "DELETE /v1/projects/{ref}". A * stands for any text. Default: any.
	Actions []string `json:"actions,omitempty"`
	// Targets are types of targets, such as secret or member. Default: any.
	Targets []string `json:"targets,omitempty"`
	// Organizations are ids or slugs. Default: any.
	Organizations []string `json:"organizations,omitempty"`
}

var (
	classForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	ownNames  = []string{ClassDefault, ClassUnattributed, ClassSidecar}
)

// Check returns an error for what makes no sense.
func (k *Keep) Check() error {
	names := map[string]bool{}
	for i := range k.Classes {
		c := &k.Classes[i]
		switch {
		case slices.Contains(ownNames, c.Name):
			return fmt.Errorf("class %s: it is there by itself: give its term alone, as in: %s %s", c.Name, c.Name, c.Term)
		case !classForm.MatchString(c.Name):
			return fmt.Errorf("class %q: a name has up to 32 lower-case letters, digits, hyphens and underscores", c.Name)
		case names[c.Name]:
			return fmt.Errorf("class %s: there are two: put what belongs to it into one", c.Name)
		case c.Term.IsZero():
			return fmt.Errorf("class %s: %w", c.Name, errNoTerm)
		case len(c.Plans)+len(c.Actions)+len(c.Targets)+len(c.Organizations) == 0:
			return fmt.Errorf("class %s: it says of no call that it belongs to it: give it a plan, an action, a target or an organization", c.Name)
		}
		names[c.Name] = true
	}
	if !k.Minimum.IsZero() && !k.Maximum.IsZero() && k.Maximum.isShorter(k.Minimum) {
		return fmt.Errorf("maximum %s: it is shorter than the minimum %s", k.Maximum, k.Minimum)
	}
	for _, name := range k.Names() {
		if name == ClassSidecar && k.Sidecar.IsZero() {
			continue // it is the longest of the others, which are to blame
		}
		t := k.Term(name)
		switch {
		case name != ClassUnattributed && !k.Minimum.IsZero() && t.isShorter(k.Minimum):
			return fmt.Errorf("class %s keeps its entries for %s, which is less than the minimum %s: raise it", name, t, k.Minimum)
		case !k.Maximum.IsZero() && k.Maximum.isShorter(t):
			return fmt.Errorf("class %s keeps its entries for %s, which is more than the maximum %s: lower it", name, t, k.Maximum)
		}
	}
	return nil
}

// Names are the names of all classes, in the order in which they are tried.
func (k *Keep) Names() []string {
	names := []string{ClassSidecar, ClassUnattributed}
	for _, c := range k.Classes {
		names = append(names, c.Name)
	}
	return append(names, ClassDefault)
}

// Term is the term of a class; zero if there is no such class.
func (k *Keep) Term(class string) Term {
	switch class {
	case ClassDefault:
		return orForever(k.Default)
	case ClassUnattributed:
		if k.Unattributed.IsZero() {
			return orForever(k.Default)
		}
		return k.Unattributed
	case ClassSidecar:
		if !k.Sidecar.IsZero() {
			return k.Sidecar
		}
		longest := orForever(k.Default)
		for _, name := range k.Names()[1:] {
			if t := k.Term(name); longest.isShorter(t) {
				longest = t
			}
		}
		return longest
	}
	if i := slices.IndexFunc(k.Classes, func(c KeepClass) bool { return c.Name == class }); i >= 0 {
		return k.Classes[i].Term
	}
	return Term{}
}

func orForever(t Term) Term {
	if t.IsZero() {
		return Forever
	}
	return t
}

// NeedsPlan reports whether some class depends on the organization's plan.
func (k *Keep) NeedsPlan() bool {
	return slices.ContainsFunc(k.Classes, func(c KeepClass) bool { return len(c.Plans) > 0 })
}

// Retention is the tag of an entry whose organization has a plan, empty if that is not
// known. A call that is still being asked about is tagged as nobody's for now.
func (k *Keep) Retention(e *Entry, plan string, pending bool) *Retention {
	class := ClassDefault
	switch {
	case e.IsEvent():
		class = ClassSidecar
	case pending || e.Actor.Verification == VerificationNone || e.Actor.Verification == "":
		class = ClassUnattributed
	default:
		if i := slices.IndexFunc(k.Classes, func(c KeepClass) bool { return c.has(e, plan) }); i >= 0 {
			class = k.Classes[i].Name
		}
	}
	r := &Retention{Class: class, Plan: plan}
	if until := k.Term(class).KeepMicros(e.Timestamp); until != ForeverMicros {
		r.KeepUntil = until
	}
	return r
}

// Until is until when an entry of a class that arrived then is kept by the terms as they
// are now, in microseconds; zero if there is no such class any more.
func (k *Keep) Until(class string, arrival int64) int64 {
	t := k.Term(class)
	if t.IsZero() {
		return 0
	}
	return t.KeepMicros(arrival)
}

func (c *KeepClass) has(e *Entry, plan string) bool {
	return (len(c.Plans) == 0 || plan != "" && slices.Contains(c.Plans, plan)) &&
		(len(c.Actions) == 0 || slices.ContainsFunc(c.Actions, e.IsAction)) &&
		(len(c.Targets) == 0 || e.Target != nil && slices.Contains(c.Targets, e.Target.Type)) &&
		(len(c.Organizations) == 0 || e.OrganizationID != "" && slices.Contains(c.Organizations, e.OrganizationID) ||
			e.OrganizationSlug != "" && slices.Contains(c.Organizations, e.OrganizationSlug))
}

// IsAction reports whether an entry's action is a pattern: a code such as
// v1-delete-a-function, or a method and a route where there is a space, as in
// "DELETE /v1/projects/{ref}", which an event of the sidecar never is. A * stands for any
// text.
func (e *Entry) IsAction(pattern string) bool {
	if strings.Contains(pattern, " ") {
		return !e.IsEvent() && wild(pattern, e.Action.Method+" "+e.Action.Route)
	}
	return wild(pattern, e.Action.Code)
}

// Readable says how far back the members of an organization may read, by its plan. It
// deletes nothing. The zero value lets every plan read all that is kept.
type Readable struct {
	// Plans are the terms by plan. Days are what the read API tells as its
	// retention_period. A plan with "none" may read nothing. Default: none.
	//
	// Caddyfile: <plan...> <term>|none
	Plans map[string]Range `json:"plans,omitempty"`
	// Default is for plans that are not named, and for organizations whose plan is not
	// known. Default: nothing if any plan is named, else all.
	Default *Range `json:"default,omitempty"`
}

// Range is how far back a plan may read: a term, or nothing at all if that is zero.
type Range struct {
	// Term is how far back it may read. Default: not at all.
	//
	// Caddyfile: <plan...> <term>|none
	Term Term `json:"term,omitzero"`
}

// From is the earliest arrival that an organization with a plan may read now; ok is false
// if it may read nothing. The zero time is all.
func (r *Readable) From(plan string, now time.Time) (from time.Time, ok bool) {
	span := r.Of(plan)
	switch {
	case span.Term.IsZero():
		return time.Time{}, false
	case span.Term.IsForever():
		return time.Time{}, true
	}
	return span.Term.start(now), true
}

// Of is how far back a plan may read.
func (r *Readable) Of(plan string) Range {
	if span, ok := r.Plans[plan]; ok && plan != "" {
		return span
	}
	switch {
	case r.Default != nil:
		return *r.Default
	case len(r.Plans) > 0:
		return Range{}
	}
	return Range{Term: Forever}
}

// wild reports whether a text is a pattern, in which * stands for any text. The
// first place where a part fits is as good as any later one, so that the time is that
// of a search for each part.
func wild(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = rest
	}
	return strings.HasSuffix(text, last)
}
