package operator

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// SearchFilters narrow a search down as those of the page and its read API do.
type SearchFilters struct {
	// Filters are values as people write them, by the filter's name.
	Filters map[forwarder.Facet][]string `json:"filters,omitempty"`
	// Text is in one of those that people know an entry by.
	Text string `json:"text,omitempty"`
}

// filters checks what was written. Its errors do not repeat it.
func (f *SearchFilters) filters() (all forwarder.Filters, err error) {
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

// isFiltered reports whether a query has filters.
func isFiltered(q *forwarder.Query) bool {
	f := &q.Filters
	return len(f.Actors)+len(f.Projects)+len(f.Actions)+len(f.Methods)+len(f.Targets)+len(f.TokenTypes)+len(f.Outcomes)+
		len(f.Statuses)+len(f.Networks)+len(f.Text) > 0
}
