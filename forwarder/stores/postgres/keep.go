package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// keeping is what a Store has beside the connection that writes, so that Write waits for
// none of it.
type keeping struct {
	// mu is held while the connection is in use.
	mu     sync.Mutex
	closed bool
	conn   *pgx.Conn // nil until it is used and after an error
	pass   *pass     // of pruning; nil between two
	// rows is how many rows a step of pruning looks at, by how long those before took.
	rows int
	// sweep are partitions from which so many rows were deleted that whoever reads them
	// next would meet their remains.
	sweep []string
	// failed counts the steps in turn in whose way somebody was.
	failed int
}

// keeper calls f with the connection for retention, which is made if there is none. After
// an error it is ended, so that the next one finds the server that can write now.
func (s *Store) keeper(ctx context.Context, f func(conn *pgx.Conn) error) (err error) {
	k := &s.keeping
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errClosed
	}
	if k.conn == nil {
		if k.conn, err = s.at.connect(ctx); err != nil {
			return err
		}
	}
	if err = f(k.conn); err != nil {
		closeConn(k.conn)
		k.conn, k.pass = nil, nil
	}
	return err
}

// close ends the connection, and waits for who uses it.
func (k *keeping) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed = true; k.conn != nil {
		closeConn(k.conn)
		k.conn = nil
	}
}

// Restamp implements forwarder.Keeper. A role that may write may do it.
func (s *Store) Restamp(ctx context.Context, stamps []forwarder.Restamp) error {
	if len(stamps) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.at.timeout)
	defer cancel()
	err := s.prepareFor(ctx, stamps)
	if err == nil {
		err = s.keeper(ctx, func(conn *pgx.Conn) error {
			var b pgx.Batch
			b.Queue(`SELECT set_config('statement_timeout', $1, true)`, s.milliseconds())
			b.Queue(`SELECT `+s.at.schema+`.restamp($1, $2, $3, $4, $5, $6, $7, $8, $9)`, restampArguments(stamps)...)
			return conn.SendBatch(ctx, &b).Close()
		})
	}
	return s.at.failing("stamping entries anew in", err)
}

// prepareFor makes the partitions that rows will move to, by the connection that writes,
// whose partitions are known.
func (s *Store) prepareFor(ctx context.Context, stamps []forwarder.Restamp) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn, err := s.connected(ctx)
	if err != nil {
		return err
	}
	wanted := make([]partition, len(stamps))
	for i := range stamps {
		wanted[i] = partitionOf(stamps[i].Timestamp, &stamps[i].Stamp)
	}
	if err = s.prepare(ctx, conn, wanted); err != nil {
		s.drop()
	}
	return err
}

func restampArguments(restamps []forwarder.Restamp) []any {
	type key struct {
		id string
		at int64
	}
	all := map[key]*audit.Stamp{}
	var order []key
	for i := range restamps {
		k := key{column(restamps[i].ID), restamps[i].Timestamp}
		have, ok := all[k]
		if !ok {
			order = append(order, k)
		}
		all[k] = have.Merge(&restamps[i].Stamp)
	}
	ids, arrivals := make([]string, len(order)), make([]int64, len(order))
	var tags stamps
	for i, k := range order {
		ids[i], arrivals[i] = k.id, k.at
		tags.add(all[k])
	}
	return append([]any{ids, arrivals}, tags.arguments()...)
}

// milliseconds is the store's timeout as a setting of the server.
func (s *Store) milliseconds() string {
	return strconv.FormatInt(max(1, s.at.timeout.Milliseconds()), 10)
}

