package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// pace is how much a step of pruning may do so that it takes about as long as it should.
// It follows what the last steps took, since a row costs what its disk and the size of
// the file make it cost.
type pace struct {
	rows  int           // to delete
	pages int           // to give back
	sync  time.Duration // what the last commit took
}

// The bounds of a step. It begins small.
const (
	firstRows  = 64
	leastRows  = 32 // much less than a commit
	mostRows   = 8192
	firstPages = 64
	leastPages = 32
	mostPages  = 4096
)

// spareShare is which part of a file stays as free pages for what comes next: a file that
// gave back all would grow again by as much on the same day.
const spareShare = 16

// Prune implements forwarder.Keeper. When nothing has expired any more its steps give
// space back, but for a sixteenth of the file: that is for what comes next. In a
// file that was made as schema version 1 all space stays for that.
func (s *Store) Prune(ctx context.Context, e forwarder.Expiry) (forwarder.Pruned, error) {
	var p forwarder.Pruned
	err := s.turn.take(ctx)
	if err == nil {
		defer s.turn.give()
		p, err = s.prune(&e)
	}
	if err != nil {
		return forwarder.Pruned{}, fmt.Errorf("pruning audit store %q: %w%s", s.path, err, cure(err))
	}
	return p, nil
}

func (s *Store) prune(e *forwarder.Expiry) (forwarder.Pruned, error) {
	if s.closed {
		return forwarder.Pruned{}, errClosed
	}
	step := cmp.Or(e.Step, forwarder.DefaultPruneStep)
	var p forwarder.Pruned
	err := s.unsynced(func() (err error) {
		var done int
		if p, done, err = s.expire(e, step); err != nil || done > 0 {
			p.More = true
			return err
		}
		p.More, err = s.shrink(step)
		return err
	})
	return p, err
}

// unsynced does something whose commit does not wait for the disk, nor lets a Write wait
// for that. A power cut may take it back, as a whole; then it is done again. The next
// commit that is synced syncs it too.
func (s *Store) unsynced(do func() error) error {
	if _, err := s.db.Exec(`PRAGMA synchronous = NORMAL`); err != nil {
		return err
	}
	err := do()
	if _, back := s.db.Exec(`PRAGMA synchronous = FULL`); back != nil {
		// No Write may return before it is on the disk.
		s.broken = fmt.Errorf("syncing again: %w: reload, which opens it anew", back)
		err = errors.Join(err, s.broken)
	}
	return err
}

// expire is a step that deletes. It returns how many rows it has done something to.
func (s *Store) expire(e *forwarder.Expiry, step time.Duration) (p forwarder.Pruned, done int, err error) {
	begun := time.Now()
	limit := max(s.pace.rows, leastRows)
	if s.pace.rows == 0 {
		limit = firstRows
	}
	c, err := s.begin()
	if err != nil {
		return p, 0, err
	}
	defer c.rollback()
	released, err := c.release(limit)
	if err != nil {
		return p, 0, err
	}
	x := expiring{change: c, Expiry: e, pruned: &p, deleted: map[string]*forwarder.ClassTotal{}}
	if x.holds, err = c.holds(); err != nil {
		return p, 0, err
	}
	if err := c.row(selectState, stateReleased).Scan(&x.mark); err != nil {
		return p, 0, err
	}
	// The rest of the step is the commit's.
	x.deadline = begun.Add(step - min(s.pace.sync, step/2))
	done = released
	for more := true; more && done < limit; {
		var n int
		if n, more, err = x.block(limit - done); err != nil {
			return p, 0, err
		}
		done += n
	}
	if done == 0 {
		return p, 0, nil
	}
	committing := time.Now()
	if err := c.commit(); err != nil {
		return p, 0, err
	}
	s.pace.sync = time.Since(committing)
	s.pace.rows = paced(limit, done, step, time.Since(begun), leastRows, mostRows)
	p.Deleted = sorted(x.deleted)
	return p, done, nil
}

// paced is how much the next step may do, if this one did so much in that time.
func paced(limit, done int, step, took time.Duration, least, most int) int {
	if done < limit && took < step {
		return max(limit, least) // there was no more to do, which says nothing
	}
	n := int(float64(done) * float64(step) / float64(max(took, 1)))
	// One step that was delayed, or quick, says little.
	return min(max(n, limit/2, least), limit*2, most)
}

