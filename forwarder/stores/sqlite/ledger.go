package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Classes implements forwarder.Ledger. Held are those of which pruning has found that a
// hold keeps them: a hold selects others too, whose time has not come. What somebody has
// deleted behind the store's back is still counted, see Lost.
func (r *Reader) Classes(ctx context.Context) ([]forwarder.ClassTotal, error) {
	query := `SELECT class, entries, bytes, held, pending FROM class_total WHERE entries <> 0 ORDER BY class`
	old, err := r.isOld(ctx)
	if err != nil {
		return nil, r.reading(err)
	}
	if old {
		query = `SELECT '', count(*), sum(octet_length(document)), 0, 0 FROM entry HAVING count(*) > 0`
	}
	all, err := r.totals(ctx, query)
	if err != nil {
		return nil, r.reading(err)
	}
	return all, nil
}

func (r *Reader) totals(ctx context.Context, query string, args ...any) (all []forwarder.ClassTotal, err error) {
	err = each(ctx, r.db, query, func(rows *sql.Rows) error {
		var t forwarder.ClassTotal
		if err := rows.Scan(&t.Class, &t.Entries, &t.Bytes, &t.Held, &t.Pending); err != nil {
			return err
		}
		all = append(all, t)
		return nil
	}, args...)
	return all, err
}

// ending are the rows whose retention ends before a time, which is given three times.
const ending = `%[1]s FROM expiring AS x CROSS JOIN entry ON entry.key BETWEEN x.block << 8 AND (x.block << 8) + 255
		WHERE x.keep_until < ? AND entry.keep_until = x.keep_until AND pending IS NULL AND held IS NULL
	UNION ALL SELECT %[1]s FROM held CROSS JOIN entry ON entry.key = held.key WHERE keep_until < ?
	UNION ALL SELECT %[1]s FROM pending AS p CROSS JOIN entry ON entry.key = p.key WHERE keep_until < ?`

// Expiring implements forwarder.Ledger. If a hold is in force, each of the entries is
// asked whether it is held. That takes 8 bytes for each of them.
func (r *Reader) Expiring(ctx context.Context, before time.Time) ([]forwarder.ClassTotal, error) {
	return tell(ctx, r, func() ([]forwarder.ClassTotal, error) {
		holds, err := r.holds(ctx)
		if err != nil {
			return nil, err
		}
		at := min(microseconds(before), math.MaxInt64-1)
		if len(holds) > 0 {
			return r.expiringHeld(ctx, at, holds)
		}
		return r.totals(ctx, `SELECT class, count(*), sum(size), 0, count(pending) FROM
			(SELECT `+fmt.Sprintf(ending, `class, octet_length(document) AS size, entry.pending`)+`)
			GROUP BY class ORDER BY class`, at, at, at)
	})
}

// tell is what a file of this version can tell; one of version 1 tells nothing.
func tell[T any](ctx context.Context, r *Reader, answer func() (T, error)) (none T, err error) {
	old, err := r.isOld(ctx)
	if err != nil {
		return none, r.reading(err)
	}
	if old {
		return none, nil
	}
	told, err := answer()
	if err != nil {
		return none, r.reading(err)
	}
	return told, nil
}

func (r *Reader) expiringHeld(ctx context.Context, at int64, holds []forwarder.Hold) ([]forwarder.ClassTotal, error) {
	var keys []int64
	err := each(ctx, r.db, `SELECT `+fmt.Sprintf(ending, "entry.key"), func(rows *sql.Rows) error {
		var key int64
		err := rows.Scan(&key)
		keys = append(keys, key)
		return err
	}, at, at, at)
	if err != nil {
		return nil, err
	}
	fetch, err := r.db.PrepareContext(ctx, selectTagged)
	if err != nil {
		return nil, err
	}
	defer fetch.Close()
	totals := map[string]*forwarder.ClassTotal{}
	for _, key := range keys {
		var doc []byte
		var t tag
		err := fetch.QueryRowContext(ctx, key).Scan(t.into(&doc)...)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		total := totals[t.class]
		if total == nil {
			total = new(forwarder.ClassTotal)
			totals[t.class] = total
		}
		total.Entries++
		total.Bytes += int64(len(doc))
		if t.pending {
			total.Pending++
		}
		e, err := audit.Decode(doc)
		if err == nil {
			t.stamp().On(e)
		}
		if err != nil || forwarder.IsHeld(holds, e) {
			total.Held++
		}
	}
	return sorted(totals), nil
}