// Pending implements forwarder.Keeper. It reads page by page, each in a transaction of
// its own, and between them it holds nothing.
func (s *Store) Pending(ctx context.Context, untagged bool) iter.Seq2[forwarder.Record, error] {
	return func(yield func(forwarder.Record, error) bool) {
		after := row{}
		for begun := false; ; begun = true {
			page, err := s.pending(ctx, &after, begun, untagged)
			if err != nil {
				err = ownerOnly(err)
				yield(forwarder.Record{}, s.at.failing("reading", err))
				return
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
			if len(page) < pageEntries {
				return
			}
		}
	}
}

// pending is the next page, behind a row that becomes its last one.
func (s *Store) pending(ctx context.Context, after *row, begun, untagged bool) (page []forwarder.Record, err error) {
	where, args := "true", []any{pageEntries}
	if begun {
		where, args = "timestamp >= $2 AND (timestamp, id) > ($2, $3)", append(args, after.timestamp, after.id)
	}
	// Each half walks an index of its own.
	half := func(which string) string {
		return fmt.Sprintf(`(SELECT %s FROM %s.entry WHERE %s AND %s ORDER BY timestamp, id LIMIT $1)`, rowColumns, s.at.schema, which, where)
	}
	from := half("pending")
	if untagged {
		from += ` UNION ALL ` + half("keep_until IS NULL AND NOT pending")
	}
	sql := `SELECT * FROM (` + from + `) e ORDER BY timestamp, id LIMIT $1`
	err = s.snapshot(ctx, true, func(tx *snapshot) error {
		var wrong error
		err := tx.query(ctx, sql, args, func(v [][]byte) {
			if wrong != nil {
				return
			}
			var e *audit.Entry
			if wrong = after.scan(v); wrong != nil {
				return
			}
			if e, wrong = after.decode(); wrong != nil {
				return
			}
			r := forwarder.Record{Entry: e, JSON: append([]byte(nil), after.doc...)}
			if e.Origin != nil {
				r.Sequence = e.Origin.Sequence
			}
			if after.tagged || after.stamp.Pending {
				stamp := after.stamp
				r.Stamp = &stamp
			}
			page = append(page, r)
		})
		return errors.Join(err, wrong)
	})
	return page, err
}

// errNoOwner is what a role gets that may only add entries.
var errNoOwner = fmt.Errorf("its role may only add entries: %w: one whose DSN has the role that owns the tables; "+
	"or grant that to this one's role, as in GRANT audit_owner TO audit_writer", forwarder.ErrElsewhere)

// ownerOnly says what to do where the role of the DSN may not do something.
func ownerOnly(err error) error {
	if sqlState(err) == "42501" {
		return errNoOwner
	}
	return err
}

// lockHold is the advisory lock that whoever deletes shares, and who changes a hold has
// alone; lockPrune is that of the one who prunes.
const (
	lockHold  = "hold"
	lockPrune = "prune"
)

// lock is the number of an advisory lock, in SQL. The functions have the same.
func (s *server) lock(name string) string {
	return fmt.Sprintf(`hashtextextended('caddy_audit ' || '%s' || ' %s', 0)`, s.schema, name)
}

// SetHold implements forwarder.Keeper. It waits for a step of pruning that is under way.
func (s *Store) SetHold(ctx context.Context, h forwarder.Hold) error {
	if h.ID == "" {
		return s.at.failing("setting a hold in", errors.New("it has no ID: name it"))
	}
	b, err := json.Marshal(h)
	if err != nil {
		return s.at.failing("setting a hold in", err)
	}
	var first, before *int64
	bound := func(t time.Time, to **int64) {
		if !t.IsZero() {
			at := microseconds(t)
			*to = &at
		}
	}
	bound(h.From, &first)
	bound(h.To, &before)
	err = s.changeHold(ctx, `WITH changed AS (
			SELECT 1 FROM {schema}.hold WHERE id = $1
		), unmark AS (
			UPDATE {schema}.pruning SET unmark = true WHERE EXISTS (SELECT FROM changed)
		)
		INSERT INTO {schema}.hold (id, hold, organization, stamped, actor, first, before) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET hold = excluded.hold, organization = excluded.organization, stamped = excluded.stamped,
			actor = excluded.actor, first = excluded.first, before = excluded.before`,
		column(h.ID), string(b), stored(h.Organization), stamped(h.Organization), stored(h.Actor), first, before)
	return s.at.failing("setting a hold in", ownerOnly(err))
}

// stored is a text as documents have it, see document; NULL for the empty one.
func stored(text string) *string {
	if text == "" {
		return nil
	}
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	return &text
}

// ReleaseHold implements forwarder.Keeper. The rows that a hold has kept are asked again
// when entries are next pruned.
func (s *Store) ReleaseHold(ctx context.Context, id string) error {
	err := s.changeHold(ctx, `WITH released AS (DELETE FROM {schema}.hold WHERE id = $1 RETURNING 1)
		UPDATE {schema}.pruning SET unmark = true WHERE EXISTS (SELECT FROM released)`, column(id))
	return s.at.failing("releasing a hold in", ownerOnly(err))
}

// changeHold has a connection of its own: what prunes may be counting a partition.
func (s *Store) changeHold(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, s.at.timeout)
	defer cancel()
	conn, err := s.at.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	var b pgx.Batch
	b.Queue(`SELECT set_config('statement_timeout', $1, true), set_config('synchronous_commit',
		CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`, s.milliseconds())
	b.Queue(`SELECT pg_advisory_xact_lock(` + s.at.lock(lockHold) + `)`)
	b.Queue(strings.ReplaceAll(sql, "{schema}", s.at.schema), args...)
	return conn.SendBatch(ctx, &b).Close()
}
