package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// maxSources bounds how many walks are merged into one, since each of them goes to every
// partition. With more owners than that all entries are walked by time.
const maxSources = 16

// walk is where reading in order stands. It walks indexes in their order and sorts
// nothing: that of the owners for each owner, which PostgreSQL merges; that of the
// sidecar's events for each of their kinds; or that of all.
type walk struct {
	query  *forwarder.Query
	schema string
	// where is what each of the walks begins with, for one of the values.
	where  string
	values []string
	// indexed says that their index has what Filters are compared with, and owned that
	// they have the query's owners alone.
	indexed, owned bool
	// The place of the last entry that was read, and begun if there is one.
	begun     bool
	timestamp int64
	id        string
}

// everything is where the walk of all entries by time begins.
const everything = "true"

// newWalk begins one of what the snapshot sees.
func (tx *snapshot) newWalk(ctx context.Context, q *forwarder.Query) (w *walk, err error) {
	w = &walk{query: q, schema: tx.schema, where: "owner = $"}
	if !q.After.IsZero() {
		w.begun, w.timestamp, w.id = true, q.After.Timestamp, column(q.After.ID)
	}
	switch {
	case q.Events:
		w.where, w.indexed = "event AND action = $", len(q.Owners) > 0
		w.values, err = tx.eventsOf(ctx, q)
	case len(q.Owners) > 0:
		w.values, w.indexed, w.owned = ownerColumns(q.Owners), true, true
	case q.Organization != "":
		w.values, err = tx.ownersBySlug(ctx, q.Organization)
		w.indexed = true
	default:
		w.where = everything
	}
	if len(w.values) > maxSources {
		w.where, w.values, w.indexed, w.owned = everything, nil, false, false
	}
	return w, err
}

// ownersBySlug are the owners whose entries may have a slug.
func (tx *snapshot) ownersBySlug(ctx context.Context, slug string) (all []string, err error) {
	all = ownerColumns([]audit.Owner{audit.OwnerBySlug(slug)})
	err = tx.query(ctx, fmt.Sprintf("SELECT owner FROM %s.named WHERE slug = $1 LIMIT %d", tx.schema, maxSources), []any{column(slug)},
		func(v [][]byte) { all = append(all, string(v[0])) })
	return all, err
}

// sql selects, as rowColumns, what follows the last entry: at most limit of it.
//
// PostgreSQL looks into the row for what it does not search an index by, though the index
// may have it. So where filters are to be compared the rows' places are found first, from
// the index alone, and then their rows.
func (w *walk) sql(limit int) (string, []any) {
	q := w.query
	if !w.indexed || !isFiltered(q) && !q.Events {
		return w.merged(rowColumns, limit)
	}
	var f, rest filter
	w.bounds(&f)
	f.filters(q)
	if w.rest(&rest); rest.where == "" {
		f.bound = f.bind(" LIMIT $", limit)
	} else {
		f.bound = " OFFSET 0" // how many of them are needed only their rows show; this keeps the two apart
	}
	places := w.merge(&f, "timestamp AS at, id AS name", "at", "name")
	f.where = ""
	w.rest(&f)
	sql := fmt.Sprintf("SELECT %s FROM (%s) p JOIN %s.entry ON timestamp = at AND id = name%s%s",
		rowColumns, places, w.schema, f.where, w.order("at", "name"))
	return sql + f.bind(" LIMIT $", limit), f.args
}

// merged selects the same in one, as some columns.
func (w *walk) merged(columns string, limit int) (string, []any) {
	var f filter
	w.bounds(&f)
	f.filters(w.query)
	w.rest(&f)
	f.bound = f.bind(" LIMIT $", limit)
	return w.merge(&f, columns, "timestamp", "id"), f.args
}

// bounds are those of place, and of whose it is.
func (w *walk) bounds(f *filter) {
	f.between(w.query.From, w.query.To)
	if w.begun {
		after := ">"
		if w.query.NewestFirst {
			after = "<"
		}
		// The first bound is for the choice of partitions, which the second is not.
		f.add("timestamp "+after+"= $", w.timestamp)
		f.add("(timestamp, id) "+after+" ($, $)", w.timestamp, w.id)
	}
	if !w.owned {
		f.owners(w.query.Owners)
	}
}

// rest is what no index has.
func (w *walk) rest(f *filter) {
	if q := w.query; q.Organization != "" {
		f.add("organization_slug = $", column(q.Organization))
	}
	if w.query.Events && w.where == everything {
		f.add("event")
	}
	f.text(w.query)
}

// merge selects from each of the walks, in order. Each has the order and the bound for
// itself, or PostgreSQL would not merge them but sort.
func (w *walk) merge(f *filter, columns, timestamp, id string) string {
	order := w.order(timestamp, id) + f.bound
	var selects []string
	add := func(where string) {
		selects = append(selects, fmt.Sprintf("SELECT %s FROM %s.entry WHERE %s%s%s", columns, w.schema, where, f.where, order))
	}
	for _, v := range w.values {
		add(f.bind(w.where, v))
	}
	if len(w.values) == 0 { // all entries, or none
		add(strings.Replace(w.where, "$", "NULL", 1))
	}
	if len(selects) == 1 {
		return selects[0]
	}
	return "(" + strings.Join(selects, ") UNION ALL (") + ")" + order
}

func (w *walk) order(timestamp, id string) string {
	order := order(w.query)
	return " ORDER BY " + timestamp + order + ", " + id + order
}

func order(q *forwarder.Query) string {
	if q.NewestFirst {
		return " DESC"
	}
	return ""
}
