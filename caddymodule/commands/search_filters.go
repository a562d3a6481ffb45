package commands

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// filterHelp says what the flag of each filter selects.
var filterHelp = map[forwarder.Facet]string{
	forwarder.FacetActor:     "Only this actor's entries: a verified user id or email, an application's id, a subject, or a token's hash",
	forwarder.FacetProject:   "Only this project's ref",
	forwarder.FacetAction:    "Only this action's code, or METHOD and route where it has none",
	forwarder.FacetMethod:    "Only this method",
	forwarder.FacetTarget:    "Only this target: a type, an id, or type/id",
	forwarder.FacetTokenType: "Only this type of token, such as jwt or none",
	forwarder.FacetOutcome:   "Only this outcome: success, failure, denied, pending, unknown or refused",
	forwarder.FacetStatus:    "Only this status, as in 404, 4xx or 400-499",
	forwarder.FacetNetwork:   "Only calls from this address or network, as in 203.0.113.0/24",
}

// filterFlags adds one for each filter. They have the read API's names, but network, which is
// ip there: --ip is an address alone.
func filterFlags(cmd *cobra.Command, f *operator.SearchFilters) {
	f.Filters = map[forwarder.Facet][]string{}
	for _, by := range forwarder.Facets {
		cmd.Flags().Var(&filterFlag{f, by}, flagOf(by), filterHelp[by]+" (repeatable)")
	}
	cmd.Flags().StringVar(&f.Text, "text", "", "Only entries with this text, in either case, in what people know them by: action, path, ids, address, email, user agent and so on")
}

func flagOf(by forwarder.Facet) string { return strings.ReplaceAll(string(by), "_", "-") }

// filterFlag is a filter's flag. Each value is one, commas included.
type filterFlag struct {
	filters *operator.SearchFilters
	by      forwarder.Facet
}

func (f *filterFlag) String() string { return "" }
func (f *filterFlag) Type() string   { return "value" }

func (f *filterFlag) Set(value string) error {
	f.filters.Filters[f.by] = append(f.filters.Filters[f.by], value)
	return nil // what it is worth is said by filters, as for the server
}

// filterWords say what is filtered by.
func filterWords(f *operator.SearchFilters) (parts []string) {
	for _, by := range forwarder.Facets {
		if values := f.Filters[by]; len(values) > 0 {
			parts = append(parts, strings.ReplaceAll(string(by), "_", " ")+" "+display.Printable(strings.Join(values, " or ")))
		}
	}
	if text := strings.TrimSpace(f.Text); text != "" {
		parts = append(parts, "text "+display.Printable(text))
	}
	return parts
}
