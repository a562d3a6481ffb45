package summary

import (
	"net/netip"
	"strconv"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Lookup is what a query looks for, as a Summary knows it.
type Lookup struct {
	// values has a list for each facet that is filtered by. One of each must be there.
	values [][]alternative
	// texts are what must be there for the text, all of it in one of the views.
	texts [][]uint64
}

// alternative is some keys that must all be there.
type alternative []uint64

// NewLookup makes one of a query's filters. Values and Texts say what of it a Summary can
// tell anything about.
func NewLookup(q *forwarder.Query) *Lookup {
	l := new(Lookup)
	views := []view{everybody}
	if !q.AsMember {
		views = append(views, operators)
	}
	for _, f := range forwarder.Facets {
		if all, ok := alternatives(views, f, &q.Filters); ok {
			l.values = append(l.values, all)
		}
	}
	if q.Text != "" {
		for _, v := range views {
			var keys []uint64
			textKeys(v, forwarder.Fold(q.Text), func(k uint64) { keys = append(keys, k) })
			if len(keys) == 0 {
				l.texts = nil
				break
			}
			l.texts = append(l.texts, keys)
		}
	}
	return l
}

// Values reports whether it looks for values.
func (l *Lookup) Values() bool { return len(l.values) > 0 }

// Texts reports whether it looks for a text.
func (l *Lookup) Texts() bool { return len(l.texts) > 0 }

// MayHaveValues reports whether an entry that is looked for may be among those with these
// values.
func (l *Lookup) MayHaveValues(f Filter) bool {
	for _, of := range l.values {
		if !anyOf(f, of) {
			return false
		}
	}
	return true
}

// MayHaveText is MayHaveValues of the texts.
func (l *Lookup) MayHaveText(f Filter) bool {
	for _, keys := range l.texts {
		if allOf(f, keys) {
			return true
		}
	}
	return len(l.texts) == 0
}

func anyOf(f Filter, of []alternative) bool {
	for _, a := range of {
		if allOf(f, a) {
			return true
		}
	}
	return false
}

func allOf(f Filter, keys []uint64) bool {
	for _, k := range keys {
		if !f.Has(k) {
			return false
		}
	}
	return true
}

// alternatives are what a facet's filter takes. It is not ok if there is no filter, or one
// that a Summary knows nothing about.
func alternatives(views []view, f forwarder.Facet, q *forwarder.Filters) (all []alternative, ok bool) {
	one := func(value string) {
		for _, v := range views {
			all = append(all, alternative{key(v, f, value)})
		}
	}
	texts := func(values []string) ([]alternative, bool) {
		for _, value := range values {
			if value != "" {
				one(audit.BriefText(value))
			}
		}
		return all, len(values) > 0
	}
	switch f {
	case forwarder.FacetActor:
		return texts(q.Actors)
	case forwarder.FacetProject:
		return texts(q.Projects)
	case forwarder.FacetAction:
		return texts(q.Actions)
	case forwarder.FacetMethod:
		return texts(q.Methods)
	case forwarder.FacetTokenType:
		return texts(q.TokenTypes)
	case forwarder.FacetOutcome:
		return texts(q.Outcomes)
	case forwarder.FacetTarget:
		for _, value := range q.Targets {
			either, kind, id := forwarder.TargetParts(value)
			one(either)
			if kind == "" || id == "" {
				continue
			}
			for _, v := range views { // a type is seen where the id is
				all = append(all, alternative{key(v, f, kind), key(v, f, id)})
			}
		}
		return all, len(q.Targets) > 0
	case forwarder.FacetStatus:
		for _, r := range q.Statuses {
			statuses(r, one)
		}
		return all, len(q.Statuses) > 0
	case forwarder.FacetNetwork:
		for _, p := range q.Networks {
			value := around(p)
			if value == "" {
				return nil, false
			}
			one(value)
		}
		return all, len(q.Networks) > 0
	}
	return nil, false
}

// few is up to how many statuses are looked for one by one. With more of them, one that is
// not there is too likely to seem to be.
const few = 8

func statuses(r forwarder.StatusRange, visit func(string)) {
	if r.Last-r.First < few {
		for status := r.First; status <= r.Last; status++ {
			visit(strconv.Itoa(status))
		}
		return
	}
	for class := r.First / 100; class <= r.Last/100; class++ {
		visit(statusClass(class * 100))
	}
}

// around is the narrowest network that all of a network is in and that addresses are
// known by; empty if there is none.
func around(p netip.Prefix) string {
	first, _ := audit.AddressRange(p)
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	narrowest := 0
	for _, length := range prefixes {
		if length <= bits {
			narrowest = length
		}
	}
	if narrowest == 0 {
		return ""
	}
	return network(first, narrowest)
}
