package postgres

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// filter is a condition that grows, with the parameters of its statement.
type filter struct {
	where string
	bound string // of how many it selects
	args  []any
}

// bind returns a term in which each $ is the next parameter.
func (f *filter) bind(term string, args ...any) string {
	for _, a := range args {
		f.args = append(f.args, a)
		term = strings.Replace(term, "$", "\x00"+strconv.Itoa(len(f.args)), 1)
	}
	return strings.ReplaceAll(term, "\x00", "$")
}

// add narrows it by a term, as bind makes it.
func (f *filter) add(term string, args ...any) {
	f.where += " AND " + f.bind(term, args...)
}

// any narrows it to what one of several bound terms selects, and to nothing without one.
func (f *filter) any(bound []string) {
	if len(bound) == 0 {
		bound = []string{"false"}
	}
	f.where += " AND (" + strings.Join(bound, " OR ") + ")"
}

func (f *filter) between(from, to time.Time) {
	if !from.IsZero() {
		f.add("timestamp >= $", microseconds(from))
	}
	if !to.IsZero() {
		f.add("timestamp < $", microseconds(to))
	}
}

// microseconds rounds up, which is right for both bounds of whole numbers.
func microseconds(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }

// in are the terms that say that a column has one of some texts: none if it can have none
// of them.
func (f *filter) in(column string, values []string) []string {
	if values = briefTexts(values); len(values) == 0 {
		return nil
	}
	return []string{f.bind(column+" = ANY ($)", values)}
}

// briefTexts are values as a Brief's column has them, but for those that no entry has.
func briefTexts(values []string) (all []string) {
	for _, v := range values {
		if isText(v) {
			all = append(all, briefColumn(audit.BriefText(v)))
		}
	}
	return all
}

// owners adds that an entry is one of theirs, where another index is walked.
func (f *filter) owners(owners []audit.Owner) {
	if len(owners) > 0 {
		f.add("owner = ANY ($)", ownerColumns(owners))
	}
}

// ownerColumns are owners as their column has them, each once, but for those that no entry
// has.
func ownerColumns(owners []audit.Owner) []string {
	all := []string{}
	for _, o := range slices.Compact(slices.Sorted(slices.Values(owners))) {
		switch {
		case o == "":
			all = append(all, "")
		case isText(string(o)):
			all = append(all, ownerColumn(o))
		}
	}
	return all
}

// unproven is what members of the organization see as an Attempt.
const unproven = `membership IS NOT DISTINCT FROM '` + string(audit.MembershipUnproven) + `'`

// isFiltered reports whether filters adds anything.
func isFiltered(q *forwarder.Query) bool {
	return len(q.Actors)+len(q.Projects)+len(q.Actions)+len(q.Methods)+len(q.TokenTypes)+len(q.Outcomes)+
		len(q.Targets)+len(q.Statuses)+len(q.Networks) > 0
}

// filters narrows it, by the columns of the Brief, to exactly what a query's Filters
// select, but for Text. For members an Attempt has no actor, no address and no target, and
// its own token type.
func (f *filter) filters(q *forwarder.Query) {
	seen := func(bound []string) []string { // what is not there for members does not match
		if q.AsMember && len(bound) > 0 {
			return []string{"NOT (" + unproven + ") AND (" + strings.Join(bound, " OR ") + ")"}
		}
		return bound
	}
	for _, is := range []struct {
		column string
		values []string
	}{{"method", q.Methods}, {"outcome", q.Outcomes}, {"action", q.Actions}, {"project_ref", q.Projects}} {
		if len(is.values) > 0 {
			f.any(f.in(is.column, is.values))
		}
	}
	if len(q.Statuses) > 0 {
		var either []string
		for _, r := range q.Statuses {
			either = append(either, f.bind("coalesce(status, 0) BETWEEN $ AND $", int64(r.First), int64(r.Last)))
		}
		f.any(either)
	}
	if len(q.TokenTypes) > 0 {
		column := "token_type"
		if q.AsMember {
			column = "CASE WHEN " + unproven + " THEN '" + string(audit.TokenUnknown) + "' ELSE token_type END"
		}
		f.any(f.in(column, q.TokenTypes))
	}
	if len(q.Actors) > 0 {
		f.any(seen(append(f.in("actor", q.Actors), f.in("email", q.Actors)...)))
	}
	if len(q.Targets) > 0 {
		kinds, ids := f.targets(q.Targets)
		f.any(append(kinds, seen(ids)...))
	}
	if len(q.Networks) > 0 {
		var either []string
		for _, p := range q.Networks {
			first, last := audit.AddressRange(p)
			either = append(either, f.bind("address BETWEEN $ AND $", first, last))
		}
		f.any(seen(either))
	}
}

// targets are the terms about the type, and those that have an id in them.
func (f *filter) targets(values []string) (kinds, ids []string) {
	var either []string
	for _, v := range values {
		if !isText(v) {
			continue
		}
		e, kind, id := forwarder.TargetParts(v)
		either = append(either, e)
		if kind != "" && id != "" {
			ids = append(ids, f.bind("target_type = $ AND target = $", briefColumn(kind), briefColumn(id)))
		}
	}
	return f.in("target_type", either), append(ids, f.in("target", either)...)
}

// text finds what may have the query's text in it. What an Attempt has is in the document
// too, but for its token type.
func (f *filter) text(q *forwarder.Query) {
	core := forwarder.TextCore(q.Text)
	if core == "" {
		return
	}
	// A document as raw is like this but for what no letter and no digit is.
	in := f.bind(`strpos(lower(document::text COLLATE "C"), $) > 0`, core)
	if q.AsMember && strings.Contains(string(audit.TokenUnknown), core) {
		in += " OR " + unproven
	}
	f.any([]string{in})
}
