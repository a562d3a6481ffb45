package httpstore

import (
	"fmt"
	"strconv"
	"strings"
)

// StatusRange is a run of HTTP statuses, both ends included.
type StatusRange struct{ First, Last int }

// Statuses is a set of HTTP statuses.
type Statuses []StatusRange

// ParseStatuses reads statuses and ranges of them, as in "200-299" or "409". A status
// below 200 is no answer and one above 599 none that anything means.
func ParseStatuses(texts ...string) (Statuses, error) {
	var all Statuses
	for _, text := range texts {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		a, okA := parseStatus(first)
		b, okB := parseStatus(last)
		if !okA || !okB || a > b {
			return nil, fmt.Errorf("%q is neither a status nor a range of statuses: write numbers from 200 to 599, as in 204 or 200-299", text)
		}
		all = append(all, StatusRange{a, b})
	}
	return all, nil
}

// parseStatus takes three digits and nothing else, such as a sign.
func parseStatus(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil && len(s) == 3 && n >= 200 && n <= 599
}

func (s Statuses) has(status int) bool {
	for _, r := range s {
		if r.First <= status && status <= r.Last {
			return true
		}
	}
	return false
}

// shared returns a status that is in both sets.
func (s Statuses) shared(other Statuses) (int, bool) {
	for _, r := range s {
		for _, o := range other {
			if n := max(r.First, o.First); n <= min(r.Last, o.Last) {
				return n, true
			}
		}
	}
	return 0, false
}
