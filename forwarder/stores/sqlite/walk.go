package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/summary"
)

// maxSources bounds how many walks are merged into one. With more owners than that all
// entries are walked by time.
const maxSources = 100

// walk is where reading in order stands. It walks indexes in their order and sorts
// nothing: one of the owners' for each owner, which SQLite merges; that of the sidecar's
// events for each of their kinds; or that of all.
type walk struct {
	query   *forwarder.Query
	version int // of the file's schema
	newest  int64
	// sources are what each of the walks begins with.
	sources []source
	// lookup is what the filters look for, where summaries may tell; else nil.
	lookup *summary.Lookup
	// The place of the last entry that was read, and begun if there is one.
	begun     bool
	timestamp int64
	id        string
	// window is how many entries one statement looks at, whether the filters pass them or
	// not; zero is all. A statement cannot be ended from outside once it has a row, and so
	// a search that finds little would hold its connection, and its view of the file, for
	// as long as it takes. until is where the statement in hand ends, and last says that
	// nothing is behind it.
	window int
	until  forwarder.Place
	last   bool
}

// source is one of the walks that are merged.
type source struct {
	terms
	// owner is whose entries it walks; empty if those of nobody or of several.
	owner audit.Owner
	// from is where the next statement goes on in it; zero where all of them do. done says
	// that there is nothing in it for that.
	from forwarder.Place
	done bool
}

const (
	// coveredWindow is for filters that the index by owner answers, and rowWindow for what
	// has to be looked for in rows.
	coveredWindow = 16_384
	rowWindow     = 1024
)

// newWalk begins one of what is there now.
func (r *Reader) newWalk(ctx context.Context, q *forwarder.Query) (w *walk, err error) {
	w = &walk{query: q}
	if w.version, err = r.version(ctx); err != nil {
		return nil, err
	}
	if err := r.db.QueryRowContext(ctx, `SELECT coalesce(max(key), 0) FROM entry`).Scan(&w.newest); err != nil {
		return nil, err
	}
	w.sources = sourcesOf(q, w.version, nil)
	w.begin()
	if w.version >= 3 && isFiltered(q) && !q.Events {
		if w.window = rowWindow; q.Text == "" && len(q.Owners) > 0 && len(q.Owners) <= maxSources {
			w.window = coveredWindow
		}
		if l := summary.NewLookup(q); w.version >= 4 && (l.Values() || l.Texts()) {
			w.lookup = l
		}
	}
	return w, nil
}

// isFiltered reports whether a query has filters that pass some entries and others not.
func isFiltered(q *forwarder.Query) bool {
	rest := *q
	rest.Owners, rest.Events = nil, false
	return isNarrowed(&rest)
}

