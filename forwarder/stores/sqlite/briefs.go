package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// briefPage is how many Briefs are read at a time: about 1 MiB. A test makes it smaller.
var briefPage = 4096

// selectBrief is what a Brief is made of: its texts in one, since each column of an answer
// costs as much as finding the row. Between them is a byte that no text has in UTF-8, and
// the address is last, which may have it.
var selectBrief = `timestamp, id, status, concat(` + strings.Join(briefTextColumns, `, CAST(x'ff' AS TEXT), `) + `)`

const endOfText = 0xff

var briefTextColumns = []string{
	"membership", "actor", "email", "token_type", "project_ref", "action", "method", "target_type", "target", "outcome", "address",
}

// Briefs implements forwarder.Browser. They are read in pages, as entries are. With Owners
// the index has all of it.
func (r *Reader) Briefs(ctx context.Context, q forwarder.Query) iter.Seq2[*audit.Brief, error] {
	return func(yield func(*audit.Brief, error) bool) {
		if err := r.briefs(ctx, &q, yield); err != nil && !errors.Is(err, errStopped) {
			yield(nil, r.reading(err))
		}
	}
}

func (r *Reader) briefs(ctx context.Context, q *forwarder.Query, yield func(*audit.Brief, error) bool) error {
	w, err := r.newWalk(ctx, q)
	if err != nil {
		return err
	}
	if w.version < 3 || isMarked(q) || q.Text != "" {
		return r.decodedBriefs(ctx, q, yield)
	}
	p := briefs{walk: w, left: limitOf(q), unpacker: unpacker{texts: texts{}}}
	for !p.done {
		if err := p.fetch(ctx, r.db); err != nil {
			return err
		}
		for i := range p.page {
			if !yield(&p.page[i], nil) {
				return errStopped
			}
		}
	}
	return nil
}

// decodedBriefs are made of the entries themselves.
func (r *Reader) decodedBriefs(ctx context.Context, q *forwarder.Query, yield func(*audit.Brief, error) bool) error {
	for doc, err := range r.Read(ctx, *q) {
		if err != nil {
			yield(nil, err)
			return errStopped
		}
		e, err := audit.Decode(doc)
		if err != nil {
			continue
		}
		b := e.Brief()
		if !yield(&b, nil) {
			return errStopped
		}
	}
	return nil
}

// briefs is where reading Briefs stands: those in hand.
type briefs struct {
	*walk
	unpacker     // of the page's
	left     int // of the query's Limit
	done     bool

	page []audit.Brief
}

// fetch reads the next page.
func (p *briefs) fetch(ctx context.Context, db *sql.DB) error {
	if p.page == nil {
		n := min(briefPage, p.left)
		p.page, p.addresses = make([]audit.Brief, 0, n), make([]byte, 0, 16*n)
	}
	p.page, p.addresses = p.page[:0], p.addresses[:0]
	want := min(briefPage, p.left)
	seen := 0
	err := p.rows(ctx, db, selectBrief, want, func(rows *sql.Rows) error {
		for rows.Next() {
			var b audit.Brief
			var packed string
			if err := rows.Scan(&b.Timestamp, &b.ID, &b.Status, &packed); err != nil {
				return err
			}
			seen++
			p.timestamp, p.id = b.Timestamp, b.ID
			if err := p.unpack(&b, packed); err != nil {
				return err
			}
			if p.takes(&b) {
				p.page = append(p.page, b)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.begun = p.begun || seen > 0
	p.left -= len(p.page)
	if seen < want {
		p.ended()
		p.done = p.last
	}
	p.done = p.done || p.left <= 0
	return nil
}

// unpacker takes the columns of selectBrief apart.
type unpacker struct {
	texts     texts
	addresses []byte // of those that were unpacked
}

// unpack fills in the texts and the address.
func (p *unpacker) unpack(b *audit.Brief, packed string) error {
	var of [10]string
	for i := range of {
		end := strings.IndexByte(packed, endOfText)
		if end < 0 {
			return fmt.Errorf("the columns of entry %q cannot be told apart: something else has written them", b.ID)
		}
		of[i], packed = p.texts.of(packed[:end]), packed[end+1:]
	}
	b.Membership, b.Actor, b.Email, b.TokenType, b.Project = audit.Membership(of[0]), of[1], of[2], audit.TokenType(of[3]), of[4]
	b.Action, b.Method, b.TargetType, b.Target, b.Outcome = of[5], of[6], of[7], of[8], audit.Outcome(of[9])
	if packed != "" {
		at := len(p.addresses)
		p.addresses = append(p.addresses, packed...)
		b.Address = p.addresses[at:len(p.addresses):len(p.addresses)]
	}
	return nil
}

// takes shortens the one text that its column has whole, and asks a Brief that has it.
func (p *briefs) takes(b *audit.Brief) bool {
	if len(b.Project) <= audit.MaxBriefText {
		return true
	}
	b.Project = audit.BriefText(b.Project)
	asked := *b
	if p.query.AsMember {
		asked = b.Attempt()
	}
	return p.query.Match(&asked)
}

// maxTexts bounds how many texts are remembered.
const maxTexts = 4096

// texts are those that came lately, so that the few that come again and again are made
// once.
type texts map[string]string

func (t texts) of(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := t[s]; ok {
		return known
	}
	if len(t) >= maxTexts {
		clear(t)
	}
	s = strings.Clone(s)
	t[s] = s
	return s
}
