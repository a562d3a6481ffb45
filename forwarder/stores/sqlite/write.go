package sqlite

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Write stores the batch in one transaction: all of it or nothing. Writing it
// again changes nothing. The context is looked at between entries; what delays
// the end beyond that is the sync, a step of pruning, a summary, or up to a second for
// another writer. Only what refusal names is a forwarder.RefusedError.
//
// What has expired is not taken, see forwarder.Keeper; but what is pending is: it
// would not be deleted either.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	err := s.turn.take(ctx)
	if err == nil {
		defer s.turn.give()
		err = s.write(ctx, batch)
	}
	if err != nil {
		return fmt.Errorf("writing to audit store %q: %w%s", s.path, err, cure(err))
	}
	return nil
}

func (s *Store) write(ctx context.Context, batch []forwarder.Record) error {
	if s.closed {
		return errClosed
	}
	for _, r := range batch {
		if o := r.Entry.Origin; o == nil || o.Sequence == 0 || o.Sequence > math.MaxInt64 {
			return &forwarder.RefusedError{Err: fmt.Errorf("entry %q has no origin with a sequence from 1 to 2^63-1", r.Entry.ID)}
		}
	}
	c, err := s.begin()
	if err != nil {
		return err
	}
	defer c.rollback()
	w := writing{change: c, now: s.now()}
	if err := w.readDeleted(); err != nil {
		return fmt.Errorf("reading what was deleted: %w", err)
	}
	for i := range batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.put(&batch[i]); err != nil {
			return fmt.Errorf("inserting entry %q: %w", batch[i].Entry.ID, refusal(err))
		}
	}
	for _, r := range forwarder.Ranges(batch) {
		if err := c.merge("received", r); err != nil {
			return fmt.Errorf("noting sequences %d to %d as received: %w", r.First, r.Last, err)
		}
	}
	if err := c.commit(); err != nil {
		return err
	}
	return s.inPlace()
}

var errClosed = errors.New("it is closed")

// writing is one Write.
type writing struct {
	*change
	now     time.Time
	deleted map[string]deleted
	// held are the holds, read when the first entry that has expired comes.
	held []forwarder.Hold
	read bool
	// late are the entries that had expired. One may come twice in a batch.
	late map[place]bool
	args [insertArgs]any
}

// insertArgs is how many parameters insertEntry has.
const insertArgs = 20 + briefArgs

// deleted bounds what the receipts of a class are for.
type deleted struct{ arrival, until int64 }

func (w *writing) readDeleted() error {
	rows, err := w.query(selectDeleted)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var class string
		var d deleted
		if err := rows.Scan(&class, &d.arrival, &d.until); err != nil {
			return err
		}
		if w.deleted == nil {
			w.deleted = map[string]deleted{}
		}
		w.deleted[class] = d
	}
	return rows.Err()
}

// put takes one record.
func (w *writing) put(r *forwarder.Record) error {
	e := r.Entry
	t := tagOf(r.Stamp)
	from := captured(r)
	t.stamped = t.stamped.beside(from)
	expired, err := w.hasExpired(e, &t)
	if err != nil {
		return err
	}
	if expired {
		return w.putLate(r, &t, from)
	}
	key, err := w.insert(r, &t, from)
	if err != nil || key != 0 {
		return err
	}
	there, err := w.find(e.ID)
	if err != nil || there == nil {
		return errors.Join(err, errNoRow)
	}
	return w.putAgain(r, t, from, there)
}

var errNoRow = errors.New("its row is neither there nor can it be made: look for a trigger")

// insert makes the entry's row, and returns its key; zero if it has one.
func (w *writing) insert(r *forwarder.Record, t *tag, from organization) (key int64, err error) {
	e, a := r.Entry, &r.Entry.Actor
	slug, owner := or(from.slug, t.stamped.slug), ownerOf(from, t.stamped)
	args := append(append(w.args[:0],
		e.ID, e.Revision, e.Timestamp, unknown(slug), unknown(e.ProjectRef),
		mark(a.TokenHash), mark(a.SessionID), mark(a.UserID), mark(a.IP), e.Origin.Instance, int64(e.Origin.Sequence), string(r.JSON),
	), t.values()...)
	result, err := w.result(insertEntry, briefValues(append(args, unknown(string(owner))), e)...)
	if err != nil {
		return 0, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return 0, err
	}
	if key, err = result.LastInsertId(); err != nil {
		return 0, err
	}
	made := row{key: key, timestamp: e.Timestamp, slug: slug, owner: owner, size: int64(len(r.JSON)), mark: noMark, tag: *t}
	w.tell(&made, true)
	if err := w.enter(&made); err != nil {
		return 0, err
	}
	return key, w.tokens(a.OtherTokenHashes, key)
}

// tokens makes an entry be found by the further credentials of its call.
func (w *writing) tokens(hashes []string, key int64) error {
	for _, hash := range hashes {
		if err := w.exec(insertToken, mark(hash), key); err != nil {
			return fmt.Errorf("inserting a further token: %w", err)
		}
	}
	return nil
}

