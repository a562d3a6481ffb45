package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// isMarked reports whether a query selects by who acts, which the indexes of
// marks answer.
func isMarked(q *forwarder.Query) bool {
	return !q.Trail.IsZero() || q.Session != "" || q.User != "" || q.IP != ""
}

// readMarked is Read by the indexes of marks. It finds the keys first, in one
// short transaction and in their order, and then fetches one entry after the
// other. Between entries it holds no transaction and 8 bytes for each that was
// found.
func (r *Reader) readMarked(ctx context.Context, q forwarder.Query) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		version, err := r.version(ctx)
		if err != nil {
			yield(nil, r.reading(err))
			return
		}
		keys, err := findMarked(ctx, r.db, &q, version)
		if err != nil {
			yield(nil, r.reading(err))
			return
		}
		holds, columns, err := r.stamps(ctx)
		if err != nil {
			yield(nil, r.reading(err))
			return
		}
		query := selectTagged
		if columns == noTagColumns {
			query = selectUntagged
		}
		fetch, err := r.db.PrepareContext(ctx, query)
		if err != nil {
			yield(nil, r.reading(err))
			return
		}
		defer fetch.Close()
		left := q.Limit
		for _, key := range keys {
			doc, err := fetchMarked(ctx, fetch, &q, key, holds)
			if err != nil {
				yield(nil, r.reading(err))
				return
			}
			if doc == nil {
				continue
			}
			if !yield(doc, nil) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

// The statements that read an entry's document and its stamp.
const (
	selectTagged   = `SELECT document, ` + tagColumns + ` FROM entry WHERE key = ?`
	selectUntagged = `SELECT document, ` + noTagColumns + ` FROM entry WHERE key = ?`
)

// findMarked returns the keys of the candidates in the query's order.
func findMarked(ctx context.Context, db *sql.DB, q *forwarder.Query, version int) (keys []int64, err error) {
	query, args := markedSQL(q, version)
	err = each(ctx, db, query, func(rows *sql.Rows) error {
		var key int64
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	}, args...)
	return keys, err
}

// fetchMarked returns nil for an entry that the query does not select after all,
// since its mark stands for more than one text, or that is gone.
func fetchMarked(ctx context.Context, fetch *sql.Stmt, q *forwarder.Query, key int64, holds []forwarder.Hold) ([]byte, error) {
	var doc []byte
	var t tag
	err := fetch.QueryRowContext(ctx, key).Scan(t.into(&doc)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := audit.Decode(doc)
	if err != nil {
		return nil, err
	}
	if s := t.stamp(); s != nil {
		s.On(e)
	}
	if !q.Matches(e) {
		return nil, nil
	}
	return t.splice(doc, 0, holds)
}

// markedSQL selects the candidates' keys. It looks into each block of the index
// by one kind of mark; a trail's session is another kind, and UNION takes what
// both find once. What was found is sorted, once.
//
// What else the query selects is asked of the entries that were found, but for what
// makes them fewer at once.
func markedSQL(q *forwarder.Query, version int) (string, []any) {
	order := ""
	if q.NewestFirst {
		order = " DESC"
	}
	narrower := narrowed(q, version)
	var selects []string
	var args []any
	for _, by := range markedBy(q) {
		where, values := by.filter(q, narrower, `entry.key >> 12 = block.n AND entry.`+by.column)
		selects = append(selects, `SELECT entry.timestamp AS at, entry.id AS id, entry.key AS key FROM block CROSS JOIN entry WHERE `+where)
		args = append(args, values...)
		if by.column != "token" {
			continue
		}
		where, values = by.filter(q, narrower, `entry.key = other_token.key AND other_token.token`)
		selects = append(selects, `SELECT entry.timestamp, entry.id, entry.key FROM other_token CROSS JOIN entry WHERE `+where)
		args = append(args, values...)
	}
	return `WITH RECURSIVE block(n) AS (SELECT min(key) >> 12 FROM entry
			UNION ALL SELECT n + 1 FROM block WHERE n < (SELECT max(key) >> 12 FROM entry))
		SELECT key FROM (` + strings.Join(selects, " UNION ") + `) ORDER BY at` + order + `, id` + order, args
}

// marked is a column of marks and the texts that are looked for in it.
type marked struct {
	column string
	texts  []string
}

// markedBy is what leads to the entries: the narrowest first.
func markedBy(q *forwarder.Query) (by []marked) {
	if len(q.Trail.Hashes) > 0 {
		by = append(by, marked{"token", q.Trail.Hashes})
	}
	if q.Trail.Session != "" {
		by = append(by, marked{"session", []string{q.Trail.Session}})
	}
	switch {
	case len(by) > 0:
	case q.Session != "":
		by = []marked{{"session", []string{q.Session}}}
	case q.User != "":
		by = []marked{{"user", []string{q.User}}}
	default:
		by = []marked{{"ip", []string{q.IP}}}
	}
	return by
}

// filter is what an entry has to be, where by ends in the column that has the
// mark. The plus keeps SQLite from walking another index than that of the marks.
func (m *marked) filter(q *forwarder.Query, narrower terms, by string) (string, []any) {
	where := by + ` IN (?` + strings.Repeat(", ?", len(m.texts)-1) + `)`
	var args []any
	for _, text := range m.texts {
		args = append(args, mark(text))
	}
	add := func(term string, value any) {
		where, args = where+" AND +entry."+term, append(args, value)
	}
	for _, also := range []struct{ column, text string }{{"session", q.Session}, {"user", q.User}, {"ip", q.IP}} {
		if also.text != "" {
			add(also.column+" = ?", mark(also.text))
		}
	}
	for _, term := range narrower.where {
		where += " AND " + term
	}
	return where, append(args, narrower.args...)
}

// narrowed is whose and when. The plus is for the same reason.
func narrowed(q *forwarder.Query, version int) (t terms) {
	if q.Organization != "" {
		t.add("+entry.organization_slug = ?", q.Organization)
	}
	if version >= 3 {
		t.owners(q.Owners)
	}
	if !q.From.IsZero() {
		t.add("+entry.timestamp >= ?", microseconds(q.From))
	}
	if !q.To.IsZero() {
		t.add("+entry.timestamp < ?", microseconds(q.To))
	}
	if !q.After.IsZero() {
		after := ">"
		if q.NewestFirst {
			after = "<"
		}
		t.add("(+entry.timestamp, +entry.id) "+after+" (?, ?)", q.After.Timestamp, q.After.ID)
	}
	return t
}
