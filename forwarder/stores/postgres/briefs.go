package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"
	"strconv"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// briefPage is how many Briefs are read at a time: about 1 MiB.
const briefPage = 4096

// briefColumns are what a Brief is made of. The index entry_by_owner has them all.
const briefColumns = "timestamp, id, status, address, membership, actor, email, token_type, project_ref, action, method, target_type, target, outcome"

// Briefs implements forwarder.Browser. They are read in pages of one snapshot, as entries
// are.
func (r *Reader) Briefs(ctx context.Context, q forwarder.Query) iter.Seq2[*audit.Brief, error] {
	if isMarked(&q) || q.Text != "" {
		return r.decodedBriefs(ctx, q)
	}
	return func(yield func(*audit.Brief, error) bool) {
		err := r.snapshot(ctx, false, func(tx *snapshot) error {
			w, err := tx.newWalk(ctx, &q)
			if err != nil {
				return err
			}
			p := briefsPage{walk: w, left: q.Limit, texts: recent{}}
			for !p.done {
				if err := p.fetch(ctx, tx); err != nil {
					return err
				}
				for i := range p.page {
					if !yield(&p.page[i], nil) {
						return errStopped
					}
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, r.at.failing("reading", err))
		}
	}
}

// decodedBriefs are made of the entries themselves.
func (r *Reader) decodedBriefs(ctx context.Context, q forwarder.Query) iter.Seq2[*audit.Brief, error] {
	return func(yield func(*audit.Brief, error) bool) {
		for doc, err := range r.Read(ctx, q) {
			if err != nil {
				yield(nil, err)
				return
			}
			e, err := audit.Decode(doc)
			if err != nil {
				continue
			}
			b := e.Brief()
			if !yield(&b, nil) {
				return
			}
		}
	}
}

// briefsPage is where reading Briefs stands: those in hand.
type briefsPage struct {
	*walk
	texts recent
	left  int // of the query's Limit, if that is set
	done  bool

	page      []audit.Brief
	addresses []byte // of the page
}

// fetch reads the next page.
func (p *briefsPage) fetch(ctx context.Context, tx *snapshot) error {
	want := briefPage
	if p.query.Limit > 0 {
		want = min(want, p.left)
	}
	if p.page == nil {
		p.page, p.addresses = make([]audit.Brief, 0, want), make([]byte, 0, 16*want)
	}
	p.page, p.addresses = p.page[:0], p.addresses[:0]
	var wrong error
	sql, args := p.merged(briefColumns, want)
	err := tx.query(ctx, sql, args, func(v [][]byte) {
		b, err := p.scan(v)
		if err != nil {
			wrong = err
			return
		}
		p.page = append(p.page, b)
	})
	if err = errors.Join(err, wrong); err != nil {
		return err
	}
	p.left -= len(p.page)
	p.done = len(p.page) < want || p.query.Limit > 0 && p.left <= 0
	return nil
}

// scan reads the values of briefColumns.
func (p *briefsPage) scan(v [][]byte) (b audit.Brief, err error) {
	if b.Timestamp, err = strconv.ParseInt(string(v[0]), 10, 64); err != nil {
		return b, err
	}
	p.begun, p.timestamp, p.id = true, b.Timestamp, string(v[1])
	b.ID = unescape(v[1])
	if v[2] != nil {
		if b.Status, err = strconv.Atoi(string(v[2])); err != nil {
			return b, err
		}
	}
	if v[3] != nil {
		at := len(p.addresses)
		if p.addresses, err = hex.AppendDecode(p.addresses, v[3][min(len(`\x`), len(v[3])):]); err != nil {
			return b, errBytea
		}
		b.Address = p.addresses[at:len(p.addresses):len(p.addresses)]
	}
	b.Membership, b.Actor, b.Email, b.TokenType = audit.Membership(unescape(v[4])), p.texts.of(v[5]), p.texts.of(v[6]), audit.TokenType(p.texts.of(v[7]))
	b.Project, b.Action, b.Method, b.TargetType, b.Target = p.texts.of(v[8]), p.texts.of(v[9]), p.texts.of(v[10]), p.texts.of(v[11]), p.texts.of(v[12])
	b.Outcome = audit.Outcome(p.texts.of(v[13]))
	return b, nil
}

// maxTexts bounds how many texts are remembered.
const maxTexts = 4096

// recent are the texts that came lately, by what their columns have, so that the few that come
// again and again are made once.
type recent map[string]string

func (t recent) of(column []byte) string {
	if len(column) == 0 {
		return ""
	}
	if known, ok := t[string(column)]; ok {
		return known
	}
	if len(t) >= maxTexts {
		clear(t)
	}
	s := unbrief(column)
	t[string(column)] = s
	return s
}