// putAgain takes a record of an entry that has a row: another revision, or a repeat. Its
// stamp counts in any case.
func (w *writing) putAgain(r *forwarder.Record, t tag, from organization, there *row) (err error) {
	e, a := r.Entry, &r.Entry.Actor
	p := place{e.Origin.Instance, int64(e.Origin.Sequence)}
	higher := e.Revision > there.revision
	switch {
	case higher:
		if p != there.place {
			w.goes(there.place)
		}
		if err := w.leave(there); err != nil {
			return err
		}
		err = w.exec(replaceEntry, append(briefValues(append(w.args[:0],
			e.Revision, e.Timestamp, unknown(e.ProjectRef), mark(a.TokenHash), mark(a.SessionID), mark(a.UserID), mark(a.IP),
			p.instance, p.sequence, string(r.JSON)), e), there.key)...)
		if err != nil {
			return err
		}
		there.size, there.timestamp = int64(len(r.JSON)), e.Timestamp
		w.tell(there, false)
		if err := w.enter(there); err != nil {
			return err
		}
		if err := w.tokens(a.OtherTokenHashes, there.key); err != nil {
			return err
		}
	case p != there.place:
		w.goes(p)
		fallthrough
	default:
		if t == (tag{}) {
			return nil
		}
		if from, err = w.captured(there, t.stamped); err != nil {
			return err
		}
	}
	merged := there.tag
	merged.add(t, from)
	if r.Stamp != nil && (higher || there.tag.pending || there.tag == (tag{})) {
		merged.pending = t.pending
	}
	owner := there.owner
	if higher || t.stamped != (organization{}) {
		owner = ownerOf(from, merged.stamped)
	}
	return w.restamp(there, merged, or(from.slug, merged.stamped.slug), owner)
}

// hasExpired reports whether an entry may not come in, unless it is there or a hold keeps
// it: its own retention has ended, or a receipt covers it.
func (w *writing) hasExpired(e *audit.Entry, t *tag) (bool, error) {
	if t.pending {
		return false, nil
	}
	if t.keep != 0 && t.keep <= w.now.UnixMicro() {
		return true, nil
	}
	d, ok := w.deleted[t.class]
	if !ok || e.Timestamp > d.arrival || t.keep > d.until {
		return false, nil
	}
	var receipts int
	err := w.row(selectCovered, t.class, e.Timestamp, e.Timestamp, t.keep).Scan(&receipts)
	return receipts > 0, err
}

// putLate takes a record of what has expired, for which there may be a row, or a hold.
// Else it is gone, and the receipt counts it, though not again if it comes again.
func (w *writing) putLate(r *forwarder.Record, t *tag, from organization) error {
	e := r.Entry
	there, err := w.find(e.ID)
	if err != nil {
		return err
	}
	if there != nil {
		return w.putAgain(r, *t, from, there)
	}
	if !w.read {
		if w.held, err = w.holds(); err != nil {
			return err
		}
		w.read = true
	}
	if len(w.held) > 0 {
		stamped := *e
		if s := t.stamp(); s != nil {
			s.On(&stamped)
		}
		if forwarder.IsHeld(w.held, &stamped) {
			_, err := w.insert(r, t, from)
			return err
		}
	}
	p := place{e.Origin.Instance, int64(e.Origin.Sequence)}
	if gone, err := w.isGone(p); err != nil || gone || w.late[p] {
		return err
	}
	if w.late == nil {
		w.late = map[place]bool{}
	}
	w.late[p] = true
	w.receipt(w.now, t.class, "", p, e.Timestamp, t.keep, true)
	return nil
}

// refusal is what an entry's own content makes SQLite say, as a
// forwarder.RefusedError: it is longer than SQLite's limit, or against a
// constraint, of which the schema has none that it could meet but an operator
// may have added some. Every other error stays as it is.
func refusal(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH:
		return &forwarder.RefusedError{Err: err}
	}
	return err
}

// Highest implements forwarder.Witness.
func (s *Store) Highest(ctx context.Context, instance string) (sequence uint64, err error) {
	var last int64
	if err = s.turn.take(ctx); err == nil {
		defer s.turn.give()
		err = s.db.QueryRowContext(ctx, `SELECT coalesce(max(last), 0) FROM received WHERE instance = ?`, instance).Scan(&last)
	}
	if err != nil {
		return 0, fmt.Errorf("reading how far audit store %q is: %w%s", s.path, err, cure(err))
	}
	return uint64(last), nil
}

// unknown is NULL for the empty string.
func unknown(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// mark stands for a text in an index: the first 64 bits of its SHA-256, NULL for
// the empty string. Two texts may share one, so it only finds candidates.
func mark(s string) any {
	if s == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(s))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// inPlace says whether the path still names the file that was written to.
// SQLite would go on writing to one that was removed, and the position with
// it, until a restart finds nothing.
func (s *Store) inPlace() error {
	now, err := os.Stat(s.path)
	if err == nil && os.SameFile(now, s.file) {
		return nil
	}
	return errors.Join(errors.New("the file was removed or replaced while in use: put it back, or reload to begin a new one"), err)
}
