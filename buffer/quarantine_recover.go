package buffer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// errMissing says that a file has fewer records than were counted.
var errMissing = fmt.Errorf("%w: it has fewer records than were counted", errHarmed)

// load reads quarantine.db, for a start. With older, the state beside it is not
// the newest one that was written.
func (q *quarantine) load(s *state, older bool) (c quarantineContents, err error) {
	if q.file, err = openQuarantine(q.path()); err != nil || q.file == nil {
		return c, err
	}
	info, err := q.file.Stat()
	if err != nil {
		return c, err
	}
	q.size.Store(info.Size())
	if c = loadQuarantine(q.file); c.harm == nil && c.lacks(s, older) {
		c = scanQuarantine(q.file, errMissing)
	}
	q.places, q.serial = c.places, c.serial
	q.found = c.harm != nil
	q.due, q.harmed = q.found, q.found
	return c, nil
}

// lacks reports whether records of some store are missing.
func (c *quarantineContents) lacks(s *state, older bool) bool {
	for store, p := range s.Stores {
		var n uint64
		for sequence, f := range c.all[store] {
			if p.counts(sequence) && (f.as == 0 || older) {
				n++
			}
		}
		if n < p.Quarantined {
			return true
		}
	}
	return false
}

// highest is the highest sequence that a record has.
func (c *quarantineContents) highest() (n uint64) {
	for _, of := range c.all {
		for sequence := range of {
			n = max(n, sequence)
		}
	}
	return n
}

// fill notes what counts of the file. What lies beyond its store's position was put there
// and never counted: its entry is tried again, and the record goes. Unless a segment is
// harmed, whose entries may be nowhere else: then it stays until the store has come by.
func (q *quarantine) fill(c quarantineContents, s *state, older bool) {
	for store, of := range c.all {
		p, known := s.Stores[store]
		for _, sequence := range slices.Sorted(maps.Keys(of)) {
			if of[sequence].as != 0 {
				continue
			}
			if as, resolved := s.Resolved[store][sequence]; resolved {
				q.dead.put(store, sequence, as)
				continue
			}
			beyond := known && sequence > p.Position
			if beyond {
				q.pending[store] = append(q.pending[store], sequence)
			}
			if !beyond || older {
				q.add(store, sequence, of[sequence].size)
			}
		}
	}
}

// recoverQuarantine holds what a start has found in quarantine.db against the state.
//
// What is missing counts as damaged, with a gap. Too many there cannot be but from a
// scan of a harmed file, which finds some that were resolved, or beside a state that has
// gone back: they stay, and what they counted as is taken back, for an entry that is
// delivered twice does less harm than one that nobody has.
//
// Nobody else has the buffer yet.
func (b *Buffer) recoverQuarantine(c quarantineContents, older bool) {
	q := &b.quarantine
	if c.harm != nil {
		b.log().Error("the quarantine is harmed; what can be read of it is kept, and a gap tells of the rest", "file", q.path(), "error", c.harm)
	}
	if err := os.Remove(q.path() + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log().Warn("removing an unfinished file of quarantine; it is tried again with the next", "file", q.path(), "error", err)
	}
	q.fill(c, &b.state, older)
	b.state.Resolved = q.dead.clone()
	for _, store := range slices.Sorted(maps.Keys(b.state.Stores)) {
		b.reconcile(store, c.all[store], older)
	}
	signal(q.wake)
}

// reconcile brings a store's terms into line with what there is.
func (b *Buffer) reconcile(store string, of map[uint64]found, older bool) {
	q := &b.quarantine
	p := b.state.Stores[store]
	is := q.counted(store, p)
	if older && p.Quarantined > is {
		// The state is from before some were resolved, of which the file tells.
		b.resolvedSince(store, &p, of, p.Quarantined-is)
	}
	switch {
	case p.Quarantined > is:
		n := p.Quarantined - is
		p.Quarantined -= n
		p.Damaged += n
		b.tellLost(Gap{Store: store, Count: n, First: p.Start + 1, Last: p.Position})
	case p.Quarantined < is:
		n := is - p.Quarantined
		b.log().Error("quarantine has more entries of a store than were counted; they count as not delivered",
			"store", store, "entries", n)
		for _, term := range []*uint64{&p.Delivered, &p.Skipped, &p.Filtered, &p.Damaged} {
			take := min(n, *term)
			*term -= take
			p.Quarantined += take
			n -= take
		}
	default:
		if p.Quarantined == b.state.Stores[store].Quarantined { // and so is every other term
			return
		}
	}
	b.state.Stores[store] = p
	b.dirty = true
}

// resolvedSince counts the newest n resolutions that a file tells of.
func (b *Buffer) resolvedSince(store string, p *Position, of map[uint64]found, n uint64) {
	var list []uint64
	for sequence, f := range of {
		if f.as != 0 && p.counts(sequence) {
			list = append(list, sequence)
		}
	}
	slices.SortFunc(list, func(x, y uint64) int { return cmp.Compare(of[y].serial, of[x].serial) })
	for _, sequence := range list[:min(uint64(len(list)), n)] {
		b.resolve(store, p, sequence, of[sequence].as, "harmed")
	}
}
