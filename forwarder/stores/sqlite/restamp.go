package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Restamp implements forwarder.Keeper.
func (s *Store) Restamp(ctx context.Context, stamps []forwarder.Restamp) error {
	err := s.turn.take(ctx)
	if err == nil {
		defer s.turn.give()
		err = s.restamp(ctx, stamps)
	}
	if err != nil {
		return fmt.Errorf("stamping entries of audit store %q: %w%s", s.path, err, cure(err))
	}
	return nil
}

func (s *Store) restamp(ctx context.Context, stamps []forwarder.Restamp) error {
	if s.closed {
		return errClosed
	}
	c, err := s.begin()
	if err != nil {
		return err
	}
	defer c.rollback()
	for i := range stamps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.restampEntry(&stamps[i]); err != nil {
			return fmt.Errorf("stamping entry %q: %w", stamps[i].ID, err)
		}
	}
	return c.commit()
}

func (c *change) restampEntry(s *forwarder.Restamp) error {
	there, err := c.find(s.ID)
	if err != nil || there == nil {
		return err
	}
	t := tagOf(&s.Stamp)
	from, err := c.captured(there, t.stamped)
	if err != nil {
		return err
	}
	merged := there.tag
	merged.add(t, from)
	merged.pending = t.pending
	owner := there.owner
	if t.stamped != (organization{}) {
		owner = ownerOf(from, merged.stamped)
	}
	return c.restamp(there, merged, or(from.slug, merged.stamped.slug), owner)
}

// Pending implements forwarder.Keeper. What has no retention comes last, in the order in
// which it was written. A document that nobody can decode
// is passed over, and stays.
func (s *Store) Pending(ctx context.Context, untagged bool) iter.Seq2[forwarder.Record, error] {
	return func(yield func(forwarder.Record, error) bool) {
		walks := []func(context.Context, func(forwarder.Record) bool) (bool, error){s.pending}
		if untagged {
			walks = append(walks, s.untagged)
		}
		for _, walk := range walks {
			more, err := walk(ctx, func(r forwarder.Record) bool { return yield(r, nil) })
			if err != nil {
				yield(forwarder.Record{}, fmt.Errorf("reading what is pending in audit store %q: %w%s", s.path, err, cure(err)))
				return
			}
			if !more {
				return
			}
		}
	}
}

// untagged walks what has no stamp, by key, between the bounds in state.
func (s *Store) untagged(ctx context.Context, visit func(forwarder.Record) bool) (bool, error) {
	first, last, err := s.narrow(ctx)
	if err != nil {
		return false, err
	}
	for from := first - 1; from < last; {
		p, err := s.records(ctx, `SELECT key, timestamp, document, `+tagColumns+` FROM entry
			WHERE key > ? AND key <= ? AND keep_until IS NULL AND pending IS NULL ORDER BY key LIMIT ?`, from, last, pageEntries)
		if err != nil {
			return false, err
		}
		if more := p.visit(visit); !more || p.key == 0 {
			return more, nil
		}
		from = p.key
	}
	return true, nil
}

// narrow moves the lower bound to where the first entry without a stamp is, so that what
// has got one is not walked again each time.
func (s *Store) narrow(ctx context.Context) (first, last int64, err error) {
	if err := s.turn.take(ctx); err != nil {
		return 0, 0, err
	}
	defer s.turn.give()
	if s.closed {
		return 0, 0, errClosed
	}
	var f, l, next sql.NullInt64
	err = s.db.QueryRow(`SELECT (SELECT value FROM state WHERE name = ?), (SELECT value FROM state WHERE name = ?)`, stateUntagged, stateUntaggedLast).Scan(&f, &l)
	if err != nil || !f.Valid {
		return 1, 0, err
	}
	err = s.db.QueryRow(`SELECT (SELECT key FROM entry WHERE key BETWEEN ? AND ? AND keep_until IS NULL AND pending IS NULL ORDER BY key LIMIT 1)`, f.Int64, l.Int64).Scan(&next)
	switch {
	case err != nil:
		return 0, 0, err
	case !next.Valid:
		_, err = s.db.Exec(`DELETE FROM state WHERE name IN (?, ?)`, stateUntagged, stateUntaggedLast)
		return 1, 0, err
	case next.Int64 > f.Int64:
		_, err = s.db.Exec(`UPDATE state SET value = ? WHERE name = ?`, next.Int64, stateUntagged)
	}
	return next.Int64, l.Int64, err
}

// pending walks what is pending, by arrival.
func (s *Store) pending(ctx context.Context, visit func(forwarder.Record) bool) (bool, error) {
	timestamp, key := int64(math.MinInt64), int64(0)
	for {
		p, err := s.records(ctx, `SELECT entry.key, entry.timestamp, document, `+tagColumns+` FROM pending AS p
			CROSS JOIN entry ON entry.key = p.key WHERE (p.timestamp, p.key) > (?, ?) AND entry.pending IS NOT NULL
			ORDER BY p.timestamp, p.key LIMIT ?`, timestamp, key, pageEntries)
		if err != nil {
			return false, err
		}
		if more := p.visit(visit); !more || p.key == 0 {
			return more, nil
		}
		timestamp, key = p.timestamp, p.key
	}
}

// recordPage is some records, and where the next ones begin.
type recordPage struct {
	records   []forwarder.Record
	key       int64 // of the last row; zero if there was none
	timestamp int64
}

func (p *recordPage) visit(visit func(forwarder.Record) bool) bool {
	for i := range p.records {
		if !visit(p.records[i]) {
			return false
		}
	}
	return true
}

// records reads a page of rows.
func (s *Store) records(ctx context.Context, query string, args ...any) (p recordPage, err error) {
	size := 0
	rows, err := s.Reader.db.QueryContext(ctx, query, args...)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for size < pageBytes && rows.Next() {
		var doc []byte
		var t tag
		if err := rows.Scan(t.into(&p.key, &p.timestamp, &doc)...); err != nil {
			return p, err
		}
		size += len(doc)
		e, err := audit.Decode(doc)
		if err != nil || e.Origin == nil {
			continue
		}
		stamp := t.stamp()
		if stamp != nil {
			stamp.On(e)
		}
		p.records = append(p.records, forwarder.Record{Sequence: e.Origin.Sequence, Entry: e, JSON: doc, Stamp: stamp})
	}
	if err := rows.Err(); err != nil {
		return p, err
	}
	return p, rows.Close()
}
