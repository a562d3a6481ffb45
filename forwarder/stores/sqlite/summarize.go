package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/summary"
)

// summarized is what a Store knows of its summaries. It belongs to whose turn it is.
type summarized struct {
	made int64                 // see stateSummaries
	last map[audit.Owner]int64 // the timestamp of each owner's last one
	// fresh counts an owner's entries that no summary was told of, since the start; full
	// are those who have enough of them for one.
	fresh map[audit.Owner]int
	full  map[audit.Owner]struct{}
	// young are those whose entries are enough and not all settled yet.
	young map[audit.Owner]struct{}
	// long are owners of whom entries came to stretches that were there.
	long map[audit.Owner]struct{}
	// sweeping goes through all owners, from one on: at the start, and after entries were
	// deleted. A sweep that is under way goes on, or none would come to its end.
	sweeping bool
	after    audit.Owner
	deleted  int
}

// maxFresh bounds the owners of whom entries are counted. Beyond it all owners are looked
// at.
const maxFresh = 100_000

// committed notes what a change has brought, and reports whether there is something to do.
func (s *summarized) committed(c *change) (work bool) {
	if len(s.fresh)+len(c.fresh) > maxFresh {
		clear(s.fresh)
		s.sweeping = true
	}
	for owner, n := range c.fresh {
		if s.fresh[owner] += n; s.fresh[owner] >= stretchEntries {
			s.full[owner] = struct{}{}
			delete(s.fresh, owner)
		}
	}
	if s.deleted += c.deleted; s.deleted >= stretchEntries {
		s.deleted, s.sweeping = 0, true
	}
	maps.Copy(s.last, c.lasts)
	for _, owner := range c.lengthened {
		s.long[owner] = struct{}{}
	}
	s.made += c.made
	return s.work()
}

// grow looks again at what was too young.
func (s *summarized) grow() {
	maps.Copy(s.full, s.young)
	clear(s.young)
}

// work reports whether there is something to do.
func (s *summarized) work() bool { return s.sweeping || len(s.full)+len(s.long) > 0 }

var (
	// stretchEntries is how many entries a stretch is made of. Making its summary takes
	// about as long as a step of pruning. A test makes it smaller.
	stretchEntries = 512
	// settled is how old the entries are that a summary is made of: those of the last
	// moments change. A test makes it shorter.
	settled = time.Minute
	// byItself says that a store makes them without being asked. A test decides when.
	byItself = true
)

// summarizer makes summaries while the store is used, one after the other and each in a
// turn of its own, of what has been there for a while.
type summarizer struct {
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}
}

// summarizeRest is how long the store is left alone after a turn, in turns.
const summarizeRest = 3

func (s *Store) startSummarizer() {
	ctx, cancel := context.WithCancel(context.Background())
	s.summarizer = &summarizer{wake: make(chan struct{}, 1), stop: cancel, done: make(chan struct{})}
	if s.summarizer.wakeUp(); !byItself {
		close(s.summarizer.done)
		return
	}
	go s.summarizeAll(ctx)
}

func (z *summarizer) wakeUp() {
	select {
	case z.wake <- struct{}{}:
	default:
	}
}

// close ends it. The store's turn must not be held.
func (z *summarizer) close() {
	z.stop()
	<-z.done
}

func (s *Store) summarizeAll(ctx context.Context) {
	defer close(s.summarizer.done)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-s.summarizer.wake:
		case <-tick.C:
			if s.turn.take(ctx) == nil {
				s.summarized.grow()
				s.turn.give()
			}
		case <-ctx.Done():
			return
		}
		err := s.summarizeSome(ctx, summarizeRest)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.log.Warn("making summaries of entries; until it succeeds, searches for what is rare take longer", "file", s.path, "error", err)
		} else if err == nil && failing {
			s.log.Info("summaries of entries are made again", "file", s.path)
		}
		failing = err != nil
	}
}

// Summarize makes all summaries that there are entries for. The store does so by itself,
// more slowly; this is for who cannot wait.
func (s *Store) Summarize(ctx context.Context) error {
	if err := s.turn.take(ctx); err != nil {
		return err
	}
	s.summarized.sweeping, s.summarized.after = true, ""
	s.turn.give()
	return s.summarizeSome(ctx, 0)
}

