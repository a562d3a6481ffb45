package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The statements of a change, which are prepared once.
const (
	// insertEntry takes only what is new; what is there already is looked at in Go.
	insertEntry = `
INSERT INTO entry (id, revision, timestamp, organization_slug, project_ref, token, session, user, ip, instance, sequence, document,
	class, keep_until, plan, membership, stamped_organization_id, stamped_organization_slug, pending, owner, ` + briefNames + `)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ` + briefHolders + `)
ON CONFLICT (id) DO NOTHING`
	// replaceEntry puts a higher revision in its entry's row. It sets only what was
	// captured; the origin is that of the revision which is stored.
	replaceEntry = `UPDATE entry SET revision = ?, timestamp = ?, project_ref = ?, token = ?, session = ?, user = ?, ip = ?,
	instance = ?, sequence = ?, document = ?, ` + briefSets + ` WHERE key = ?`
	// stampEntry sets the tag. What kept the row before is asked again.
	stampEntry = `UPDATE entry SET class = ?, keep_until = ?, plan = ?, membership = ?, stamped_organization_id = ?, stamped_organization_slug = ?,
	pending = ?, organization_slug = ?, owner = ?, held = NULL WHERE key = ?`
	insertNamed    = `INSERT OR IGNORE INTO named (slug, owner) VALUES (?, ?)`
	selectRow      = `SELECT ` + rowColumns + ` FROM entry WHERE id = ?`
	selectDocument = `SELECT document FROM entry WHERE key = ?`
	insertToken    = `INSERT OR IGNORE INTO other_token (token, key) VALUES (?, ?)`
	deleteTokens   = `DELETE FROM other_token WHERE key = ?`
	deleteEntry    = `DELETE FROM entry WHERE key = ?`
	extendEntry    = `UPDATE entry SET keep_until = ? WHERE key = ?`
	holdEntry      = `UPDATE entry SET held = ? WHERE key = ?`
	selectEnded    = `SELECT keep_until, block FROM expiring WHERE keep_until <= ? ORDER BY keep_until, block LIMIT 1`
	selectExpired  = `SELECT ` + rowColumns + ` FROM entry WHERE key BETWEEN ? AND ? AND keep_until = ? AND pending IS NULL AND held IS NULL
	ORDER BY key LIMIT ?`
	deleteExpiring = `DELETE FROM expiring WHERE keep_until = ? AND block = ?`
	insertExpiring = `INSERT OR IGNORE INTO expiring (keep_until, block) VALUES (?, ?)`
	selectReleased = `SELECT ` + rowColumns + ` FROM entry WHERE key IN
	(SELECT held.key FROM held CROSS JOIN entry AS e ON e.key = held.key WHERE held.mark < ? AND e.held = held.mark LIMIT ?)`
	insertHeld    = `INSERT OR IGNORE INTO held (mark, key) VALUES (?, ?)`
	deleteHeld    = `DELETE FROM held WHERE mark = ? AND key = ?`
	insertPending = `INSERT OR IGNORE INTO pending (timestamp, key) VALUES (?, ?)`
	deletePending = `DELETE FROM pending WHERE timestamp = ? AND key = ?`
	selectDeleted = `SELECT class, deleted_arrival, deleted_until FROM class_total WHERE deleted_arrival IS NOT NULL`
	selectCovered = `SELECT count(*) FROM receipt WHERE class = ? AND last_arrival >= ? AND first_arrival <= ? AND kept_until >= ?`
	selectHolds   = `SELECT hold FROM hold ORDER BY since, id`
	selectState   = `SELECT ifnull(max(value), 0) FROM state WHERE name = ?`
	addTotal      = `INSERT INTO class_total (class, entries, bytes, held, pending) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (class) DO UPDATE SET entries = entries + excluded.entries, bytes = bytes + excluded.bytes,
		held = held + excluded.held, pending = pending + excluded.pending`
	addReceipt = `INSERT INTO receipt (day, class, instance, rule, first_sequence, last_sequence, first_arrival, last_arrival,
		kept_until, entries, late, deleted_from, deleted_to) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (day, class, instance) DO UPDATE SET
		rule           = CASE excluded.rule WHEN '' THEN rule ELSE excluded.rule END,
		first_sequence = min(first_sequence, excluded.first_sequence), last_sequence = max(last_sequence, excluded.last_sequence),
		first_arrival  = min(first_arrival, excluded.first_arrival), last_arrival = max(last_arrival, excluded.last_arrival),
		kept_until     = max(kept_until, excluded.kept_until),
		entries        = entries + excluded.entries, late = late + excluded.late,
		deleted_from   = min(deleted_from, excluded.deleted_from), deleted_to = max(deleted_to, excluded.deleted_to)`
	addDeleted = `INSERT INTO class_total (class, deleted_arrival, deleted_until) VALUES (?1, ?2, ?3)
	ON CONFLICT (class) DO UPDATE SET deleted_arrival = max(ifnull(deleted_arrival, ?2), ?2), deleted_until = max(ifnull(deleted_until, ?3), ?3)`
	addUntagged = `INSERT INTO state (name, value) VALUES ('` + stateUntagged + `', ?), ('` + stateUntaggedLast + `', ?)
	ON CONFLICT (name) DO UPDATE SET value = CASE name WHEN '` + stateUntagged + `' THEN min(value, excluded.value) ELSE max(value, excluded.value) END`

	// The ranges of received and of gone, see merge.
	selectBefore = `SELECT first, last FROM %s WHERE instance = ? AND first <= ? ORDER BY first DESC LIMIT 1`
	selectWithin = `SELECT ifnull(max(last), 0) FROM %s WHERE instance = ? AND first BETWEEN ? AND ?`
	deleteWithin = `DELETE FROM %s WHERE instance = ? AND first > ? AND first <= ?`
	setRange     = `INSERT INTO %s (instance, first, last) VALUES (?, ?, ?) ON CONFLICT (instance, first) DO UPDATE SET last = excluded.last`
)

