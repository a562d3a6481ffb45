package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var _ forwarder.Ledger = (*Reader)(nil)

// holdsOf reads the holds in force.
func holdsOf(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, schema string,
) (holds []forwarder.Hold, err error) {
	rows, err := q.Query(ctx, `SELECT hold FROM `+schema+`.hold`)
	if err != nil {
		return nil, err
	}
	holds, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (h forwarder.Hold, err error) {
		var text string
		if err = row.Scan(&text); err == nil {
			err = json.Unmarshal([]byte(text), &h)
		}
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading its holds: %w", err)
	}
	return holds, nil
}

// Holds implements forwarder.Ledger.
func (r *Reader) Holds(ctx context.Context) ([]forwarder.Hold, error) {
	ctx, cancel := context.WithTimeout(ctx, r.at.timeout)
	defer cancel()
	holds, err := holdsOf(ctx, r.pool, r.at.schema)
	if err != nil {
		return nil, r.at.failing("reading", err)
	}
	sortHolds(holds)
	return holds, nil
}

// detached is what partitions have that are deleted, but not yet counted and dropped.
type detached struct {
	receipt forwarder.Receipt
	bytes   int64
}

// detachedSQL is the receipts of a detached partition, by instance.
func detachedSQL(schema, name string) string {
	return fmt.Sprintf(`SELECT instance, min(sequence), max(sequence), min(timestamp), max(timestamp), max(keep_until), count(*),
		coalesce(sum(coalesce(size, octet_length(raw), octet_length(document::text))), 0)::bigint
		FROM %s.%s GROUP BY instance`, schema, pgx.Identifier{name}.Sanitize())
}

