package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// searchFilters narrow a search down as those of the page and its read API do.
type searchFilters struct {
	// Filters are values as people write them, by the filter's name.
	Filters map[forwarder.Facet][]string `json:"filters,omitempty"`
	// Text is in one of those that people know an entry by.
	Text string `json:"text,omitempty"`
}

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

// flags adds one for each filter. They have the read API's names, but network, which is
// ip there: --ip is an address alone.
func (f *searchFilters) flags(cmd *cobra.Command) {
	f.Filters = map[forwarder.Facet][]string{}
	for _, by := range forwarder.Facets {
		cmd.Flags().Var(&filterFlag{f, by}, flagOf(by), filterHelp[by]+" (repeatable)")
	}
	cmd.Flags().StringVar(&f.Text, "text", "", "Only entries with this text, in either case, in what people know them by: action, path, ids, address, email, user agent and so on")
}

func flagOf(by forwarder.Facet) string { return strings.ReplaceAll(string(by), "_", "-") }

// filterFlag is a filter's flag. Each value is one, commas included.
type filterFlag struct {
	filters *searchFilters
	by      forwarder.Facet
}

func (f *filterFlag) String() string { return "" }
func (f *filterFlag) Type() string   { return "value" }

func (f *filterFlag) Set(value string) error {
	f.filters.Filters[f.by] = append(f.filters.Filters[f.by], value)
	return nil // what it is worth is said by filters, as for the server
}

// filters checks what was written. Its errors do not repeat it.
func (f *searchFilters) filters() (all forwarder.Filters, err error) {
	all.Text = strings.TrimSpace(f.Text)
	if err := forwarder.CheckFilterValue(f.Text); err != nil {
		return all, fmt.Errorf("searching by text: it %w", err)
	}
	count := min(len(all.Text), 1)
	for by, values := range f.Filters {
		if !slices.Contains(forwarder.Facets, by) {
			return all, fmt.Errorf("searching by a filter that there is not: there are %v", forwarder.Facets)
		}
		count += len(values)
	}
	if count > forwarder.MaxFilterValues {
		return all, fmt.Errorf("searching by %d filters: %d is the most that is taken", count, forwarder.MaxFilterValues)
	}
	for _, by := range forwarder.Facets {
		for _, value := range f.Filters[by] {
			err := errors.New("is empty: give a value")
			if value != "" {
				err = all.Add(by, value)
			}
			if err != nil {
				return all, fmt.Errorf("searching by %s: it %w", by, err)
			}
		}
	}
	return all, nil
}

// words say what is filtered by.
func (f *searchFilters) words() (parts []string) {
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

// isFiltered reports whether a query has filters.
func isFiltered(q *forwarder.Query) bool {
	f := &q.Filters
	return len(f.Actors)+len(f.Projects)+len(f.Actions)+len(f.Methods)+len(f.Targets)+len(f.TokenTypes)+len(f.Outcomes)+
		len(f.Statuses)+len(f.Networks)+len(f.Text) > 0
}