// summarizeSome makes what there is to make. Between turns it rests for so many of them.
func (s *Store) summarizeSome(ctx context.Context, rest int) error {
	for {
		if err := s.turn.take(ctx); err != nil {
			return err
		}
		began := time.Now()
		more, err := s.summarizeStep()
		s.turn.give()
		if err != nil || !more {
			return err
		}
		select {
		case <-time.After(time.Duration(rest) * time.Since(began)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// summarizeStep does one thing for one owner, and reports whether there may be more to do.
func (s *Store) summarizeStep() (more bool, err error) {
	if s.closed || !s.summarized.work() {
		return false, nil
	}
	err = s.unsynced(func() error {
		c, err := s.begin()
		if err != nil {
			return err
		}
		defer c.rollback()
		if more, err = c.step(); err != nil {
			return err
		}
		return c.commit()
	})
	if err != nil {
		return false, fmt.Errorf("summarizing entries of audit store %q: %w%s", s.path, err, cure(err))
	}
	return more, nil
}

// step looks at the owners that have something to do, and then at the next of all.
func (c *change) step() (more bool, err error) {
	s := &c.s.summarized
	for owner := range s.long {
		done, err := c.divide(owner)
		if err != nil || done {
			return true, err
		}
		delete(s.long, owner)
	}
	for owner := range s.full {
		done, err := c.summarize(owner)
		if err != nil || done {
			return true, err
		}
		delete(s.full, owner)
	}
	if !s.sweeping {
		return false, nil
	}
	for range ownersPerStep {
		var next sql.Null[audit.Owner]
		if err := c.row(selectNextOwner, string(s.after)).Scan(&next); err != nil {
			return false, err
		}
		if !next.Valid {
			s.sweeping, s.after = false, ""
			return len(s.long)+len(s.full) > 0, nil
		}
		dropped, err := c.drop(next.V)
		if err != nil || dropped {
			return true, err
		}
		s.after = next.V
		s.full[next.V], s.long[next.V] = struct{}{}, struct{}{}
	}
	return true, nil
}

// ownersPerStep is how many are looked at in one transaction.
const ownersPerStep = 64

// summarize makes the summary of the next stretch of an owner, if there are entries for
// one. It reports whether it has.
func (c *change) summarize(owner audit.Owner) (bool, error) {
	after := forwarder.Place{Timestamp: firstTimestamp}
	err := c.row(selectLast, string(owner)).Scan(&after.Timestamp, &after.ID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	// The last one that a stretch would have.
	var last int64
	err = c.row(selectEnough, string(owner), after.Timestamp, after.ID, stretchEntries-1).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	until := forwarder.Place{Timestamp: c.s.now().Add(-settled).UnixMicro()}
	if last >= until.Timestamp {
		c.s.summarized.young[owner] = struct{}{}
		return false, nil
	}
	made, err := c.stretch(owner, after, until, stretchEntries)
	if err != nil {
		return false, err
	}
	return true, c.put(owner, made)
}

// firstTimestamp is before all entries.
const firstTimestamp = -1 << 63

// madeSummary is a summary that was made.
type madeSummary struct {
	place   forwarder.Place
	entries int
	summary summary.Summary
}

// stretch summarizes some of an owner's entries.
func (c *change) stretch(owner audit.Owner, after, upTo forwarder.Place, limit int) (made madeSummary, err error) {
	rows, err := c.query(selectStretch, string(owner), after.Timestamp, after.ID, upTo.Timestamp, upTo.ID, limit)
	if err != nil {
		return made, err
	}
	defer rows.Close()
	var m summary.Maker
	u := unpacker{texts: texts{}}
	for rows.Next() {
		t, err := scanTold(rows, &u)
		if err != nil {
			return made, err
		}
		u.addresses = u.addresses[:0]
		if t.entry == nil {
			m.AddUnknown()
		} else {
			m.Add(&t.brief, t.entry)
		}
		made.entries++
		made.place = forwarder.Place{Timestamp: t.brief.Timestamp, ID: t.brief.ID}
	}
	if made.entries > 0 {
		made.summary = m.Summary()
	}
	return made, rows.Err()
}

// put writes a summary.
func (c *change) put(owner audit.Owner, made madeSummary) error {
	c.made++
	if c.lasts == nil {
		c.lasts = map[audit.Owner]int64{}
	}
	c.lasts[owner] = max(c.lasts[owner], made.place.Timestamp, c.s.summarized.last[owner])
	for kind, f := range []summary.Filter{kindValues: made.summary.Values, kindTexts: made.summary.Texts} {
		if err := c.exec(putSummary, string(owner), kind, made.place.Timestamp, made.place.ID, made.entries, bytesOf(f)); err != nil {
			return err
		}
	}
	return c.exec(countSummary)
}

// divide divides a stretch that has become too long, or makes its summary anew, and
// reports whether there was one.
func (c *change) divide(owner audit.Owner) (bool, error) {
	var place forwarder.Place
	var entries int
	err := c.row(selectLong, string(owner), 2*stretchEntries).Scan(&place.Timestamp, &place.ID, &entries)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	after := forwarder.Place{Timestamp: firstTimestamp}
	err = c.row(selectEarlier, string(owner), place.Timestamp, place.ID).Scan(&after.Timestamp, &after.ID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	made, err := c.stretch(owner, after, place, stretchEntries)
	if err != nil {
		return false, err
	}
	if made.entries < stretchEntries || made.place == place {
		made.place = place // its own entry may be gone
		return true, c.put(owner, made)
	}
	if err := c.put(owner, made); err != nil {
		return false, err
	}
	// What is left is divided until it is made anew.
	return true, c.exec(setEntries, max(entries-stretchEntries, 2*stretchEntries+1), string(owner), place.Timestamp, place.ID)
}

// drop removes an owner's first summary if its stretch has no entries any more, and
// reports whether it has.
func (c *change) drop(owner audit.Owner) (bool, error) {
	var place forwarder.Place
	err := c.row(selectFirst, string(owner)).Scan(&place.Timestamp, &place.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var there bool
	err = c.row(selectUpTo, string(owner), place.Timestamp, place.ID).Scan(&there)
	if errors.Is(err, sql.ErrNoRows) {
		return true, c.exec(deleteSummary, string(owner), place.Timestamp, place.ID)
	}
	return false, err
}