// rows calls read with the rows that follow the last entry, in a transaction of its own.
//
// What a walk has to look for first is looked for in the same transaction: an entry that
// gets another owner while a page is read is found under the new one.
func (w *walk) rows(ctx context.Context, db *sql.DB, columns string, limit int, read func(*sql.Rows) error) error {
	var from querier = db
	var found []source
	if find := w.find(); find != nil || w.window > 0 {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if from = tx; find != nil {
			if found, err = find(ctx, tx, w.query); err != nil {
				return err
			}
			w.sources = sourcesOf(w.query, w.version, slices.Clone(found))
		}
	}
	if err := w.advance(ctx, from, found); err != nil {
		return err
	}
	if !slices.ContainsFunc(w.sources, func(s source) bool { return !s.done }) {
		return nil // what is passed over is all that there is
	}
	query, args := w.sql(columns, limit)
	rows, err := from.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if err := read(rows); err != nil {
		return err
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return rows.Close()
}

// advance finds where the next statement ends.
func (w *walk) advance(ctx context.Context, db querier, found []source) error {
	w.until, w.last = forwarder.Place{}, true
	switch {
	case w.window == 0:
		return nil
	case w.lookup != nil && w.haveOwners():
		return w.passOver(ctx, db)
	}
	all := *w.query
	all.Filters, all.Organization = forwarder.Filters{}, ""
	bare := *w
	bare.query, bare.sources = &all, sourcesOf(&all, w.version, found)
	query, args := bare.sql("timestamp, id", 1)
	err := db.QueryRowContext(ctx, query+" OFFSET ?", append(args, w.window-1)...).Scan(&w.until.Timestamp, &w.until.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	w.last = false
	return err
}

// ended goes on behind the statement in hand, when all of its rows have been read.
func (w *walk) ended() {
	if !w.until.IsZero() {
		w.begun, w.timestamp, w.id = true, w.until.Timestamp, w.until.ID
	}
}

// find is what a walk has to ask before each page, if it has.
func (w *walk) find() func(context.Context, querier, *forwarder.Query) ([]source, error) {
	switch q := w.query; {
	case w.version < 3 || len(q.Owners) > 0:
	case q.Organization != "":
		return ownersOf
	case q.Events:
		return eventsOf
	}
	return nil
}

// ownersOf are whose entries may have the query's slug.
func ownersOf(ctx context.Context, db querier, q *forwarder.Query) (found []source, err error) {
	owners := []audit.Owner{audit.OwnerBySlug(q.Organization)}
	err = each(ctx, db, `SELECT owner FROM named WHERE slug = ? LIMIT ?`, func(rows *sql.Rows) error {
		var o audit.Owner
		err := rows.Scan(&o)
		owners = append(owners, o)
		return err
	}, q.Organization, maxSources)
	return sourcesOfOwners(owners), err
}

// sourcesOf chooses what to walk. found are the walks that find has found.
func sourcesOf(q *forwarder.Query, version int, found []source) []source {
	if version < 3 {
		var s source
		if q.Organization != "" {
			s.add("organization_slug = ?", q.Organization)
		}
		return []source{s}
	}
	all := found
	switch owners := slices.Compact(slices.Sorted(slices.Values(q.Owners))); {
	case len(owners) > maxSources:
		var s source
		s.owners(owners)
		all = []source{s}
	case len(owners) > 0:
		all = sourcesOfOwners(owners)
	}
	if len(all) == 0 || len(all) > maxSources {
		all = make([]source, 1)
	}
	for i := range all {
		if q.Organization != "" {
			all[i].add("+organization_slug = ?", q.Organization)
		}
		all[i].filter(q)
	}
	return all
}

func sourcesOfOwners(owners []audit.Owner) (all []source) {
	for _, o := range owners {
		s := source{owner: o}
		if o == "" {
			s.add("owner IS NULL")
		} else {
			s.add("owner = ?", string(o))
		}
		all = append(all, s)
	}
	return all
}

// owners adds that an entry is one of theirs, where another index is walked.
func (t *terms) owners(owners []audit.Owner) {
	if len(owners) == 0 {
		return
	}
	var of terms
	var values []any
	for _, o := range owners {
		if o == "" {
			of.add("+owner IS NULL")
		} else {
			values = append(values, string(o))
		}
	}
	of.in("+owner", values)
	t.any(of)
}

// begin goes to the query's After, unless its other bound is further on.
func (w *walk) begin() {
	q := w.query
	if q.After.IsZero() {
		return
	}
	if bound, ok := w.bound(); ok && (q.NewestFirst && q.After.Timestamp >= bound || !q.NewestFirst && q.After.Timestamp < bound) {
		return
	}
	w.begun, w.timestamp, w.id = true, q.After.Timestamp, q.After.ID
}

// bound is the one that a walk begins at.
func (w *walk) bound() (at int64, ok bool) {
	if w.query.NewestFirst {
		return microseconds(w.query.To), !w.query.To.IsZero()
	}
	return microseconds(w.query.From), !w.query.From.IsZero()
}

// sql selects what follows the last entry. The columns begin with timestamp and id. The
// plus keeps SQLite from walking the keys.
func (w *walk) sql(columns string, limit int) (string, []any) {
	q := w.query
	bounds := terms{}
	bounds.add("+key <= ?", w.newest)
	order := ""
	if q.NewestFirst {
		order = " DESC"
	}
	// Where the statement ends takes the place of the bound that the walk ends at. With
	// both of a side, SQLite may choose the wider.
	if w.until.IsZero() {
		w.bounded(&bounds, !q.NewestFirst)
	} else {
		upTo := "<="
		if q.NewestFirst {
			upTo = ">="
		}
		bounds.add("(timestamp, id) "+upTo+" (?, ?)", w.until.Timestamp, w.until.ID)
	}
	var selects []string
	var args []any
	for _, s := range w.sources {
		if s.done {
			continue // for this statement: what is behind it may change meanwhile
		}
		begin := w.begins(&s)
		selects = append(selects, "SELECT "+columns+" FROM entry WHERE "+strings.Join(slices.Concat(s.where, bounds.where, begin.where), " AND "))
		args = append(append(append(args, s.args...), bounds.args...), begin.args...)
	}
	return strings.Join(selects, " UNION ALL ") + " ORDER BY 1" + order + ", 2" + order + " LIMIT ?", append(args, limit)
}

// begins is where a source goes on: behind the last entry, or what was passed over; else
// at the bound that the walk begins at.
func (w *walk) begins(s *source) (t terms) {
	at := s.from
	switch {
	case !at.IsZero():
	case w.begun:
		at = forwarder.Place{Timestamp: w.timestamp, ID: w.id}
	default:
		w.bounded(&t, w.query.NewestFirst)
		return t
	}
	behind := ">"
	if w.query.NewestFirst {
		behind = "<"
	}
	t.add("(timestamp, id) "+behind+" (?, ?)", at.Timestamp, at.ID)
	return t
}

// bounded adds one of the query's bounds, the upper or the lower.
func (w *walk) bounded(t *terms, upper bool) {
	switch q := w.query; {
	case upper && !q.To.IsZero():
		t.add("timestamp < ?", microseconds(q.To))
	case !upper && !q.From.IsZero():
		t.add("timestamp >= ?", microseconds(q.From))
	}
}

// limitOf is how many are left of a query's Limit; very many if it has none.
func limitOf(q *forwarder.Query) int {
	if q.Limit > 0 {
		return q.Limit
	}
	return math.MaxInt
}
