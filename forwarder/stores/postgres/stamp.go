package postgres

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// defaultClass is the class of a row without a stamp, which is in its partition.
const defaultClass = audit.ClassDefault

// stamps are columns of stamps, as the functions write_stamped and restamp take them:
// one element of each array for an entry.
type stamps struct {
	classes     []*string
	keeps       []*int64
	plans       []*string
	memberships []*string
	ids, slugs  []*string
	pendings    []*bool
}

func (c *stamps) add(s *audit.Stamp) {
	var class, plan *string
	var keep *int64
	var pending *bool
	var of audit.Stamp
	if s != nil {
		of, pending = *s, &s.Pending
	}
	if r := of.Retention; r != nil {
		name, until := column(r.Class), r.KeepMicros()
		class, keep, plan = &name, &until, stamped(r.Plan)
	}
	c.classes, c.keeps, c.plans = append(c.classes, class), append(c.keeps, keep), append(c.plans, plan)
	c.memberships = append(c.memberships, stamped(string(of.Membership)))
	c.ids, c.slugs = append(c.ids, stamped(of.OrganizationID)), append(c.slugs, stamped(of.OrganizationSlug))
	c.pendings = append(c.pendings, pending)
}

func (c *stamps) arguments() []any {
	return []any{c.classes, c.keeps, c.plans, c.memberships, c.ids, c.slugs, c.pendings}
}

// stamped is a text of a stamp as its column has it. It can be read back, so it is not
// cut; one that is longer than a column is left out, since no index takes it.
func stamped(s string) *string {
	if s == "" {
		return nil
	}
	s = escape(s)
	if len(s) > maxColumn {
		return nil
	}
	return &s
}

// rowColumns are what row reads.
const rowColumns = "timestamp, id, document, raw, class, keep_until, plan, membership, stamped_id, stamped_slug, pending"

// row is an entry as it is stored. Its bytes are valid until the next row.
type row struct {
	timestamp int64
	id        string
	doc       []byte
	stamp     audit.Stamp
	tagged    bool // has a stamp
}

// scan reads the values of rowColumns.
func (r *row) scan(v [][]byte) (err error) {
	if r.timestamp, err = strconv.ParseInt(string(v[0]), 10, 64); err != nil {
		return err
	}
	r.id, r.doc = string(v[1]), v[2]
	if v[3] != nil {
		if r.doc, err = raw(v[3]); err != nil {
			return err
		}
	}
	r.tagged = v[5] != nil
	r.stamp = audit.Stamp{
		OrganizationID: unescape(v[8]), OrganizationSlug: unescape(v[9]), Membership: audit.Membership(unescape(v[7])),
		Pending: string(v[10]) == "t",
	}
	if !r.tagged {
		return nil
	}
	until, err := strconv.ParseInt(string(v[5]), 10, 64)
	if err != nil {
		return err
	}
	r.stamp.Retention = &audit.Retention{Class: unescape(v[4]), Plan: unescape(v[6])}
	if until != audit.ForeverMicros {
		r.stamp.Retention.KeepUntil = until
	}
	return nil
}

// decode is the entry with its stamp.
func (r *row) decode() (*audit.Entry, error) {
	e, err := audit.Decode(r.doc)
	if err == nil {
		r.stamp.On(e)
	}
	return e, err
}

// appendTo appends the document with its stamp. The stamp names no organization that the
// document has by itself: a later revision may have captured what was unknown.
func (r *row) appendTo(b []byte) ([]byte, error) {
	doc := bytes.TrimRight(r.doc, " \t\r\n")
	s := r.stamp
	if s == (audit.Stamp{Pending: s.Pending}) || len(doc) <= len("{}") || doc[len(doc)-1] != '}' {
		return append(b, r.doc...), nil
	}
	if s.OrganizationID != "" && bytes.Contains(doc, []byte(`"organization_id"`)) ||
		s.OrganizationSlug != "" && bytes.Contains(doc, []byte(`"organization_slug"`)) {
		e, err := audit.Decode(doc)
		if err != nil {
			return b, err
		}
		if e.OrganizationID != "" {
			s.OrganizationID = ""
		}
		if e.OrganizationSlug != "" {
			s.OrganizationSlug = ""
		}
	}
	return s.AppendTo(append(b, doc...))
}

// escape writes what PostgreSQL's texts cannot have, as column does, but cuts nothing.
func escape(s string) string {
	if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\\") {
		return escapes.Replace(strings.ToValidUTF8(s, "\uFFFD"))
	}
	return s
}

var unescapes = strings.NewReplacer(`\\`, `\`, `\0`, "\x00")

func unescape(b []byte) string {
	if !slices.Contains(b, '\\') {
		return string(b)
	}
	return unescapes.Replace(string(b))
}
