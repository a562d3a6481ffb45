package sqlite

import (
	"fmt"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// terms are a condition that grows, with its parameters.
type terms struct {
	where []string
	args  []any
}

// add narrows it.
func (t *terms) add(term string, args ...any) {
	t.where = append(t.where, term)
	t.args = append(t.args, args...)
}

// any narrows it to what one of several terms selects.
func (t *terms) any(of terms) {
	if len(of.where) == 0 {
		t.add("0")
		return
	}
	t.add("("+strings.Join(of.where, " OR ")+")", of.args...)
}

// in adds that a column has one of some values.
func (t *terms) in(column string, values []any) {
	if len(values) > 0 {
		t.add(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", values...)
	}
}

// unproven is what members of the organization see as an Attempt.
const unproven = `membership IS '` + string(audit.MembershipUnproven) + `'`

// likeBytes bounds what a text is looked for by, far below SQLite's own bound.
const likeBytes = 1000

// filter narrows it to what a query's fields select that are columns of the Brief: exactly,
// but for Text and for projects that are too long for a Brief, see checked. For members an
// Attempt has no actor, no address and no target, and its own token type.
func (t *terms) filter(q *forwarder.Query) {
	seen := func(of terms) terms { // what is not there for members does not match
		if q.AsMember && len(of.where) > 0 {
			return terms{[]string{"NOT (" + unproven + ") AND (" + strings.Join(of.where, " OR ") + ")"}, of.args}
		}
		return of
	}
	is := func(column string, values []string) (of terms) {
		of.in(column, briefTexts(values))
		return of
	}
	if len(q.Methods) > 0 {
		t.any(is("method", q.Methods))
	}
	if len(q.Outcomes) > 0 {
		t.any(is("outcome", q.Outcomes))
	}
	if len(q.Statuses) > 0 {
		var of terms
		for _, r := range q.Statuses {
			of.add("status BETWEEN ? AND ?", r.First, r.Last)
		}
		t.any(of)
	}
	if len(q.Actions) > 0 {
		t.any(is("action", q.Actions))
	}
	if len(q.Projects) > 0 {
		of := is("project_ref", q.Projects)
		if len(of.where) > 0 {
			of.add(longProject)
		}
		t.any(of)
	}
	if len(q.TokenTypes) > 0 {
		column := "token_type"
		if q.AsMember {
			column = "CASE WHEN " + unproven + " THEN '" + string(audit.TokenUnknown) + "' ELSE token_type END"
		}
		t.any(is(column, q.TokenTypes))
	}
	if len(q.Actors) > 0 {
		of := is("actor", q.Actors)
		of.in("email", briefTexts(q.Actors))
		t.any(seen(of))
	}
	if len(q.Targets) > 0 {
		of, full := targetTerms(q.Targets)
		if q.AsMember {
			full = seen(full)
		}
		of.where, of.args = append(of.where, full.where...), append(of.args, full.args...)
		t.any(of)
	}
	if len(q.Networks) > 0 {
		var of terms
		for _, p := range q.Networks {
			first, last := audit.AddressRange(p)
			of.add("address BETWEEN ? AND ?", first, last)
		}
		t.any(seen(of))
	}
	if q.Events {
		t.add("+method IS NULL") // which is in the index
		t.add("event IS NOT NULL")
	}
	t.text(q)
}

// targetTerms are those about the type, and those that have an id in them.
func targetTerms(values []string) (kinds, ids terms) {
	var either []any
	for _, v := range values {
		e, kind, id := forwarder.TargetParts(v)
		if e != "" {
			either = append(either, e)
		}
		if kind != "" && id != "" {
			ids.add("target_type = ? AND target = ?", kind, id)
		}
	}
	kinds.in("target_type", either)
	ids.in("target", either)
	return kinds, ids
}

// text finds what may have the query's text in it. What an Attempt has is in the document
// too, but for its token type.
func (t *terms) text(q *forwarder.Query) {
	core := forwarder.TextCore(q.Text)
	if core == "" {
		return
	}
	like := "document LIKE ?"
	if q.AsMember && strings.Contains(string(audit.TokenUnknown), core) {
		like = "(" + like + " OR " + unproven + ")"
	}
	t.add(like, "%"+core[:min(len(core), likeBytes)]+"%") // letters and digits need no escape
}

// longProject is true of an entry whose project may be any that is too long for a Brief.
var longProject = fmt.Sprintf("octet_length(project_ref) > %d", audit.MaxBriefText)

// checked is an expression that is true where filter may select too much.
func checked(q *forwarder.Query) string {
	switch {
	case q.Text != "":
		return "1"
	case len(q.Projects) > 0:
		return "ifnull(" + longProject + ", 0)"
	}
	return "0"
}

// isNarrowed reports whether a query has fields that version 2 has no columns for.
func isNarrowed(q *forwarder.Query) bool {
	f := &q.Filters
	return len(q.Owners) > 0 || q.Events || f.Text != "" || len(f.Actors)+len(f.Projects)+len(f.Actions)+len(f.Methods)+
		len(f.TokenTypes)+len(f.Outcomes)+len(f.Targets)+len(f.Statuses)+len(f.Networks) > 0
}

// briefTexts are values as a Brief's column has them.
func briefTexts(values []string) (all []any) {
	for _, v := range values {
		if v != "" {
			all = append(all, audit.BriefText(v))
		}
	}
	return all
}
