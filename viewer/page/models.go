package page

import (
	"cmp"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// head is what the frame of each page shows.
type head struct {
	Title, Organization, Home string
	Reader                    string
	Operator                  bool
}

func newHead(f Frame, title string) head {
	h := head{Reader: newText(f.Reader.Name, cellText).Shown, Operator: f.Reader.Operator}
	if f.Organization.Slug != "" {
		v, _ := ParseView(f.Organization.Slug, nil) // one that is none has no home
		h.Organization = newText(cmp.Or(f.Organization.Name, f.Organization.Slug), 64).Shown
		if v.Slug() != "" {
			h.Home = v.URL()
		}
		title += " · " + h.Organization
	}
	h.Title = title
	return h
}

// period is the part of time that is shown, and how to choose another one.
type period struct {
	Ranges []choice
	// Custom says that it is none of those; Start and End are it, for a form, in the
	// reader's zone. ExactStart and ExactEnd are the same in any zone.
	Custom               bool
	Start, End           string
	ExactStart, ExactEnd string
	Span, Zone           string
	Zones                []choice
}

func newPeriod(v View, from, to time.Time, c clock) period {
	p := period{Custom: v.Get(ParamStart) != "" || v.Get(ParamEnd) != "", Zone: visible(c.zone.String()), Zones: zoneChoices(c.zone.String())}
	name := cmp.Or(v.Get(ParamRange), DefaultRange)
	for _, r := range Ranges {
		p.Ranges = append(p.Ranges, choice{Value: r.Name, Label: r.Label, URL: v.Last(r.Name).URL(), Chosen: !p.Custom && r.Name == name})
	}
	if !from.IsZero() && !to.IsZero() {
		p.Span = c.span(from, to)
	}
	const field = "2006-01-02T15:04:05.999"
	if v.Get(ParamStart) != "" { // an end that was left open stays so
		p.Start, p.ExactStart = from.In(c.zone).Format(field), from.UTC().Format(time.RFC3339Nano)
	}
	if v.Get(ParamEnd) != "" {
		p.End, p.ExactEnd = to.In(c.zone).Format(field), to.UTC().Format(time.RFC3339Nano)
	}
	return p
}

// late is how long before the end of what is shown the log may be complete, without a word
// about it. A sign of life comes each minute.
const late = 5 * time.Minute

type logPage struct {
	head
	period
	Action, Range        string
	Text                 string
	Exports              []choice
	Complete             *stamp
	CompleteUntil        string
	Late                 bool
	Plan, Readable       string
	Histogram            *histogram
	Facets               []facet
	Chips                []chip
	Clear                string
	Rows                 []row
	Entries              int
	Total                string
	Failed               string
	More                 bool
	Announce, Cursor     string
	Newest, Newer, Older string
	Notice               string
	Filtered             bool
	Wider                *choice
}

func newLogPage(l *Log) *logPage {
	c := newClock(l.Zone, l.To)
	p := &logPage{
		head: newHead(l.Frame, "Audit log"), period: newPeriod(l.View, l.From, l.To, c),
		Action: View{slug: l.View.slug}.URL(), Text: l.View.Get(ParamText), Cursor: l.View.Get(ParamCursor),
		Plan: visible(clip(l.Plan, cellText)), Histogram: newHistogram(l, c), Facets: newFacets(l), Clear: l.View.Unfiltered().URL(),
		Rows: newRows(l, c), Entries: len(l.Entries), Notice: visible(clip(l.Notice, fieldText)), Filtered: l.View.Filtered(),
	}
	if !p.Custom {
		p.Range = l.View.Get(ParamRange)
	}
	p.Chips = newChips(l.View, p.Facets)
	for _, format := range []struct{ name, label string }{
		{"csv", "CSV, for a spreadsheet"}, {"json", "JSON"}, {"ndjson", "NDJSON, one entry a line"}, {"ocsf", "OCSF, for a SIEM"},
	} {
		p.Exports = append(p.Exports, choice{Value: format.name, Label: format.label, URL: l.View.ExportURL(format.name, l.From, l.To)})
	}
	if !l.Complete.IsZero() {
		s := c.stamp(l.Complete)
		p.Complete, p.CompleteUntil, p.Late = &s, c.short(l.Complete, l.To), l.To.Sub(l.Complete) > late
	}
	if l.Readable > 0 {
		p.Readable = days(l.Readable)
	}
	p.count(l)
	p.turn(l)
	return p
}

// count says how many there are.
func (p *logPage) count(l *Log) {
	n := int64(p.Entries)
	p.Announce = number(n) + plural(n, " entry on this page", " entries on this page")
	if l.Tally == nil {
		return
	}
	p.Total, p.Failed, p.More = number(l.Tally.Total), number(l.Tally.Failed), l.AtLeast
	p.Announce = p.Total + plural(l.Tally.Total, " entry", " entries")
	if l.AtLeast {
		p.Announce = "at least " + p.Announce
	}
}

// turn links the pages beside this one, and a wider range.
func (p *logPage) turn(l *Log) {
	if l.Newer != "" {
		p.Newer = l.View.At(l.Newer).URL()
	}
	if l.Older != "" {
		p.Older = l.View.At(l.Older).URL()
	}
	if l.View.Get(ParamCursor) != "" {
		p.Newest = l.View.At("").URL()
	}
	for _, r := range Ranges {
		if r.Length > l.To.Sub(l.From) && (l.Readable <= 0 || r.Length <= l.Readable) {
			p.Wider = &choice{Value: r.Name, Label: r.Label, URL: l.View.Last(r.Name).URL()}
			break
		}
	}
}

type entryPage struct {
	head
	Back     string
	ID, API  string
	Event    Text
	Code     Text
	When     stamp
	Outcome  outcome
	Status   string
	Method   Text
	Sections []section
	JSON     Text
	Unproven string
}

func newEntryPage(p *Entry) *entryPage {
	e := shownTo(p.Entry, p.Reader.Operator)
	c := newClock(p.Zone, time.UnixMicro(e.Timestamp))
	r := newRow(e, p.View, c, p.Reader.Operator)
	doc := p.JSON
	if len(doc) == 0 {
		doc, _ = e.Encode() // what cannot be encoded is shown as empty
	}
	d := &entryPage{
		head: newHead(p.Frame, "Entry"), Back: p.View.URL(), ID: e.ID, API: r.API,
		Event: r.Event, Code: r.Code, When: r.When, Outcome: r.Outcome, Status: r.Status, Method: r.Method,
		Sections: newOverview(e, p.View, c, p.Reader.Operator), JSON: newJSON(doc, jsonText),
	}
	if e.Membership == audit.MembershipUnproven {
		d.Unproven = unprovenHelp
	}
	return d
}
