package page

import (
	"slices"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// facetValues is how many values of a facet there are to choose.
const facetValues = 30

// facet is a field with its most frequent values.
type facet struct {
	Name, Param, Label string
	Values             []facetValue
	// Open says that a reader sees the values without asking for them.
	Open bool
	// Chosen is how many are.
	Chosen int
	// Cut says that there are more values than were told apart.
	Cut bool
	// Other says that a field takes values that are not listed, and Hint what they are
	// like.
	Other, Hint string
}

type facetValue struct {
	Value   string
	Text    Text
	Note    string // what else it is called
	Count   string
	Chosen  bool
	Outcome *outcome
}

// facetLabels are the facets in the order that a reader sees them.
var facetLabels = []struct {
	facet forwarder.Facet
	label string
	open  bool
}{
	{forwarder.FacetOutcome, "Outcome", true},
	{forwarder.FacetActor, "Actor", true},
	{forwarder.FacetAction, "Action", true},
	{forwarder.FacetProject, "Project", true},
	{forwarder.FacetTarget, "Target", false},
	{forwarder.FacetMethod, "Method", false},
	{forwarder.FacetStatus, "Status", false},
	{forwarder.FacetTokenType, "Token type", false},
	{forwarder.FacetNetwork, "Network", false},
}

func newFacets(l *Log) []facet {
	all := make([]facet, 0, len(facetLabels)+1)
	for _, f := range facetLabels {
		all = append(all, newFacet(l, f.facet, f.label, f.open))
	}
	hash := facet{Name: ParamTokenHash, Param: ParamTokenHash, Label: "Token hash", Other: "Hash of a token", Hint: "hex digits"}
	hash.choose(l.View.All(ParamTokenHash))
	return append(all, hash)
}

func newFacet(l *Log, by forwarder.Facet, label string, open bool) facet {
	f := facet{Name: string(by), Param: ParamOf(by), Label: label, Open: open}
	switch by {
	case forwarder.FacetTarget:
		f.Other, f.Hint = "Another target", "type, id or type/id"
	case forwarder.FacetNetwork:
		f.Other, f.Hint = "IP address or network", "203.0.113.0/24"
	case forwarder.FacetStatus:
		f.Other, f.Hint = "Status", "404"
	}
	chosen := l.View.All(f.Param)
	if l.Tally != nil {
		f.Cut = l.Tally.IsCut(by)
		for _, v := range l.Tally.Values(by, facetValues) {
			value := newFacetValue(by, v)
			for _, c := range chosen {
				if audit.BriefText(c) == v.Value || v.Label != "" && audit.BriefText(c) == v.Label {
					value.Value, value.Chosen = c, true
				}
			}
			f.Values = append(f.Values, value)
		}
	}
	f.choose(chosen)
	return f
}

// choose puts chosen values that are not among the frequent ones before those.
func (f *facet) choose(chosen []string) {
	for _, c := range slices.Backward(chosen) {
		if !slices.ContainsFunc(f.Values, func(v facetValue) bool { return v.Value == c }) {
			f.Values = slices.Insert(f.Values, 0, facetValue{Value: c, Text: cell(c), Chosen: true})
		}
	}
	f.Chosen = len(chosen)
	f.Open = f.Open || f.Chosen > 0
}

func newFacetValue(by forwarder.Facet, v forwarder.ValueCount) facetValue {
	f := facetValue{Value: v.Value, Text: cell(v.Value), Count: number(v.Count)}
	if v.Label != "" {
		f.Text, f.Note = cell(v.Label), visible(v.Value)
	}
	switch by {
	case forwarder.FacetActor:
		if v.Label == "" && len(v.Value) == 64 && !strings.Contains(v.Value, "@") { // known by their token alone
			f.Text, f.Note = Text{Shown: visible("token " + clip(v.Value, 12) + "…")}, visible(v.Value)
		}
	case forwarder.FacetAction:
		if name := nameOf(v.Value); name != "" && name != v.Value {
			f.Text, f.Note = cell(name), visible(v.Value)
		}
	case forwarder.FacetOutcome:
		o := newOutcome(audit.Outcome(v.Value))
		f.Outcome = &o
	case forwarder.FacetTarget:
		f.Text = cell(words(v.Value))
	}
	return f
}

// chip is a filter that is chosen, and the log without it.
type chip struct {
	Label string
	Text  Text
	URL   string
}

var paramLabels = map[string]string{
	ParamText: "Text", ParamActor: "Actor", ParamProject: "Project", ParamAction: "Action", ParamMethod: "Method", ParamTarget: "Target",
	ParamTokenType: "Token type", ParamOutcome: "Outcome", ParamStatus: "Status", ParamNetwork: "Network", ParamTokenHash: "Token hash",
}

func newChips(v View, facets []facet) (all []chip) {
	names := append([]string{ParamText}, filters...)
	for _, name := range names {
		for _, value := range v.All(name) {
			c := chip{Label: paramLabels[name], Text: newText(value, 48), URL: v.Without(name, value).URL()}
			for _, f := range facets {
				for _, fv := range f.Values {
					if f.Param != name || fv.Value != value {
						continue
					}
					if c.Text = fv.Text; fv.Outcome != nil {
						c.Text = Text{Shown: fv.Outcome.Word}
					}
				}
			}
			all = append(all, c)
		}
	}
	return all
}
