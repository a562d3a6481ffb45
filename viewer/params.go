package viewer

import (
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/viewer/page"
)

const (
	// defaultRange is what is shown where no range is asked for, as in the reference
	// product.
	defaultRange = 24 * time.Hour
	// maxLimit bounds how many entries one page of a list has.
	maxLimit = 1000
)

// The names of the parameters that a page's address does not have in the same way; see
// page.ParamStart and so on for the others.
const paramLimit = "limit"

// ask is what a request asks for. Its filters are as the visitor wrote them; query makes
// of it what a store takes.
type ask struct {
	start, end time.Time
	// filters are the values by parameter, without empty ones.
	filters url.Values
	limit   int // zero is none
	cursor  string
}

// filterParams are the parameters that filter.
var filterParams = []string{
	page.ParamActor, page.ParamProject, page.ParamAction, page.ParamMethod, page.ParamTarget, page.ParamTokenType, page.ParamOutcome,
	page.ParamStatus, page.ParamNetwork, page.ParamTokenHash, page.ParamText,
}

// parseAsk reads the parameters of a list. Parameters that it does not know are let be:
// clients of the reference product may send some.
func (v *Viewer) parseAsk(r *url.URL, now time.Time) (*ask, error) {
	return v.parseAskUpTo(r, now, maxLimit)
}

// parseAskUpTo takes a limit of up to so many entries.
func (v *Viewer) parseAskUpTo(r *url.URL, now time.Time, most int) (a *ask, err error) {
	values, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		return nil, badRequest("the query string cannot be read")
	}
	a = &ask{filters: url.Values{}}
	one := map[string]string{}
	for _, name := range []string{page.ParamStart, page.ParamEnd, page.ParamCursor, paramLimit, page.ParamText} {
		if len(values[name]) > 1 {
			return nil, badRequest(name + " is there more than once")
		}
		one[name] = values.Get(name)
	}
	if a.end, err = parseTime(page.ParamEnd, one[page.ParamEnd], now); err != nil {
		return nil, err
	}
	if a.start, err = parseTime(page.ParamStart, one[page.ParamStart], a.end.Add(-defaultRange)); err != nil {
		return nil, err
	}
	switch span := a.end.Sub(a.start); {
	case span <= 0:
		return nil, badRequest(page.ParamStart + " must be before " + page.ParamEnd)
	case span > v.o.MaxRange:
		return nil, &DeniedError{http.StatusBadRequest, "Bad request: range exceeded: ask for " + days(v.o.MaxRange) + " at most", true}
	}
	a.cursor = one[page.ParamCursor]
	if s := one[paramLimit]; s != "" {
		if a.limit, err = strconv.Atoi(s); err != nil || a.limit < 1 || a.limit > most {
			return nil, badRequest("limit is a number from 1 to " + strconv.Itoa(most))
		}
	}
	count := 0
	for _, name := range filterParams {
		for _, value := range values[name] {
			if value == "" {
				continue
			}
			if count++; count > forwarder.MaxFilterValues {
				return nil, badRequest("there are more than " + strconv.Itoa(forwarder.MaxFilterValues) + " filters")
			}
			if err := forwarder.CheckFilterValue(value); err != nil {
				return nil, badRequest(name + " " + err.Error())
			}
			a.filters.Add(name, value)
		}
	}
	return a, nil
}

func days(d time.Duration) string { return strconv.Itoa(int(d/(24*time.Hour))) + " days" }

func parseTime(name, s string, byDefault time.Time) (time.Time, error) {
	if s == "" {
		return byDefault, nil
	}
	t, err := page.ParseTime(s, time.UTC)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, badRequest(name + " is no time: write it as in 2026-01-31T12:00:00Z")
	}
	return t.UTC(), nil
}

// facts are what an event says of it. They name filters and not their values, which come
// from the network.
func (a *ask) facts(what string) map[string]any {
	filters := slices.Sorted(maps.Keys(a.filters))
	facts := map[string]any{"what": what, "from": a.start.UTC().Format(time.RFC3339Nano), "to": a.end.UTC().Format(time.RFC3339Nano)}
	if len(filters) > 0 {
		facts["filters"] = filters
	}
	return facts
}

// query is what a store is asked for, newest first, within what the visit may read.
func (a *ask) query(in *visit) (q forwarder.Query, err error) {
	q = forwarder.Query{
		Owners: in.Owners, AsMember: !in.Operator, NewestFirst: true,
		From: a.start, To: a.end, Limit: a.limit,
	}
	if q.From.Before(in.from) {
		q.From = in.from
	}
	f := a.filters
	for _, by := range forwarder.Facets {
		for _, value := range f[page.ParamOf(by)] {
			if err := q.Filters.Add(by, value); err != nil {
				return q, badRequest(page.ParamOf(by) + " " + err.Error())
			}
		}
	}
	for _, s := range f[page.ParamTokenHash] {
		hash := strings.ToLower(strings.TrimSpace(s))
		if b, err := hex.DecodeString(strings.TrimPrefix(hash, "hmac:")); err != nil || len(b) != 32 {
			return q, badRequest("token_hash is 64 hex digits, with or without hmac: before them, as entries have it")
		}
		q.Trail.Hashes = append(q.Trail.Hashes, hash)
	}
	if len(q.Trail.Hashes) > audit.MaxTrailHashes {
		return q, badRequest("there are more than " + strconv.Itoa(audit.MaxTrailHashes) + " token hashes")
	}
	q.Text = strings.TrimSpace(f.Get(page.ParamText))
	return q, nil
}