var statements = func() []string {
	all := []string{
		insertEntry, replaceEntry, stampEntry, selectRow, selectDocument, insertToken, deleteTokens, deleteEntry, extendEntry,
		insertNamed, holdEntry, selectEnded, selectExpired, deleteExpiring, insertExpiring, selectReleased, insertHeld, deleteHeld,
		insertPending, deletePending, selectDeleted, selectCovered, selectHolds, selectState, addTotal, addReceipt, addDeleted, addUntagged,
	}
	all = append(all, summaryStatements...)
	for _, table := range []string{"received", "gone"} {
		for _, query := range []string{selectBefore, selectWithin, deleteWithin, setRange} {
			all = append(all, fmt.Sprintf(query, table))
		}
	}
	return all
}()

// change is a transaction that writes, with what has to go along with every change of a
// row: the totals, the sequences that are gone, and the receipts. They are collected and
// written once, by commit.
type change struct {
	s     *Store
	tx    *sql.Tx
	bound map[string]*sql.Stmt

	totals   map[string]*forwarder.ClassTotal
	gone     runs
	receipts map[receiptKey]*forwarder.Receipt
	expiring map[end]struct{}
	last     end      // was put there last
	touched  int      // rows, by enter and leave
	untagged [2]int64 // the first and the last key of what came without a stamp
	named    map[named]struct{}

	// What is for the summaries, see tell: the keys of rows that are in a stretch, and
	// whether they are new; how many new ones others have, by owner.
	told       map[int64]bool
	fresh      map[audit.Owner]int
	lengthened []audit.Owner
	// lasts and made are of those that were made.
	lasts   map[audit.Owner]int64
	made    int64
	deleted int // rows
}

// end is a row of expiring.
type end struct{ keep, block int64 }

// blockBits is how many bits of a key are within a block of expiring.
const blockBits = 8

type receiptKey struct {
	day             int64
	class, instance string
}

func (s *Store) begin() (*change, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	// Without a context: the driver would start a goroutine for each statement.
	tx, err := s.db.Begin()
	if err != nil {
		return nil, err
	}
	c := &change{
		s: s, tx: tx, bound: map[string]*sql.Stmt{},
		totals: map[string]*forwarder.ClassTotal{}, receipts: map[receiptKey]*forwarder.Receipt{}, expiring: map[end]struct{}{},
		named: map[named]struct{}{},
	}
	if err := c.know(); err != nil {
		c.rollback()
		return nil, fmt.Errorf("reading which summaries there are: %w", err)
	}
	return c, nil
}

// rollback does nothing after commit.
func (c *change) rollback() { _ = c.tx.Rollback() }

func (c *change) stmt(query string) *sql.Stmt {
	st := c.bound[query]
	if st == nil {
		st = c.tx.Stmt(c.s.prepared[query])
		c.bound[query] = st
	}
	return st
}

func (c *change) exec(query string, args ...any) error {
	_, err := c.result(query, args...)
	return err
}

func (c *change) result(query string, args ...any) (sql.Result, error) {
	return c.stmt(query).Exec(args...)
}

func (c *change) query(query string, args ...any) (*sql.Rows, error) {
	return c.stmt(query).Query(args...)
}

