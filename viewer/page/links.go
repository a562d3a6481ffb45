package page

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The names in the query string of the log's address. All but ParamText and those that
// say which part of the log is shown may be given several times.
const (
	ParamStart     = "iso_timestamp_start"
	ParamEnd       = "iso_timestamp_end"
	ParamRange     = "range"
	ParamZone      = "tz"
	ParamCursor    = "cursor"
	ParamText      = "text"
	ParamActor     = "actor"
	ParamProject   = "project"
	ParamAction    = "action"
	ParamMethod    = "method"
	ParamTarget    = "target"
	ParamTokenType = "token_type"
	ParamOutcome   = "outcome"
	ParamStatus    = "status"
	ParamNetwork   = "ip"
	ParamTokenHash = "token_hash"
	// ParamOrganization is the one name of the start page's form: a slug.
	ParamOrganization = "organization"
)

// single are the names that have one value; filters are those that have several, in the
// order that a reader sees them.
var (
	single  = []string{ParamStart, ParamEnd, ParamRange, ParamZone, ParamCursor, ParamText}
	filters = []string{
		ParamActor, ParamProject, ParamAction, ParamMethod, ParamTarget, ParamTokenType, ParamOutcome, ParamStatus, ParamNetwork, ParamTokenHash,
	}
)

// ParamOf is the name of a facet's filter.
func ParamOf(f forwarder.Facet) string {
	if f == forwarder.FacetNetwork {
		return ParamNetwork
	}
	return string(f)
}

// Range is a length of time up to now that a reader can choose by its name.
type Range struct {
	Name   string
	Length time.Duration
	// Label is what people read behind the word last.
	Label string
}

// DefaultRange is the name of the range of an address that names none.
const DefaultRange = "24h"

// Ranges are all of them, shortest first.
var Ranges = []Range{
	{"1h", time.Hour, "hour"},
	{"3h", 3 * time.Hour, "3 hours"},
	{"6h", 6 * time.Hour, "6 hours"},
	{"12h", 12 * time.Hour, "12 hours"},
	{DefaultRange, 24 * time.Hour, "24 hours"},
	{"7d", 7 * 24 * time.Hour, "7 days"},
	{"30d", 30 * 24 * time.Hour, "30 days"},
}

// RangeOf is the range with a name; the default one if that is empty.
func RangeOf(name string) (Range, bool) {
	if name == "" {
		name = DefaultRange
	}
	i := slices.IndexFunc(Ranges, func(r Range) bool { return r.Name == name })
	if i < 0 {
		return Range{}, false
	}
	return Ranges[i], true
}