// detached counts what a kill has left of pruning, which the next step of it goes on with.
func (tx *snapshot) detached(ctx context.Context) (all []detached, err error) {
	rows, err := tx.conn.Query(ctx, `SELECT name, class, rule, since FROM `+tx.schema+`.dropping`)
	if err != nil {
		return nil, err
	}
	type partition struct {
		Name, Class, Rule string
		Since             int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		rows, err := tx.conn.Query(ctx, detachedSQL(tx.schema, p.Name))
		if err != nil {
			return nil, err
		}
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
			d := detached{receipt: forwarder.Receipt{Class: p.Class, Rule: p.Rule, From: p.Since, To: p.Since}}
			c := &d.receipt
			err = row.Scan(&c.Instance, &c.First, &c.Last, &c.FirstArrival, &c.LastArrival, &c.KeptUntil, &c.Entries, &d.bytes)
			all = append(all, d)
			return none, err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ledger calls f with a transaction that sees one moment, however long it takes. A
// partition that is dropped meanwhile is not there for it, and then it begins anew.
func (r *Reader) ledger(ctx context.Context, f func(tx *snapshot) error) error {
	for attempt := 0; ; attempt++ {
		err := r.snapshot(ctx, true, func(tx *snapshot) error {
			if _, err := tx.conn.Exec(ctx, `SELECT set_config('statement_timeout', '0', true), set_config('enable_seqscan', 'on', true)`); err != nil {
				return err
			}
			return f(tx)
		})
		if sqlState(err) != "42P01" || attempt == 10 {
			return err
		}
	}
}

// Classes implements forwarder.Ledger. Held are those that a hold has kept when they were
// to be deleted.
func (r *Reader) Classes(ctx context.Context) ([]forwarder.ClassTotal, error) {
	ctx, cancel := context.WithTimeout(ctx, r.at.timeout)
	defer cancel()
	var all totals
	err := r.ledger(ctx, func(tx *snapshot) error {
		all = totals{}
		dropping, err := tx.detached(ctx)
		if err != nil {
			return err
		}
		for _, d := range dropping {
			all.add(forwarder.ClassTotal{Class: d.receipt.Class, Entries: -d.receipt.Entries, Bytes: -d.bytes})
		}
		return all.query(ctx, tx, `SELECT class, sum(entries)::bigint, sum(bytes)::bigint, 0::bigint, 0::bigint FROM {schema}.total GROUP BY class
			UNION ALL SELECT CASE WHEN keep_until IS NULL THEN '' ELSE class END, 0, 0, count(*), 0 FROM {schema}.entry WHERE held GROUP BY 1
			UNION ALL SELECT CASE WHEN keep_until IS NULL THEN '' ELSE class END, 0, 0, 0, count(*) FROM {schema}.entry WHERE pending GROUP BY 1`)
	})
	if err != nil {
		return nil, r.at.failing("counting the entries of", err)
	}
	return all.sorted(), nil
}

// Expiring implements forwarder.Ledger. It looks at each of them.
func (r *Reader) Expiring(ctx context.Context, before time.Time) ([]forwarder.ClassTotal, error) {
	var all totals
	err := r.ledger(ctx, func(tx *snapshot) error {
		all = totals{}
		return all.query(ctx, tx, `SELECT class, count(*), sum(coalesce(size, octet_length(raw), octet_length(document::text)))::bigint,
			count(*) FILTER (WHERE EXISTS (SELECT FROM {schema}.hold) AND {schema}.is_held(document, stamped_id, stamped_slug, timestamp)),
			count(*) FILTER (WHERE pending)
			FROM {schema}.entry WHERE keep_until < $1 GROUP BY class`, microseconds(before))
	})
	if err != nil {
		return nil, r.at.failing("counting what expires in", err)
	}
	return all.sorted(), nil
}

// totals are sums by class.
type totals map[string]forwarder.ClassTotal

func (t totals) add(c forwarder.ClassTotal) {
	have := t[c.Class]
	have.Class = c.Class
	have.Entries += c.Entries
	have.Bytes += c.Bytes
	have.Held += c.Held
	have.Pending += c.Pending
	t[c.Class] = have
}

func (t totals) query(ctx context.Context, tx *snapshot, sql string, args ...any) error {
	rows, err := tx.conn.Query(ctx, strings.ReplaceAll(sql, "{schema}", tx.schema), args...)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[forwarder.ClassTotal])
	for _, c := range found {
		t.add(c)
	}
	return err
}

// sorted are those of which there are entries, by name.
func (t totals) sorted() []forwarder.ClassTotal {
	var all []forwarder.ClassTotal
	for _, class := range slices.Sorted(maps.Keys(t)) {
		if c := t[class]; c.Entries != 0 {
			c.Class = unescape([]byte(class))
			all = append(all, c)
		}
	}
	return all
}

// Receipts implements forwarder.Ledger.
func (r *Reader) Receipts(ctx context.Context) iter.Seq2[forwarder.Receipt, error] {
	return func(yield func(forwarder.Receipt, error) bool) {
		err := r.ledger(ctx, func(tx *snapshot) error {
			dropping, err := tx.detached(ctx)
			if err != nil {
				return err
			}
			rows, err := tx.conn.Query(ctx, `SELECT class, max(rule), instance, min(first), max(last), min(first_arrival), max(last_arrival),
				max(kept_until), sum(entries)::bigint, sum(late)::bigint, min(since), max(until)
				FROM `+tx.schema+`.receipt GROUP BY class, instance, day ORDER BY max(until) DESC, class, instance`)
			if err != nil {
				return err
			}
			defer rows.Close()
			for _, d := range dropping {
				d.receipt.Class = unescape([]byte(d.receipt.Class))
				if !yield(d.receipt, nil) {
					return errStopped
				}
			}
			for rows.Next() {
				var c forwarder.Receipt
				err := rows.Scan(&c.Class, &c.Rule, &c.Instance, &c.First, &c.Last, &c.FirstArrival, &c.LastArrival,
					&c.KeptUntil, &c.Entries, &c.Late, &c.From, &c.To)
				if err != nil {
					return err
				}
				c.Class, c.Instance = unescape([]byte(c.Class)), unescape([]byte(c.Instance))
				if !yield(c, nil) {
					return errStopped
				}
			}
			return rows.Err()
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(forwarder.Receipt{}, r.at.failing("reading", err))
		}
	}
}

// Lost implements forwarder.Ledger. The server sorts the sequences of all rows, and they
// are compared as they come: memory is that of the ranges.
func (r *Reader) Lost(ctx context.Context) ([]forwarder.Range, error) {
	var lost []forwarder.Range
	err := r.ledger(ctx, func(tx *snapshot) error {
		lost = nil
		names, err := tx.conn.Query(ctx, `SELECT name FROM `+tx.schema+`.dropping`)
		if err != nil {
			return err
		}
		dropping, err := pgx.CollectRows(names, pgx.RowTo[string])
		if err != nil {
			return err
		}
		var sql strings.Builder
		fmt.Fprintf(&sql, `SELECT instance, sequence AS first, sequence AS last, 0 AS what FROM %[1]s.entry
			UNION ALL SELECT instance, first, last, 0 FROM %[1]s.gone UNION ALL SELECT instance, first, last, 1 FROM %[1]s.received`, tx.schema)
		for _, name := range dropping {
			fmt.Fprintf(&sql, ` UNION ALL SELECT instance, sequence AS first, sequence AS last, 0 FROM %s.%s`, tx.schema, pgx.Identifier{name}.Sanitize())
		}
		// What was received comes before what accounts for it.
		sql.WriteString(` ORDER BY instance, first, what DESC`)
		rows, err := tx.conn.Query(ctx, sql.String())
		if err != nil {
			return err
		}
		defer rows.Close()
		d := difference{from: 1} // nothing
		for rows.Next() {
			var instance string
			var first, last int64
			var received int
			if err := rows.Scan(&instance, &first, &last, &received); err != nil {
				return err
			}
			d.add(instance, first, last, received == 1)
		}
		d.end()
		lost = d.lost
		return rows.Err()
	})
	if err != nil {
		return nil, r.at.failing("looking for what is lost in", err)
	}
	return lost, nil
}

// difference is what was received and is not accounted for, of ranges in the order of
// instance and first. Those of received neither overlap nor touch.
type difference struct {
	instance string
	from, to int64 // of the range that was received last: what of it is not looked at yet
	covered  int64 // all of the instance up to here is accounted for or was looked at
	lost     []forwarder.Range
}

func (d *difference) add(instance string, first, last int64, received bool) {
	if instance != d.instance {
		d.end()
		d.instance, d.from, d.to, d.covered = instance, 1, 0, 0
	}
	if received {
		d.end()
		if d.covered >= last {
			return
		}
		d.from, d.to = max(first, d.covered+1), last
		return
	}
	if first > d.from && d.from <= d.to {
		d.put(d.from, min(first-1, d.to))
	}
	d.covered = max(d.covered, last)
	if last == math.MaxInt64 {
		d.from, d.to = 1, 0
		return
	}
	d.from = max(d.from, last+1)
}

// end notes what is left of the range that was received last.
func (d *difference) end() {
	if d.from <= d.to {
		d.put(d.from, d.to)
	}
	d.from, d.to = 1, 0
}

func (d *difference) put(first, last int64) {
	if n := len(d.lost); n > 0 && d.lost[n-1].Instance == d.instance && d.lost[n-1].Last+1 == uint64(first) {
		d.lost[n-1].Last = uint64(last)
		return
	}
	d.lost = append(d.lost, forwarder.Range{Instance: d.instance, First: uint64(first), Last: uint64(last)})
}

// hold notes whether a hold keeps an entry, where it has a stamp.
func (r *row) hold(holds []forwarder.Hold) error {
	if len(holds) == 0 || r.stamp.Retention == nil {
		return nil
	}
	e, err := r.decode()
	if err == nil {
		r.stamp.Retention.Hold = forwarder.IsHeld(holds, e)
	}
	return err
}

func sortHolds(holds []forwarder.Hold) {
	slices.SortFunc(holds, func(a, b forwarder.Hold) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
}
