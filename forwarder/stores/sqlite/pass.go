package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/summary"
)

// haveOwners reports whether each source walks the entries of one owner.
func (w *walk) haveOwners() bool {
	return len(w.sources) <= maxSources && !slices.ContainsFunc(w.sources, func(s source) bool { return len(s.where) == 0 || s.owner == "" })
}

// passOver finds where each source goes on and where the next statement ends: behind what
// the summaries say that nothing is in, and before the next such stretch of any source. A
// source without summaries is counted, up to the window.
func (w *walk) passOver(ctx context.Context, db querier) error {
	var ends []forwarder.Place
	for i := range w.sources {
		s := &w.sources[i]
		end, err := w.passed(ctx, db, s)
		if err != nil {
			return err
		}
		if !s.done && !end.IsZero() {
			ends = append(ends, end)
		}
	}
	w.last = len(ends) == 0
	for i, end := range ends {
		if i == 0 || w.follows(w.until, end) {
			w.until = end
		}
	}
	return nil
}

// follows reports whether a comes behind b in the walk's order.
func (w *walk) follows(a, b forwarder.Place) bool {
	if w.query.NewestFirst {
		return a.Compare(b) < 0
	}
	return a.Compare(b) > 0
}

// justBehind is the place that no entry has and that comes next after one that may.
func justBehind(p forwarder.Place) forwarder.Place {
	return forwarder.Place{Timestamp: p.Timestamp, ID: p.ID + "\x00"}
}

// at is the place that the next entry is behind.
func (w *walk) at() forwarder.Place {
	if w.begun {
		return forwarder.Place{Timestamp: w.timestamp, ID: w.id}
	}
	if at, ok := w.bound(); ok {
		return forwarder.Place{Timestamp: at}
	}
	if w.query.NewestFirst {
		return forwarder.Place{Timestamp: math.MaxInt64}
	}
	return forwarder.Place{Timestamp: math.MinInt64}
}

// isOut reports whether all that is behind a place is beyond the query's other bound.
func (w *walk) isOut(p forwarder.Place) bool {
	q := w.query
	if p.IsZero() {
		return false
	}
	if q.NewestFirst {
		return !q.From.IsZero() && p.Compare(forwarder.Place{Timestamp: microseconds(q.From)}) <= 0
	}
	return !q.To.IsZero() && p.Compare(forwarder.Place{Timestamp: microseconds(q.To)}) >= 0
}

// passed sets where a source goes on, or that it is done, and returns where what may be in
// it ends, for now; zero is nowhere.
func (w *walk) passed(ctx context.Context, db querier, s *source) (end forwarder.Place, err error) {
	left, unknown, begun := w.window, false, false
	s.from, s.done = w.at(), false
	err = w.stretches(ctx, db, s.owner, func(x stretch) bool {
		switch {
		case !x.summarized:
			if !begun {
				unknown, end = true, x.end
			}
			return false
		case x.may:
			begun, end = true, x.end
			left -= x.entries
			return left > 0 && !end.IsZero() && !w.isOut(end)
		case begun:
			return false
		case x.end.IsZero() || w.isOut(x.end):
			s.done = true
			return false
		}
		s.from = x.end
		return true
	})
	if w.isOut(end) {
		end = forwarder.Place{} // the query's own bound comes first
	}
	if err != nil || !unknown {
		return end, err
	}
	// Of what has no summary the window is counted out.
	all := *w.query
	all.Filters, all.Organization = forwarder.Filters{}, ""
	bare := *w
	bare.query, bare.until, bare.sources = &all, end, sourcesOfOwners([]audit.Owner{s.owner})
	bare.sources[0].from = s.from
	query, args := bare.sql("timestamp, id", 1)
	var counted forwarder.Place
	err = db.QueryRowContext(ctx, query+" OFFSET ?", append(args, w.window-1)...).Scan(&counted.Timestamp, &counted.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return end, nil
	}
	return counted, err
}

// stretch is a part of an owner's entries, in a walk's order.
type stretch struct {
	end        forwarder.Place // the last place that is in it; zero if there is nothing behind it
	summarized bool
	may        bool // have what is looked for
	entries    int  // about, if it is summarized
}

// stretches calls visit with an owner's stretches from where the walk is, until that
// returns false. A summary is of what lies behind the one before it, up to its own place:
// so the last stretch in time has none.
func (w *walk) stretches(ctx context.Context, db querier, owner audit.Owner, visit func(stretch) bool) error {
	at, done := w.at(), false
	if !w.query.NewestFirst {
		err := w.summaries(ctx, db, owner, "> (?, ?) ORDER BY s.timestamp, s.id LIMIT -1", at, func(place forwarder.Place, x stretch) bool {
			x.end = place
			done = !visit(x)
			return !done
		})
		if err == nil && !done {
			visit(stretch{})
		}
		return err
	}
	// Going back, a stretch ends where the summary before it does.
	var x stretch
	err := w.summaries(ctx, db, owner, ">= (?, ?) ORDER BY s.timestamp, s.id LIMIT 1", at, func(_ forwarder.Place, found stretch) bool {
		x = found
		return false
	})
	if err != nil {
		return err
	}
	err = w.summaries(ctx, db, owner, "< (?, ?) ORDER BY s.timestamp DESC, s.id DESC LIMIT -1", at, func(place forwarder.Place, before stretch) bool {
		if x.end = justBehind(place); x.end != at { // else nothing of x is left
			done = !visit(x)
		}
		x = before
		return !done
	})
	if err == nil && !done {
		x.end = forwarder.Place{}
		visit(x)
	}
	return err
}

// summaries calls visit with an owner's summaries, each with its place, until that returns
// false.
func (w *walk) summaries(ctx context.Context, db querier, owner audit.Owner, where string, at forwarder.Place, visit func(forwarder.Place, stretch) bool) error {
	kind, values := kindValues, `x''`
	if w.lookup.Texts() {
		kind = kindTexts
		if w.lookup.Values() {
			values = `(SELECT filter FROM summary AS v WHERE v.owner = s.owner AND v.kind = 0 AND v.timestamp = s.timestamp AND v.id = s.id)`
		}
	}
	rows, err := db.QueryContext(ctx, `SELECT s.timestamp, s.id, s.entries, s.filter, `+values+`
		FROM summary AS s WHERE s.owner = ? AND s.kind = ? AND (s.timestamp, s.id) `+where, string(owner), kind, at.Timestamp, at.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var place forwarder.Place
		var filter, more sql.RawBytes
		x := stretch{summarized: true}
		if err := rows.Scan(&place.Timestamp, &place.ID, &x.entries, &filter, &more); err != nil {
			return err
		}
		x.may = true
		if kind == kindTexts {
			x.may = w.lookup.MayHaveText(summary.Filter(filter))
			filter = more
		}
		x.may = x.may && w.lookup.MayHaveValues(summary.Filter(filter))
		if !visit(place, x) {
			break
		}
	}
	return rows.Err()
}