func (c *change) row(query string, args ...any) *sql.Row { return c.stmt(query).QueryRow(args...) }

// find reads the row of an entry; nil if there is none.
func (c *change) find(id string) (*row, error) {
	r := new(row)
	err := r.scan(c.row(selectRow, id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // that there is none is no error
	}
	return r, err
}

// rows reads some rows whole, so that they can be changed meanwhile.
func (c *change) rows(query string, args ...any) (all []row, err error) {
	rows, err := c.query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

func (c *change) holds() (holds []forwarder.Hold, err error) {
	rows, err := c.query(selectHolds)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return scanHolds(rows)
}

func scanHolds(rows *sql.Rows) (holds []forwarder.Hold, err error) {
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		var h forwarder.Hold
		if err := json.Unmarshal(b, &h); err != nil {
			return nil, fmt.Errorf("decoding a hold: %w", err)
		}
		holds = append(holds, h)
	}
	return holds, rows.Err()
}

// isHeld asks the holds about a row. What cannot be decoded is held: a hold may be about it.
func (c *change) isHeld(holds []forwarder.Hold, r *row) (bool, error) {
	if len(holds) == 0 {
		return false, nil
	}
	e, err := c.entry(r)
	if err != nil || e == nil {
		return true, err
	}
	if s := r.tag.stamp(); s != nil {
		s.On(e)
	}
	return forwarder.IsHeld(holds, e), nil
}

// enter notes that a row is there as it is: in the totals of its class, and in the tables
// by which it is found again. Each statement that makes a row, or changes its size, its
// arrival, its tag, its owner or its mark, stands between leave and enter.
func (c *change) enter(r *row) error {
	c.touched++
	c.name(r.slug, r.owner)
	c.count(+1, r)
	switch {
	case r.tag.pending:
		return c.exec(insertPending, r.timestamp, r.key)
	case r.mark != noMark:
		return c.exec(insertHeld, r.mark, r.key)
	case r.tag.keep == 0:
		if c.untagged[1] == 0 {
			c.untagged[0] = r.key
		}
		c.untagged = [2]int64{min(c.untagged[0], r.key), max(c.untagged[1], r.key)}
	case r.tag.keep != audit.ForeverMicros:
		if e := (end{r.tag.keep, r.key >> blockBits}); e != c.last {
			c.last = e
			c.expiring[e] = struct{}{}
		}
	}
	return nil
}

// leave takes back what enter noted.
func (c *change) leave(r *row) error {
	c.touched++
	c.count(-1, r)
	switch {
	case r.tag.pending:
		return c.exec(deletePending, r.timestamp, r.key)
	case r.mark != noMark:
		return c.exec(deleteHeld, r.mark, r.key)
	}
	return nil
}

// count adds a row to the totals of its class, or takes it away with a sign of -1.
func (c *change) count(sign int64, r *row) {
	total := c.totals[r.tag.class]
	if total == nil {
		total = new(forwarder.ClassTotal)
		c.totals[r.tag.class] = total
	}
	total.Entries += sign
	total.Bytes += sign * r.size
	if r.mark != noMark {
		total.Held += sign
	}
	if r.tag.pending {
		total.Pending += sign
	}
}

// restamp sets a row's tag.
func (c *change) restamp(r *row, t tag, slug string, owner audit.Owner) error {
	if r.tag == t && r.slug == slug && r.owner == owner && r.mark == noMark {
		return nil
	}
	if err := c.leave(r); err != nil {
		return err
	}
	concerns := owner != r.owner || t.membership != r.tag.membership
	r.tag, r.slug, r.owner, r.mark = t, slug, owner, noMark
	if err := c.exec(stampEntry, append(t.values(), unknown(slug), unknown(string(owner)), r.key)...); err != nil {
		return err
	}
	if concerns {
		c.tell(r, false)
	}
	return c.enter(r)
}

// goes notes that a sequence is gone for a good reason.
func (c *change) goes(p place) { c.gone.add([]byte(p.instance), uint64(p.sequence)) }

// receipt notes that an entry is gone because it had expired. kept is the end of its
// retention.
func (c *change) receipt(now time.Time, class, rule string, p place, arrival, kept int64, late bool) {
	at := now.UnixMicro()
	key := receiptKey{floorDay(at), class, p.instance}
	g := c.receipts[key]
	if g == nil {
		g = &forwarder.Receipt{
			First: uint64(p.sequence), Last: uint64(p.sequence), FirstArrival: arrival, LastArrival: arrival, KeptUntil: kept, From: at, To: at,
		}
		c.receipts[key] = g
	}
	g.Rule = or(rule, g.Rule)
	g.First, g.Last = min(g.First, uint64(p.sequence)), max(g.Last, uint64(p.sequence))
	g.FirstArrival, g.LastArrival = min(g.FirstArrival, arrival), max(g.LastArrival, arrival)
	g.KeptUntil = max(g.KeptUntil, kept)
	g.From, g.To = min(g.From, at), max(g.To, at)
	g.Entries++
	if late {
		g.Late++
	}
	c.goes(p)
}

const microsPerDay = int64(24 * time.Hour / time.Microsecond)

// floorDay is the UTC day of a time, counted from the epoch.
func floorDay(us int64) int64 {
	day := us / microsPerDay
	if us%microsPerDay < 0 {
		day--
	}
	return day
}

// commit writes what goes along, and makes all of it durable.
func (c *change) commit() error {
	for class, t := range c.totals {
		if *t == (forwarder.ClassTotal{}) {
			continue
		}
		if err := c.exec(addTotal, class, t.Entries, t.Bytes, t.Held, t.Pending); err != nil {
			return fmt.Errorf("adding to the totals of class %q: %w", class, err)
		}
	}
	for k, g := range c.receipts {
		err := c.exec(addReceipt, k.day, k.class, k.instance, g.Rule, int64(g.First), int64(g.Last), g.FirstArrival, g.LastArrival,
			g.KeptUntil, g.Entries, g.Late, g.From, g.To)
		if err == nil {
			err = c.exec(addDeleted, k.class, g.LastArrival, g.KeptUntil)
		}
		if err != nil {
			return fmt.Errorf("writing the receipt of class %q: %w", k.class, err)
		}
	}
	for _, r := range c.gone.merged() {
		if err := c.merge("gone", r); err != nil {
			return fmt.Errorf("noting sequences %d to %d as gone: %w", r.First, r.Last, err)
		}
	}
	for e := range c.expiring {
		if err := c.exec(insertExpiring, e.keep, e.block); err != nil {
			return fmt.Errorf("noting what expires: %w", err)
		}
	}
	if err := c.writeNamed(); err != nil {
		return fmt.Errorf("noting whose slugs they are: %w", err)
	}
	if c.untagged[1] != 0 {
		if err := c.exec(addUntagged, c.untagged[0], c.untagged[1]); err != nil {
			return fmt.Errorf("noting entries without a stamp: %w", err)
		}
	}
	if err := c.tellSummaries(); err != nil {
		return fmt.Errorf("telling summaries: %w", err)
	}
	if err := c.tx.Commit(); err != nil {
		return err
	}
	c.remember()
	if work := c.s.summarized.committed(c); work && c.s.summarizer != nil {
		c.s.summarizer.wakeUp()
	}
	if c.s.mover != nil {
		c.s.mover.changed(c.touched)
	}
	return nil
}

// merge merges a range into those of a table that it overlaps or touches. Ranges
// in the table neither overlap nor touch, so only the one that begins at or before
// it and those that begin inside it or right behind can be concerned.
func (c *change) merge(table string, r forwarder.Range) error {
	first, last := int64(r.First), int64(r.Last)
	var f, l int64
	err := c.row(fmt.Sprintf(selectBefore, table), r.Instance, first).Scan(&f, &l)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case l >= last:
		return nil // all of it is there
	case l >= first-1:
		first = f
	}
	beyond := last
	if beyond < math.MaxInt64 {
		beyond++
	}
	if err := c.row(fmt.Sprintf(selectWithin, table), r.Instance, first, beyond).Scan(&l); err != nil {
		return err
	}
	if l > 0 {
		last = max(last, l)
		if err := c.exec(fmt.Sprintf(deleteWithin, table), r.Instance, first, last); err != nil {
			return err
		}
	}
	return c.exec(fmt.Sprintf(setRange, table), r.Instance, first, last)
}

// isGone reports whether it is known already why a sequence is in no row.
func (c *change) isGone(p place) (bool, error) {
	var first, last int64
	err := c.row(fmt.Sprintf(selectBefore, "gone"), p.instance, p.sequence).Scan(&first, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return last >= p.sequence, err
}

// sorted are totals by class.
func sorted(totals map[string]*forwarder.ClassTotal) (all []forwarder.ClassTotal) {
	for class, t := range totals {
		t.Class = class
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b forwarder.ClassTotal) int { return cmp.Compare(a.Class, b.Class) })
	return all
}

// turn gives one at a time the right to write, in the order in which they came: a channel
// hands its place to whoever has waited longest. So a Write waits for the step of pruning
// that is under way and for no other, however many follow.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }
