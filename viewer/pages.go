package viewer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
	_ "time/tzdata" // readers choose a zone, and containers have none

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/viewer/page"
)

const (
	// pageRows is how many entries a page has.
	pageRows = 50
	// countFor bounds how long a page waits for its counts.
	countFor = 3 * time.Second
)

// servePage answers with the page of an organization's log.
func (v *Viewer) servePage(w http.ResponseWriter, r *http.Request) error {
	in, err := v.enter(r)
	if err != nil {
		return err
	}
	view, zone, err := viewOf(r)
	if err != nil {
		return err
	}
	a, err := v.parsePage(r, view, zone)
	if err != nil {
		return err
	}
	a.limit = pageRows
	q, err := a.query(in)
	if err != nil {
		return err
	}
	if q.After, err = v.afterOf(&q, a); err != nil {
		return err
	}
	if err := v.recordRead(in, r, a); err != nil {
		return err
	}
	l := &page.Log{Frame: frameOf(in), View: view, From: a.start, To: a.end, Zone: zone, Plan: in.Plan}
	if !in.from.IsZero() {
		l.Readable = time.Duration(in.days) * 24 * time.Hour
	}
	if in.Operator && in.ID == "" {
		l.Notice = "Nobody says which organization this is: neither the platform's API, nor an entry. Here are those of which nothing but this slug is known."
	}
	if err := v.fill(r.Context(), in, l, q); err != nil {
		return err
	}
	return send(w, http.StatusOK, l)
}

// fill reads what a page shows.
func (v *Viewer) fill(ctx context.Context, in *visit, l *page.Log, q forwarder.Query) error {
	leave, err := v.reads.admit(in.Visitor)
	if err != nil {
		return err
	}
	defer leave()
	until, gaps, err := v.trust(ctx, &q)
	if err != nil {
		return err
	}
	if until != nil {
		l.Complete = *until
	}
	p, err := v.read(ctx, q, pageRows)
	if err != nil {
		return err
	}
	for _, e := range p.entries {
		l.Entries = append(l.Entries, in.shown(e))
	}
	from, to := q.From, q.To
	if p.more {
		l.Older = v.cursor(listOf(&q), p.next)
		from = time.UnixMicro(p.next.Timestamp)
	}
	if !q.After.IsZero() {
		to = time.UnixMicro(q.After.Timestamp)
		if l.Newer, err = v.newer(ctx, q); err != nil {
			return err
		}
	}
	for _, g := range gaps {
		if g.From.Before(to) && !g.To.Before(from) {
			l.Gaps = append(l.Gaps, page.Gap{From: g.From, To: g.To, Why: whyOf(g.Why)})
		}
	}
	counting, cancel := context.WithTimeout(ctx, countFor)
	defer cancel()
	l.Tally, err = v.tally(counting, in, q)
	switch {
	case errors.Is(err, errBusy):
		l.Notice, err = "Another page of yours is being counted: load this one again for its counts.", nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		l.AtLeast, err = true, nil
	}
	return err
}

// newer is the cursor of the page before the one behind q.After.
func (v *Viewer) newer(ctx context.Context, q forwarder.Query) (string, error) {
	list := listOf(&q)
	back := q
	back.NewestFirst = false
	p, err := v.read(ctx, back, pageRows+1)
	if err != nil {
		return "", err
	}
	// The entry that the page ends at is the first of what follows, so it is one of them.
	switch {
	case q.After.ID == topID:
		return "", nil // it is the first page
	case len(p.entries) < pageRows && p.more: // they are large
		last := p.entries[len(p.entries)-1]
		return v.cursor(list, forwarder.Place{Timestamp: last.Timestamp, ID: last.ID}), nil
	case len(p.entries) < pageRows:
		return v.cursor(list, forwarder.Place{Timestamp: microsOf(q.To), ID: topID}), nil
	}
	last := p.entries[pageRows-1]
	return v.cursor(list, forwarder.Place{Timestamp: last.Timestamp, ID: last.ID}), nil
}

// topID is behind every entry's id.
const topID = "~"

func microsOf(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }

// serveEntryPage answers with the page of one entry.
func (v *Viewer) serveEntryPage(w http.ResponseWriter, r *http.Request) error {
	in, err := v.enter(r)
	if err != nil {
		return err
	}
	view, zone, err := viewOf(r)
	if err != nil {
		return err
	}
	e, doc, err := v.entry(r, in)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, &page.Entry{Frame: frameOf(in), View: view, Entry: e, JSON: doc, Zone: zone})
}