// Receipts implements forwarder.Ledger: by day, and those of one day by their end.
func (r *Reader) Receipts(ctx context.Context) iter.Seq2[forwarder.Receipt, error] {
	return func(yield func(forwarder.Receipt, error) bool) {
		old, err := r.isOld(ctx)
		if err != nil {
			yield(forwarder.Receipt{}, r.reading(err))
		}
		if err != nil || old {
			return
		}
		for day := int64(math.MaxInt64); ; {
			// Those of a day are few: one for each class and buffer.
			var all []forwarder.Receipt
			err := each(ctx, r.db, `SELECT day, class, rule, instance, first_sequence, last_sequence, first_arrival, last_arrival, kept_until,
				entries, late, deleted_from, deleted_to FROM receipt WHERE day = (SELECT max(day) FROM receipt WHERE day < ?)
				ORDER BY deleted_to DESC, class, instance`, func(rows *sql.Rows) error {
				var g forwarder.Receipt
				err := rows.Scan(&day, &g.Class, &g.Rule, &g.Instance, &g.First, &g.Last, &g.FirstArrival, &g.LastArrival, &g.KeptUntil,
					&g.Entries, &g.Late, &g.From, &g.To)
				all = append(all, g)
				return err
			}, day)
			if err != nil {
				yield(forwarder.Receipt{}, r.reading(err))
				return
			}
			if len(all) == 0 {
				return
			}
			for _, g := range all {
				if !yield(g, nil) {
					return
				}
			}
		}
	}
}

// lostPage is how many rows Lost reads at a time.
const lostPage = 4096

// Lost implements forwarder.Ledger. It reads the sequence of every row, in short
// transactions. A file of schema version 1 cannot tell, and nothing is lost in it.
//
// What has arrived is read first, and what is gone last: so an entry that is written,
// replaced or deleted meanwhile does not count as lost.
func (r *Reader) Lost(ctx context.Context) ([]forwarder.Range, error) {
	return tell(ctx, r, func() ([]forwarder.Range, error) { return r.lost(ctx) })
}

func (r *Reader) lost(ctx context.Context) ([]forwarder.Range, error) {
	received, err := r.received(ctx)
	if err != nil {
		return nil, err
	}
	var rows runs
	for key, more := int64(0), true; more; {
		n := 0
		err := each(ctx, r.db, `SELECT key, instance, sequence FROM entry WHERE key > ? ORDER BY key LIMIT ?`, func(row *sql.Rows) error {
			var instance sql.RawBytes
			var sequence uint64
			if err := row.Scan(&key, &instance, &sequence); err != nil {
				return err
			}
			rows.add(instance, sequence)
			n++
			return nil
		}, key, lostPage)
		if err != nil {
			return nil, err
		}
		more = n == lostPage
	}
	gone, err := ranges(ctx, r.db, "gone")
	if err != nil {
		return nil, err
	}
	return without(without(received, rows.merged()), gone), nil
}

// Holds implements forwarder.Ledger.
func (r *Reader) Holds(ctx context.Context) ([]forwarder.Hold, error) {
	return tell(ctx, r, func() ([]forwarder.Hold, error) { return r.holds(ctx) })
}

func (r *Reader) holds(ctx context.Context) ([]forwarder.Hold, error) {
	rows, err := r.db.QueryContext(ctx, selectHolds)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return scanHolds(rows)
}