// expiring is one step.
type expiring struct {
	*change
	*forwarder.Expiry
	holds    []forwarder.Hold
	mark     int64 // how many holds have ended
	deadline time.Time
	pruned   *forwarder.Pruned
	deleted  map[string]*forwarder.ClassTotal
}

// block does up to so many rows of the block whose retention has ended first. It returns
// how much it did, of which the block itself is one, and whether there may be more.
func (x *expiring) block(limit int) (done int, more bool, err error) {
	var e end
	err = x.row(selectEnded, x.Now.UnixMicro()).Scan(&e.keep, &e.block)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	rows, err := x.rows(selectExpired, e.block<<blockBits, (e.block+1)<<blockBits-1, e.keep, limit)
	if err != nil {
		return 0, false, err
	}
	for i := range rows {
		// A step does something, however late it is.
		if i > 0 && time.Now().After(x.deadline) {
			return done, false, nil
		}
		if err := x.expire(&rows[i]); err != nil {
			return 0, false, fmt.Errorf("deleting sequence %d of %s: %w", rows[i].place.sequence, rows[i].place.instance, err)
		}
		done++
	}
	if len(rows) == limit {
		return done, false, nil // the block may have more
	}
	return done + 1, time.Now().Before(x.deadline), x.exec(deleteExpiring, e.keep, e.block)
}

// expire deletes a row whose own retention has ended, unless the terms of now keep it for
// longer, or a hold does.
func (x *expiring) expire(r *row) error {
	var until int64
	if x.Until != nil {
		until = x.Until(r.tag.class, r.timestamp)
	}
	if until = max(until, r.tag.keep); until > x.Now.UnixMicro() {
		x.pruned.Extended++
		return x.set(r, func() { r.tag.keep = until }, extendEntry, until)
	}
	held, err := x.isHeld(x.holds, r)
	if err != nil {
		return err
	}
	if held {
		x.pruned.Held++
		return x.set(r, func() { r.mark = x.mark }, holdEntry, x.mark)
	}
	if err := x.leave(r); err != nil {
		return err
	}
	if err := x.exec(deleteEntry, r.key); err != nil {
		return err
	}
	x.change.deleted++
	if err := x.exec(deleteTokens, r.key); err != nil {
		return err
	}
	total := x.deleted[r.tag.class]
	if total == nil {
		total = new(forwarder.ClassTotal)
		x.deleted[r.tag.class] = total
	}
	total.Entries++
	total.Bytes += r.size
	rule := ""
	if x.Rule != nil {
		rule = x.Rule(r.tag.class)
	}
	x.receipt(x.Now, r.tag.class, rule, r.place, r.timestamp, until, false)
	return nil
}

// set changes one column of a row.
func (c *change) set(r *row, change func(), query string, value any) error {
	if err := c.leave(r); err != nil {
		return err
	}
	change()
	if err := c.exec(query, value, r.key); err != nil {
		return err
	}
	return c.enter(r)
}

// release takes the marks from some rows that were held before a hold ended, so that they
// are asked again, and returns how many.
func (c *change) release(limit int) (int, error) {
	var mark int64
	if err := c.row(selectState, stateReleased).Scan(&mark); err != nil || mark == 0 {
		return 0, err
	}
	// A row that is asked again is done with only then: half of a step is left for that.
	rows, err := c.rows(selectReleased, mark, (limit+1)/2)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		r := &rows[i]
		if err := c.set(r, func() { r.mark = noMark }, holdEntry, nil); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

// shrink is a step that gives space back, and says whether there is more.
func (s *Store) shrink(step time.Duration) (more bool, err error) {
	if !s.vacuums {
		return false, nil
	}
	var free, pages int
	if err := s.db.QueryRow(`SELECT f.freelist_count, p.page_count FROM pragma_freelist_count f, pragma_page_count p`).Scan(&free, &pages); err != nil {
		return false, err
	}
	spare := pages / spareShare
	if free <= spare {
		return false, nil
	}
	limit := max(s.pace.pages, leastPages)
	if s.pace.pages == 0 {
		limit = firstPages
	}
	n := min(limit, free-spare)
	begun := time.Now()
	// A pragma takes no parameters.
	if _, err := s.db.Exec(fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, n)); err != nil {
		return false, fmt.Errorf("giving space back: %w", err)
	}
	s.pace.pages = paced(limit, n, step, time.Since(begun), leastPages, mostPages)
	return free-n > spare, nil
}