// serveStart answers with the form that asks for an organization, and leads to its page.
func (v *Viewer) serveStart(w http.ResponseWriter, r *http.Request) error {
	slug := r.URL.Query().Get(page.ParamOrganization)
	if slug == "" {
		return send(w, http.StatusOK, new(page.Start))
	}
	view, err := page.ParseView(slug, nil)
	if err != nil {
		return send(w, http.StatusBadRequest, &page.Start{Message: "That is no organization's name."})
	}
	http.Redirect(w, r, view.URL(), http.StatusSeeOther) //nolint:gosec // a path of ours, whose one part is escaped
	return nil
}

// serveAsset answers with a file of the page, which has its hash in its name and so never
// changes.
func (v *Viewer) serveAsset(w http.ResponseWriter, r *http.Request) error {
	content, mediaType, ok := page.Asset(r.PathValue("name"))
	if !ok {
		return errNoPage
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Del("Vary")
	w.Header().Set("Content-Type", mediaType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	return nil
}

var errNoPage = &DeniedError{Status: http.StatusNotFound, Message: "Not found: see /openapi.json for what there is"}

func frameOf(in *visit) page.Frame {
	return page.Frame{
		Organization: page.Organization{Slug: in.Slug, Name: in.Grant.Name},
		Reader:       page.Reader{Name: in.Visitor.Name, Operator: in.Operator},
	}
}

// viewOf reads what the address says, and the zone that it names.
func viewOf(r *http.Request) (view page.View, zone *time.Location, err error) {
	if view, err = page.ParseView(r.PathValue("slug"), r.URL.Query()); err != nil {
		return view, nil, badRequest(err.Error())
	}
	if zone, err = time.LoadLocation(view.Get(page.ParamZone)); err != nil {
		return view, nil, badRequest("tz is no time zone: write it as in Europe/Berlin")
	}
	return view, zone, nil
}

// parsePage reads what a page is asked for: as of a list, with a range that has a name, and
// times in the reader's zone.
func (v *Viewer) parsePage(r *http.Request, view page.View, zone *time.Location) (*ask, error) {
	u := *r.URL
	values := u.Query()
	now := time.Now()
	for _, name := range []string{page.ParamStart, page.ParamEnd} {
		text := values.Get(name)
		if text == "" {
			values.Del(name)
			continue
		}
		t, err := page.ParseTime(text, zone)
		if err != nil {
			return nil, badRequest(err.Error())
		}
		values.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
	if !values.Has(page.ParamStart) && !values.Has(page.ParamEnd) {
		length, ok := page.RangeOf(view.Get(page.ParamRange))
		if !ok {
			return nil, badRequest("range is 1h, 3h, 6h, 12h, 24h, 7d or 30d")
		}
		values.Set(page.ParamStart, now.Add(-length.Length).UTC().Format(time.RFC3339Nano))
	}
	values.Del(paramLimit)
	u.RawQuery = values.Encode()
	return v.parseAsk(&u, now)
}

// failPage answers a page's error with a page.
func (v *Viewer) failPage(w http.ResponseWriter, r *http.Request, d *DeniedError) {
	view, _ := page.ParseView(r.PathValue("slug"), r.URL.Query())
	s := &page.State{Frame: page.Frame{Organization: page.Organization{Slug: view.Slug()}}, View: view}
	switch d.Status {
	case http.StatusUnauthorized:
		s.Kind, s.Link = page.SignedOut, v.o.SignInURL
	case http.StatusPaymentRequired:
		s.Kind, s.Link = page.NotEntitled, v.o.UpgradeURL
	case http.StatusForbidden:
		s.Kind = page.NoPermission
	case http.StatusNotFound:
		s.Kind = page.NotFound
	case http.StatusBadRequest:
		s.Kind, s.Message = page.BadRequest, d.Message
		if d.tooLong {
			s.Kind = page.RangeTooLarge
		}
	default:
		s.Kind, s.Message = page.Failed, d.Message
	}
	_ = send(w, d.Status, s) // a page that cannot be made is not sent either
}

// send renders a page whole before its first byte leaves.
func send(w http.ResponseWriter, status int, p interface{ Render(w io.Writer) error }) error {
	var b bytes.Buffer
	if err := p.Render(&b); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // after an error there is nobody to tell
	return nil
}

// whyOf says for people why entries may be missing.
func whyOf(reason string) string {
	switch reason {
	case "passed":
		return "Calls went through while they could not be recorded."
	case "damaged":
		return "Entries from before this time cannot be read any more, because a file was harmed."
	case "skipped", "detached", "dropped":
		return "This log was not given some entries; another one of the operator's has them."
	case whyMore:
		return "Before this time there are more gaps than are shown one by one."
	case "origin":
		return "The record begins anew here: what came before may not be complete."
	}
	return ""
}
