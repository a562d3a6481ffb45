package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// maxBriefColumn bounds a text of the Brief in its column, in bytes: all of them, with the
// owner, the id and what else is in the index entry_by_owner, must fit into one row of it.
const maxBriefColumn = 173

// briefColumn is a text of audit.MaxBriefText bytes at most as its column has it, from
// which unbrief reads it back. It is as escape writes it; but a text with U+0000, or one
// that becomes too long by that, is \b and its bytes in base64. The function brief_bytes
// does the same.
func briefColumn(s string) string {
	if strings.IndexByte(s, 0) < 0 {
		if e := escape(s); len(e) <= maxBriefColumn {
			return e
		}
	}
	return `\b` + base64.RawStdEncoding.EncodeToString([]byte(strings.ToValidUTF8(s, "\uFFFD")))
}

// unbrief reads what briefColumn has written.
func unbrief(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	if rest, ok := bytes.CutPrefix(b, []byte(`\b`)); ok {
		if text, err := base64.RawStdEncoding.DecodeString(string(rest)); err == nil {
			return string(text)
		}
	}
	return unescape(b)
}

// briefed is a text of a Brief in its column, NULL for the empty one.
func briefed(s string) *string {
	if s == "" {
		return nil
	}
	s = briefColumn(s)
	return &s
}

// ownerColumn is an owner as its column has it.
func ownerColumn(o audit.Owner) string {
	kind, name, _ := strings.Cut(string(o), ":")
	return escape(kind) + ":" + briefColumn(name)
}

// briefs are columns of Briefs, as the function write_entries takes them: one element of
// each array for an entry. The project is not among them, which has a column of its own.
type briefs struct {
	owners, actors, emails, tokenTypes     []*string
	addresses                              [][]byte
	actions, methods, targetTypes, targets []*string
	outcomes                               []*string
	statuses                               []*int32
	events                                 []*bool
}

// add takes the owner as it was captured: what the stamp makes of it is for the function
// to say, since a row may have another stamp.
func (c *briefs) add(e *audit.Entry, b *audit.Brief, captured audit.Owner) {
	var owner *string
	if captured != "" {
		text := ownerColumn(captured)
		owner = &text
	}
	c.owners = append(c.owners, owner)
	c.actors, c.emails = append(c.actors, briefed(b.Actor)), append(c.emails, briefed(b.Email))
	c.tokenTypes, c.addresses = append(c.tokenTypes, briefed(string(b.TokenType))), append(c.addresses, b.Address)
	action := briefed(b.Action)
	var event *bool
	if e.IsEvent() {
		is := true
		if event = &is; action == nil {
			action = new(string) // by which it is found in the index of events
		}
	}
	c.actions, c.methods = append(c.actions, action), append(c.methods, briefed(b.Method))
	c.targetTypes, c.targets = append(c.targetTypes, briefed(b.TargetType)), append(c.targets, briefed(b.Target))
	c.outcomes = append(c.outcomes, briefed(string(b.Outcome)))
	var status *int32
	if b.Status != 0 {
		n := statusColumn(b.Status)
		status = &n
	}
	c.statuses, c.events = append(c.statuses, status), append(c.events, event)
}

func (c *briefs) arguments() []any {
	return []any{
		c.owners, c.actors, c.emails, c.tokenTypes, c.addresses, c.actions, c.methods, c.targetTypes, c.targets,
		c.outcomes, c.statuses, c.events,
	}
}

// statusColumn is a status in its column, which is not as wide as what anybody may write
// into an entry.
func statusColumn(status int) int32 {
	return int32(max(math.MinInt32, min(math.MaxInt32, status)))
}

// captured is whose the entry is by itself, and the slug that it has by itself: the
// forwarder has put the stamp on it where it has none.
func captured(r *forwarder.Record) (owner audit.Owner, slug *string) {
	e, s := r.Entry, r.Stamp
	own := struct {
		ID   string `json:"organization_id"`
		Slug string `json:"organization_slug"`
	}{e.OrganizationID, e.OrganizationSlug}
	if s != nil && (own.ID != "" && own.ID == s.OrganizationID || own.Slug != "" && own.Slug == s.OrganizationSlug) {
		if own.ID == s.OrganizationID {
			own.ID = ""
		}
		if own.Slug == s.OrganizationSlug {
			own.Slug = ""
		}
		if bytes.Contains(r.JSON, []byte(`"organization_`)) {
			own.ID, own.Slug = "", ""
			_ = json.Unmarshal(r.JSON, &own) // it has been decoded once
		}
	}
	if owner = audit.OwnerByID(own.ID); owner == "" {
		owner = audit.OwnerBySlug(own.Slug)
	}
	return owner, unknown(own.Slug)
}

// name is a slug of an organization whose owner is known by an id, as their columns have
// them: a row of the table named.
type name struct{ slug, owner string }

// names are those that have been written.
type names map[name]bool

// maxNames bounds them: beyond that, all are forgotten and written again.
const maxNames = 10_000

// nameOf is what an entry names, by what was captured and else by its stamp.
func nameOf(captured audit.Owner, slug *string, s *audit.Stamp) (n name, ok bool) {
	if s != nil {
		if slug == nil {
			slug = stamped(s.OrganizationSlug)
		}
		if !strings.HasPrefix(string(captured), "id:") && stamped(s.OrganizationID) != nil {
			captured = audit.OwnerByID(s.OrganizationID)
		}
	}
	if slug == nil || !strings.HasPrefix(string(captured), "id:") {
		return n, false
	}
	return name{*slug, ownerColumn(captured)}, true
}

// isText reports whether a text can be in an entry, and so in a column.
func isText(s string) bool { return s != "" && utf8.ValidString(s) }
