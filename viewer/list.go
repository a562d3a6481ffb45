package viewer

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// listEnd is what follows the entries of a list.
type listEnd struct {
	// RetentionPeriod is for how many days back the plan may read.
	RetentionPeriod int `json:"retention_period"`
	// NextCursor goes on behind the last entry; absent where there is no further one, or
	// no limit was asked for.
	NextCursor string `json:"next_cursor,omitempty"`
	// CompleteUntil is until when nothing that arrived is still on its way into the list;
	// absent if nobody can say.
	CompleteUntil *time.Time `json:"complete_until,omitempty"`
	// Gaps are times of which entries may be missing.
	Gaps []gap `json:"gaps,omitempty"`
}

// serveList answers as the reference product does: the entries of a range, newest first.
// With a limit it is one page, else all of it.
func (v *Viewer) serveList(w http.ResponseWriter, r *http.Request) error {
	in, a, q, err := v.asked(r)
	if err != nil {
		return err
	}
	return v.list(w, r, in, a, q)
}

// serveProfile answers with the visitor's own entries, in whatever organization.
func (v *Viewer) serveProfile(w http.ResponseWriter, r *http.Request) error {
	if isCrossSite(r) {
		return errCrossSite
	}
	who, err := v.o.Gate.Visitor(r)
	if err != nil {
		return gateError(err)
	}
	if !who.Actor.IsVerified() || who.Actor.UserID == "" {
		return &DeniedError{Status: http.StatusForbidden, Message: "Forbidden: this credential is not a person's, or nobody has verified whose it is"}
	}
	in := &visit{Visitor: who, Grant: new(Grant), days: allDays}
	a, err := v.parseAsk(r.URL, time.Now())
	if err != nil {
		return err
	}
	q, err := a.query(in)
	if err != nil {
		return err
	}
	q.User, q.AsMember = who.Actor.UserID, false
	if q.After, err = v.afterOf(&q, a); err != nil {
		return err
	}
	return v.list(w, r, in, a, q)
}

// asked says who asks, for what, and what that is as a query within what they may read. That
// an operator looks is recorded then.
func (v *Viewer) asked(r *http.Request) (in *visit, a *ask, q forwarder.Query, err error) {
	if in, err = v.enter(r); err != nil {
		return nil, nil, q, err
	}
	if a, err = v.parseAsk(r.URL, time.Now()); err != nil {
		return nil, nil, q, err
	}
	if q, err = a.query(in); err != nil {
		return nil, nil, q, err
	}
	if q.After, err = v.afterOf(&q, a); err != nil {
		return nil, nil, q, err
	}
	return in, a, q, v.recordRead(in, r, a)
}

func (v *Viewer) afterOf(q *forwarder.Query, a *ask) (forwarder.Place, error) {
	if a.cursor == "" {
		return forwarder.Place{}, nil
	}
	return v.place(listOf(q), a.cursor)
}

// listOf is what cursors are bound to: whose entries, and in which order.
func listOf(q *forwarder.Query) string {
	var b strings.Builder
	b.WriteString(strconv.FormatBool(q.NewestFirst))
	b.WriteByte(0)
	b.WriteString(q.User)
	for _, o := range q.Owners {
		b.WriteByte(0)
		b.WriteString(string(o))
	}
	return b.String()
}

// list streams entries: `{"result": [`, one after the other, and the end. What is read
// before the first byte leaves decides the status; an error behind it cuts the answer.
func (v *Viewer) list(w http.ResponseWriter, r *http.Request, in *visit, a *ask, q forwarder.Query) error {
	slots := v.reads
	if a.limit == 0 {
		slots = v.exports
	}
	leave, err := slots.admit(in.Visitor)
	if err != nil {
		return err
	}
	defer leave()
	out := v.newOutput(w)
	defer out.end()
	end := listEnd{RetentionPeriod: in.days}
	if q.Owners != nil {
		if end.CompleteUntil, end.Gaps, err = v.trust(r.Context(), &q); err != nil {
			return err
		}
	}
	begun, n := false, 0
	err = v.walk(r.Context(), q, a.limit, func(p part) error {
		var b bytes.Buffer
		if !begun {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			b.WriteString(`{"result":[`)
			begun = true
		}
		for i, e := range p.entries {
			doc, err := in.document(e, p.docs[i])
			if err != nil {
				return err
			}
			if n++; n > 1 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
			b.Write(doc)
		}
		if p.more && a.limit > 0 && n == a.limit {
			end.NextCursor = v.cursor(listOf(&q), p.next)
		}
		if err := in.live(r.Context()); err != nil {
			return err
		}
		return out.write(b.Bytes())
	})
	if err != nil {
		return err
	}
	tail, err := json.Marshal(&end)
	if err != nil {
		return err
	}
	return out.write(append([]byte("\n],"), append(tail[1:], '\n')...))
}

// serveEntry answers with one entry.
func (v *Viewer) serveEntry(w http.ResponseWriter, r *http.Request) error {
	in, err := v.enter(r)
	if err != nil {
		return err
	}
	_, doc, err := v.entry(r, in)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(append(doc, '\n')) //nolint:gosec // it is JSON, and said to be; after an error there is nobody to tell
	return nil
}

// errNoEntry says the same of what is not there and of what is another's.
var errNoEntry = &DeniedError{Status: http.StatusNotFound, Message: "Not found: this log has no such entry, or it is older than may be read"}

// idSlack is how far an entry's arrival may be from when its id was made.
const idSlack = time.Minute

// entry finds the entry in a request's path, and what of it the visitor may see. That an
// operator looks is recorded then.
func (v *Viewer) entry(r *http.Request, in *visit) (e *audit.Entry, doc []byte, err error) {
	if e, doc, err = v.find(r, in, r.PathValue("id")); err != nil {
		return nil, nil, err
	}
	if err := v.recordEntry(in, r, e); err != nil {
		return nil, nil, err
	}
	doc, err = in.document(e, doc)
	return in.shown(e), doc, err
}

// find finds an entry by its id, which says when it was made: that bounds the search.
func (v *Viewer) find(r *http.Request, in *visit, text string) (*audit.Entry, []byte, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.Version() != 7 || id.String() != text {
		return nil, nil, errNoEntry
	}
	leave, err := v.reads.admit(in.Visitor)
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	made := time.Unix(id.Time().UnixTime())
	q := forwarder.Query{Owners: in.Owners, AsMember: !in.Operator, From: made.Add(-idSlack), To: made.Add(idSlack)}
	if q.From.Before(in.from) {
		q.From = in.from
	}
	if !q.From.Before(q.To) {
		return nil, nil, errNoEntry
	}
	q.Text = text
	var found *audit.Entry
	var doc []byte
	err = v.walk(r.Context(), q, 0, func(p part) error {
		for i, e := range p.entries {
			if e.ID == text {
				found, doc = e, p.docs[i]
				return errFound
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, nil, err
	}
	if found == nil {
		return nil, nil, errNoEntry
	}
	return found, doc, nil
}

var errFound = errors.New("it is found")
