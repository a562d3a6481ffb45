package sqlite

import (
	"database/sql"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// tag is the stamp as it stands in a row's columns. The zero value is none.
type tag struct {
	class      string
	keep       int64 // zero without a retention, audit.ForeverMicros for ever
	plan       string
	membership string
	// stamped is the organization, as far as the captured entry has none.
	stamped organization
	pending bool
}

// tagColumns are what scan reads. Without stamps are the columns of version 1, which a
// reader may find before the server has been started.
const (
	tagColumns = `ifnull(class, ''), ifnull(keep_until, 0), ifnull(plan, ''), ifnull(membership, ''),
	ifnull(stamped_organization_id, ''), ifnull(stamped_organization_slug, ''), pending IS NOT NULL`
	noTagColumns = `'', 0, '', '', '', '', 0`
)

// into are the places for tagColumns.
func (t *tag) into(more ...any) []any {
	return append(more, &t.class, &t.keep, &t.plan, &t.membership, &t.stamped.id, &t.stamped.slug, &t.pending)
}

// tagOf is a stamp's tag, zero for none. Pending is only what has a stamp.
func tagOf(s *audit.Stamp) (t tag) {
	if s == nil {
		return tag{}
	}
	t.membership = string(s.Membership)
	t.stamped = organization{s.OrganizationID, s.OrganizationSlug}
	t.pending = s.Pending
	if r := s.Retention; r != nil {
		t.class, t.keep, t.plan = r.Class, r.KeepMicros(), r.Plan
	}
	return t
}

// stamp is the tag as a stamp, nil if there is none.
func (t *tag) stamp() *audit.Stamp {
	if *t == (tag{}) {
		return nil
	}
	s := &audit.Stamp{
		OrganizationID: t.stamped.id, OrganizationSlug: t.stamped.slug,
		Membership: audit.Membership(t.membership), Pending: t.pending,
	}
	if t.keep != 0 {
		s.Retention = &audit.Retention{Class: t.class, Plan: t.plan}
		if t.keep != audit.ForeverMicros {
			s.Retention.KeepUntil = t.keep
		}
	}
	return s
}

// add puts a newer stamp to the one that is there, see audit.Stamp.Merge; whether it is
// pending is for the caller to say. Captured is the entry's own organization, beside which
// no other one is put.
func (t *tag) add(n tag, captured organization) {
	if n.stamped.isOther(captured) {
		n.stamped = organization{}
	}
	pending := t.pending
	t.stamped = t.stamped.beside(captured)
	*t = tagOf(t.stamp().Merge(n.stamp()))
	t.stamped, t.pending = t.stamped.beside(captured), pending
}

// values are the tag's columns, in the order of tagColumns.
func (t *tag) values() []any {
	var keep, pending any
	if t.keep != 0 {
		keep = t.keep
	}
	if t.pending {
		pending = 1
	}
	class := unknown(t.class)
	if t.keep != 0 {
		class = t.class
	}
	return []any{class, keep, unknown(t.plan), unknown(t.membership), unknown(t.stamped.id), unknown(t.stamped.slug), pending}
}

// organization is what is known of whose an entry is.
type organization struct{ id, slug string }

// isOther reports whether two are known to be different ones.
func (o organization) isOther(than organization) bool {
	return o.id != "" && than.id != "" && o.id != than.id || o.slug != "" && than.slug != "" && o.slug != than.slug
}

// beside is what is left of a stamped organization where another one was captured:
// nothing if that is a different one.
func (o organization) beside(captured organization) organization {
	if o.isOther(captured) {
		return organization{}
	}
	if captured.id != "" {
		o.id = ""
	}
	if captured.slug != "" {
		o.slug = ""
	}
	return o
}

// captured is the organization in a record's JSON. Its Entry has the stamp on it, and a
// stamp names only what the captured entry does not.
func captured(r *forwarder.Record) organization {
	o := organization{r.Entry.OrganizationID, r.Entry.OrganizationSlug}
	if r.Stamp != nil {
		if o.id == r.Stamp.OrganizationID {
			o.id = ""
		}
		if o.slug == r.Stamp.OrganizationSlug {
			o.slug = ""
		}
	}
	return o
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// splice puts the stamp into a document that begins at that place in b, and hold: true
// if one of the holds keeps the entry.
func (t *tag) splice(b []byte, at int, holds []forwarder.Hold) ([]byte, error) {
	s := t.stamp()
	if s == nil {
		return b, nil
	}
	if s.Retention != nil && len(holds) > 0 {
		// A document that nobody can decode no hold can select.
		if e, err := audit.Decode(b[at:]); err == nil {
			s.On(e)
			s.Retention.Hold = forwarder.IsHeld(holds, e)
		}
	}
	doc, err := s.AppendTo(b[at:])
	if err != nil {
		return nil, err
	}
	return append(b[:at], doc...), nil
}

// row is what is there of an entry, beside its document.
type row struct {
	key       int64
	revision  int
	timestamp int64
	place     place
	slug      string // organization_slug: captured, or else stamped
	owner     audit.Owner
	size      int64 // of the document
	mark      int64 // held; noMark if it is not
	tag       tag
}

// noMark says that no hold was found to keep a row.
const noMark = -1

// place is where an entry came from.
type place struct {
	instance string
	sequence int64
}

const rowColumns = `key, revision, timestamp, instance, sequence, ifnull(organization_slug, ''), ifnull(owner, ''), octet_length(document), ifnull(held, -1), ` + tagColumns

func (r *row) scan(from interface{ Scan(...any) error }) error {
	return from.Scan(r.tag.into(&r.key, &r.revision, &r.timestamp, &r.place.instance, &r.place.sequence, &r.slug, &r.owner, &r.size, &r.mark)...)
}

// entry is a row's document, decoded and without the stamp; nil if it cannot be.
func (c *change) entry(r *row) (*audit.Entry, error) {
	var doc sql.RawBytes
	rows, err := c.query(selectDocument, r.key)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	if err := rows.Scan(&doc); err != nil {
		return nil, err
	}
	e, err := audit.Decode(doc)
	if err != nil {
		return nil, nil //nolint:nilnil // it is kept as it is
	}
	return e, rows.Close()
}

// captured is the organization in a row's document, as far as it matters to one that is
// to be stamped on it: the document is read only where there is one.
func (c *change) captured(r *row, stamped organization) (organization, error) {
	var o organization
	if r.tag.stamped.slug == "" {
		o.slug = r.slug
	}
	if stamped == (organization{}) {
		return o, nil
	}
	e, err := c.entry(r)
	if e != nil {
		o.id = e.OrganizationID
	}
	return o, err
}
