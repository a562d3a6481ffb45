package forwarder

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Facet is a field that entries are filtered and counted by.
type Facet string

// The facets, by their filter's name.
const (
	FacetActor     Facet = "actor"
	FacetProject   Facet = "project"
	FacetAction    Facet = "action"
	FacetMethod    Facet = "method"
	FacetTarget    Facet = "target"
	FacetTokenType Facet = "token_type"
	FacetOutcome   Facet = "outcome"
	FacetStatus    Facet = "status"
	FacetNetwork   Facet = "network"
)

// Facets are all of them.
var Facets = []Facet{FacetActor, FacetProject, FacetAction, FacetMethod, FacetTarget, FacetTokenType, FacetOutcome, FacetStatus, FacetNetwork}

// maxValues bounds the values of a facet that a Tally tells apart.
const maxValues = 10_000

// ValueCount is how many entries have a value.
type ValueCount struct {
	Value string `json:"value"`
	// Label is what people call the value, where that is known.
	Label string `json:"label,omitempty"`
	Count int64  `json:"count"`
}

// Tally counts entries by their Briefs: how many pass all filters, over time and by
// value. The values of a facet that is filtered by are counted without its own filter, so
// that a reader sees what else there is to choose. The zero value counts nothing.
type Tally struct {
	filters  Filters
	asMember bool
	from, to int64 // microseconds
	facets   map[Facet]map[string]*ValueCount
	cut      map[Facet]bool // has more values than were told apart
	// Total is how many pass all filters; Failed how many of them did not succeed.
	Total, Failed int64
	// Buckets are Total over time, from the query's From to its To in equal parts.
	Buckets []Bucket
}

// Bucket is a part of time, and the entries of it.
type Bucket struct {
	// From is where it begins, in microseconds since the Unix epoch.
	From   int64 `json:"from"`
	Total  int64 `json:"total"`
	Failed int64 `json:"failed"`
}

// NewTally makes one for a query, whose range it divides into buckets; none if one of the
// bounds is missing.
func NewTally(q *Query, buckets int) *Tally {
	t := &Tally{filters: q.Filters, asMember: q.AsMember, facets: map[Facet]map[string]*ValueCount{}, cut: map[Facet]bool{}}
	for _, f := range Facets {
		t.facets[f] = map[string]*ValueCount{}
	}
	if q.From.IsZero() || q.To.IsZero() || !q.From.Before(q.To) || buckets <= 0 {
		return t
	}
	t.from, t.to = roundUp(q.From), roundUp(q.To)
	t.Buckets = make([]Bucket, buckets)
	for i := range t.Buckets {
		t.Buckets[i].From = t.from + int64(float64(t.to-t.from)*float64(i)/float64(buckets))
	}
	return t
}

// roundUp is a bound in microseconds, as stores compare it.
func roundUp(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }

// Unfiltered is the query whose Briefs a Tally is to see: without the filters, which it
// applies itself.
func Unfiltered(q Query) Query {
	q.Filters = Filters{Text: q.Text}
	return q
}

// Add counts an entry, which it does not keep.
func (t *Tally) Add(b *audit.Brief) {
	if t.asMember {
		a := b.Attempt()
		b = &a
	}
	var only Facet
	failing := 0
	for _, f := range Facets {
		if !t.filters.match(f, b) {
			if failing++; failing > 1 {
				return
			}
			only = f
		}
	}
	if failing == 1 {
		t.count(only, b)
		return
	}
	t.Total++
	failed := b.Outcome != audit.OutcomeSuccess
	if failed {
		t.Failed++
	}
	for _, f := range Facets {
		t.count(f, b)
	}
	if n := len(t.Buckets); n > 0 && b.Timestamp >= t.from && b.Timestamp < t.to {
		i, _ := slices.BinarySearchFunc(t.Buckets, b.Timestamp+1, func(u Bucket, at int64) int { return cmp.Compare(u.From, at) })
		t.Buckets[i-1].Total++
		if failed {
			t.Buckets[i-1].Failed++
		}
	}
}

func (t *Tally) count(f Facet, b *audit.Brief) {
	value, label := valueOf(f, b)
	if value == "" {
		return
	}
	values := t.facets[f]
	v := values[value]
	if v == nil {
		if len(values) >= maxValues {
			t.cut[f] = true
			return
		}
		v = &ValueCount{Value: value}
		values[value] = v
	}
	if v.Label == "" {
		v.Label = label
	}
	v.Count++
}

// valueOf is what a Brief has of a facet, as its filter takes it.
func valueOf(f Facet, b *audit.Brief) (value, label string) {
	switch f {
	case FacetActor:
		return b.Actor, b.Email
	case FacetProject:
		return b.Project, ""
	case FacetAction:
		return b.Action, ""
	case FacetMethod:
		return b.Method, ""
	case FacetTarget:
		return b.TargetType, ""
	case FacetTokenType:
		return string(b.TokenType), ""
	case FacetOutcome:
		return string(b.Outcome), ""
	case FacetStatus:
		if b.Status > 0 {
			return strconv.Itoa(b.Status), ""
		}
	case FacetNetwork:
		if a, ok := netip.AddrFromSlice(b.Address); ok {
			return a.Unmap().String(), ""
		}
	}
	return "", ""
}

// IsCut reports whether a facet has more values than a Tally tells apart, so that one of
// those that came late may be missing from Values.
func (t *Tally) IsCut(f Facet) bool { return t.cut[f] }

// Values are the most frequent values of a facet, up to a number.
func (t *Tally) Values(f Facet, most int) []ValueCount {
	all := make([]ValueCount, 0, len(t.facets[f]))
	for v := range maps.Values(t.facets[f]) {
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b ValueCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return all[:min(most, len(all))]
}

// Width is how much time a bucket has.
func (t *Tally) Width() time.Duration {
	if len(t.Buckets) == 0 {
		return 0
	}
	return time.Duration(t.to-t.from) * time.Microsecond / time.Duration(len(t.Buckets))
}
