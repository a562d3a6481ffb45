package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// runs collects sequences in any order, with as little memory as there are runs of them
// in the order in which they come.
type runs []forwarder.Range

// add takes one sequence. It copies the instance only where a run begins.
func (r *runs) add(instance []byte, sequence uint64) {
	if n := len(*r); n > 0 {
		if last := &(*r)[n-1]; last.Instance == string(instance) {
			if last.Last+1 == sequence {
				last.Last = sequence
				return
			}
			*r = append(*r, forwarder.Range{Instance: last.Instance, First: sequence, Last: sequence})
			return
		}
	}
	*r = append(*r, forwarder.Range{Instance: string(instance), First: sequence, Last: sequence})
}

// merged sorts them and puts together what overlaps or touches. It uses up the runs.
func (r *runs) merged() []forwarder.Range {
	slices.SortFunc(*r, func(a, b forwarder.Range) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.First, b.First))
	})
	all := (*r)[:0]
	for _, next := range *r {
		if n := len(all); n > 0 && all[n-1].Instance == next.Instance && next.First <= all[n-1].Last+1 {
			all[n-1].Last = max(all[n-1].Last, next.Last)
			continue
		}
		all = append(all, next)
	}
	return all
}

// without is what is in the first and not in the second. Both are merged and sorted.
func without(all, taken []forwarder.Range) (left []forwarder.Range) {
	for _, r := range all {
		for len(taken) > 0 && (taken[0].Instance < r.Instance || taken[0].Instance == r.Instance && taken[0].Last < r.First) {
			taken = taken[1:]
		}
		next, done := r.First, false
		for _, t := range taken {
			if t.Instance != r.Instance || t.First > r.Last {
				break
			}
			if t.First > next {
				left = append(left, forwarder.Range{Instance: r.Instance, First: next, Last: t.First - 1})
			}
			if t.Last >= r.Last {
				done = true
				break
			}
			next = t.Last + 1
		}
		if !done {
			left = append(left, forwarder.Range{Instance: r.Instance, First: next, Last: r.Last})
		}
	}
	return left
}

// ranges reads a table of ranges, received or gone.
func ranges(ctx context.Context, q querier, table string) (all []forwarder.Range, err error) {
	err = each(ctx, q, `SELECT instance, first, last FROM `+table+` ORDER BY instance, first`, func(rows *sql.Rows) error {
		var r forwarder.Range
		if err := rows.Scan(&r.Instance, &r.First, &r.Last); err != nil {
			return err
		}
		all = append(all, r)
		return nil
	})
	return all, err
}
