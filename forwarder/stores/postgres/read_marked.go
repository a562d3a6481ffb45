package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// isMarked reports whether a query selects by who acts, which the index of marks
// answers.
func isMarked(q *forwarder.Query) bool {
	return !q.Trail.IsZero() || q.Session != "" || q.User != "" || q.IP != ""
}

// readMarked is Read by the index of marks. A mark stands for more than one text, so each
// entry is asked itself. The index has no order, so it asks first when
// each entry that was found arrived, and then fetches pages of them by these times. It
// holds 8 bytes for each that was found.
func (tx *snapshot) readMarked(ctx context.Context, q *forwarder.Query, yield func([]byte, error) bool) error {
	arrivals, err := tx.findMarked(ctx, q)
	if err != nil {
		return err
	}
	left, each := q.Limit, *q
	each.Limit = 0 // it is counted here
	for len(arrivals) > 0 {
		// All that arrived in one microsecond is read together.
		n := min(pageEntries, len(arrivals))
		for n < len(arrivals) && arrivals[n] == arrivals[n-1] {
			n++
		}
		at := slices.Compact(slices.Clone(arrivals[:n]))
		arrivals = arrivals[n:]
		for p := (page{walk: &walk{query: &each, schema: tx.schema}, check: true}); !p.done; {
			if err := p.fetchMarked(ctx, tx, at); err != nil {
				return err
			}
			rest := p.documents
			for _, n := range p.lengths {
				if !yield(rest[:n:n], nil) {
					return errStopped
				}
				rest = rest[n:]
				if left--; left == 0 {
					return nil
				}
			}
		}
	}
	return nil
}

// findMarked returns the arrivals of the candidates in the query's order.
func (tx *snapshot) findMarked(ctx context.Context, q *forwarder.Query) (arrivals []int64, err error) {
	f := markedBy(q)
	f.between(q.From, q.To)
	if !q.After.IsZero() {
		f.add("timestamp "+map[bool]string{true: "<", false: ">"}[q.NewestFirst]+"= $", q.After.Timestamp)
	}
	var wrong error
	err = tx.query(ctx, fmt.Sprintf("SELECT timestamp FROM %s.entry WHERE %s ORDER BY timestamp%s", tx.schema, f.where, order(q)), f.args,
		func(v [][]byte) {
			at, err := strconv.ParseInt(string(v[0]), 10, 64)
			if err != nil {
				wrong = err
			}
			arrivals = append(arrivals, at)
		})
	if err == nil {
		err = wrong
	}
	return arrivals, err
}

// fetchMarked reads the next page of the candidates of these arrivals.
func (p *page) fetchMarked(ctx context.Context, tx *snapshot, arrivals []int64) error {
	f := markedBy(p.query)
	after := ">"
	if p.query.NewestFirst {
		after = "<"
	}
	f.add("timestamp = ANY ($)", arrivals)
	f.add("timestamp BETWEEN $ AND $", slices.Min(arrivals), slices.Max(arrivals)) // chooses the partitions
	if p.begun {
		f.add("(timestamp, id) "+after+" ($, $)", p.timestamp, p.id)
	}
	want := p.want()
	f.args = append(f.args, want)
	sql := fmt.Sprintf("SELECT %s FROM %s.entry WHERE %s ORDER BY timestamp%s, id%s LIMIT $%d",
		rowColumns, tx.schema, f.where, order(p.query), order(p.query), len(f.args))
	return p.read(ctx, tx, sql, f.args, want)
}

// markedBy selects the candidates of a query: a trail's hashes and its session are
// alternatives, and all else narrows.
func markedBy(q *forwarder.Query) filter {
	f := filter{where: "true"}
	var either, all []int64
	for _, hash := range q.Trail.Hashes {
		either = append(either, mark(markToken, hash))
	}
	if q.Trail.Session != "" {
		either = append(either, mark(markSession, q.Trail.Session))
	}
	if either != nil {
		f.add("marks && $", either)
	}
	for _, by := range []struct {
		kind byte
		text string
	}{{markSession, q.Session}, {markUser, q.User}, {markIP, q.IP}} {
		if by.text != "" {
			all = append(all, mark(by.kind, by.text))
		}
	}
	if all != nil {
		f.add("marks @> $", all)
	}
	if q.Organization != "" {
		f.add("organization_slug = $", column(q.Organization))
	}
	f.owners(q.Owners)
	return f
}