// ParseTime reads a time of the query string: RFC 3339, or what a browser's field for
// date and time gives, which is in the zone that the reader chose (nil is UTC).
func ParseTime(text string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	if zone == nil {
		zone = time.UTC
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("reading the time %.40q: write it like 2026-01-31T14:00:00Z", text)
}

// Bounds of an address. Each link of a page repeats the reader's own address, so a long
// one would make a page of many megabytes.
const (
	maxSlug  = 128
	maxQuery = 8 << 10
)

// View is what the log's address says: whose log, and which part of it. Links are made of
// it, each a little different. The zero value is no organization's.
type View struct {
	slug   string
	values url.Values
}

// ParseView takes the organization's slug and the query string of a log's or an entry's
// address. Names that it does not know and empty values are left out; a range is left out
// beside times, which say it more exactly. It does not look into values. Where it fails,
// the View is that of the organization without any filter.
func ParseView(slug string, query url.Values) (View, error) {
	if len(slug) > maxSlug || slug == "." || slug == ".." {
		return View{}, fmt.Errorf("reading an organization's slug of %d bytes: it is none", len(slug))
	}
	v := View{slug, url.Values{}}
	for _, name := range single {
		if value := query.Get(name); value != "" {
			v.values.Set(name, value)
		}
	}
	for _, name := range filters {
		for _, value := range query[name] {
			if value != "" && !slices.Contains(v.values[name], value) {
				v.values.Add(name, value)
			}
		}
	}
	if v.values.Has(ParamStart) || v.values.Has(ParamEnd) {
		v.values.Del(ParamRange)
	}
	if len(v.values.Encode()) > maxQuery {
		return View{slug, url.Values{}}, errors.New("reading the filters: they are too long, choose fewer of them")
	}
	return v, nil
}

// Slug is the organization's.
func (v View) Slug() string { return v.slug }

// Get is the first value of a name; empty if there is none.
func (v View) Get(name string) string { return v.values.Get(name) }

// All are the values of a name, which are not to be changed.
func (v View) All(name string) []string { return v.values[name] }

// Filtered reports whether anything but time narrows the log down.
func (v View) Filtered() bool {
	return v.values.Has(ParamText) || slices.ContainsFunc(filters, v.values.Has)
}

// URL is the log's address.
func (v View) URL() string { return v.address("/organizations/", "") }

// EntryURL is the address of an entry's page, which leads back to the same part of the
// log. Empty if no address can name the entry.
func (v View) EntryURL(id string) string {
	if !nameable(id) {
		return ""
	}
	return v.address("/organizations/", "/entries/"+url.PathEscape(id))
}

// EntryAPI is the address of an entry's JSON. Empty if no address can name the entry.
func (v View) EntryAPI(id string) string {
	if !nameable(id) {
		return ""
	}
	return View{slug: v.slug}.address("/platform/organizations/", "/entries/"+url.PathEscape(id))
}

// nameable reports whether a path can end in an id: browsers take dots for a way up.
func nameable(id string) bool { return id != "" && id != "." && id != ".." && len(id) <= maxSlug }

// ExportURL is the address of a file of what passes the filters in a part of time.
func (v View) ExportURL(format string, from, to time.Time) string {
	e := v.Between(from, to)
	e.values.Del(ParamZone)
	e.values.Set("format", format)
	return e.address("/platform/organizations/", "/export")
}

func (v View) address(before, behind string) string {
	path := before + url.PathEscape(v.slug) + "/audit" + behind
	if q := v.values.Encode(); q != "" {
		path += "?" + q
	}
	return path
}

// change is a copy that begins at the log's beginning again.
func (v View) change(f func(url.Values)) View {
	c := View{v.slug, url.Values{}}
	for name, values := range v.values {
		if name != ParamCursor {
			c.values[name] = slices.Clone(values)
		}
	}
	f(c.values)
	return c
}

// With is the log that a further value narrows down. A long value of a filter is
// shortened as those are that it is compared with.
func (v View) With(name, value string) View {
	switch name {
	case ParamTarget:
		if kind, id, ok := strings.Cut(value, "/"); ok {
			value = audit.BriefText(kind) + "/" + audit.BriefText(id)
			break
		}
		fallthrough
	case ParamActor, ParamProject, ParamAction, ParamMethod, ParamTokenType, ParamOutcome:
		value = audit.BriefText(value)
	}
	return v.change(func(q url.Values) {
		switch {
		case slices.Contains(single, name):
			q.Set(name, value)
		case !slices.Contains(q[name], value):
			q.Add(name, value)
		}
	})
}

// Without is the log that a value does not narrow down.
func (v View) Without(name, value string) View {
	return v.change(func(q url.Values) {
		q[name] = slices.DeleteFunc(q[name], func(s string) bool { return s == value })
		if len(q[name]) == 0 {
			q.Del(name)
		}
	})
}

// Unfiltered is the log of the same time without any filter.
func (v View) Unfiltered() View {
	return v.change(func(q url.Values) {
		q.Del(ParamText)
		for _, name := range filters {
			q.Del(name)
		}
	})
}

// Last is the log of a range with a name.
func (v View) Last(name string) View {
	return v.change(func(q url.Values) {
		q.Del(ParamStart)
		q.Del(ParamEnd)
		q.Set(ParamRange, name)
	})
}

// Between is the log of a part of time. A bound that is zero is left out.
func (v View) Between(from, to time.Time) View {
	return v.change(func(q url.Values) {
		q.Del(ParamRange)
		for name, t := range map[string]time.Time{ParamStart: from, ParamEnd: to} {
			q.Del(name)
			if !t.IsZero() {
				q.Set(name, t.UTC().Format(time.RFC3339Nano))
			}
		}
	})
}

// At is the log from a cursor on; from its beginning if that is empty.
func (v View) At(cursor string) View {
	return v.change(func(q url.Values) {
		if cursor != "" {
			q.Set(ParamCursor, cursor)
		}
	})
}

// safeLink is a link of the operator's configuration if it leads to a page, else empty.
func safeLink(link string) string {
	u, err := url.Parse(link)
	if err != nil || link == "" {
		return ""
	}
	if u.Scheme == "https" || u.Scheme == "http" || u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/") {
		return u.String()
	}
	return ""
}

// number writes a count with its thousands apart.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
