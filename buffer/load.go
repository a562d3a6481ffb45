package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer/internal/pages"
)

// contents is what a segment's file holds.
type contents struct {
	state state
	found bool      // state is there
	at    time.Time // of the commit that wrote it
	// head is the sequence of the newest entry; one less than the segment's first
	// if there is none.
	head uint64
	// unresolved are the intents that no entry completes, by number.
	unresolved map[uint64][]byte
	// completed are the intents that a scan has found the end of.
	completed map[uint64]struct{}

	// torn is why this is the file as it was before its newest commit, which did not get
	// to the disk whole; nil if it is the newest.
	torn error
	// harm is why the file was scanned instead of read; nil if it is whole.
	harm error
	// uncertain says that the end of the file may have held more than is told.
	uncertain bool
	index     []place
}

// load reads all that a start needs from a segment, of whatever is left of it. It
// fails only when the file cannot be read at all, or is of another version.
func (s *segment) load() (c contents, err error) {
	f, err := s.open()
	if err != nil {
		return c, err
	}
	c, err = loadTree(f, s.first)
	if errors.Is(err, errFormat) {
		return c, fmt.Errorf("reading segment %q: %w", s.path, err)
	}
	if err == nil {
		return c, nil
	}
	why := err
	if c, err = loadScan(f, s.first); err != nil {
		return c, fmt.Errorf("reading segment %q: %w (%w)", s.path, err, why)
	}
	c.harm = why
	return c, nil
}

// loadTree reads an unharmed file. Each frame is checked, and all are held against
// what the state says, so that a start never builds on a harmed one.
//
// A commit may be one sync, see Buffer.apply: when the machine goes down meanwhile, any part
// of it may be on the disk. Its callers were not answered, and the commit before it is whole.
// That is what is read then; but not if the machine has been up since, because what a
// process has written cannot be missing then, and something else has harmed the file.
func loadTree(f *os.File, first uint64) (contents, error) {
	info, err := f.Stat()
	if err != nil {
		return contents{}, err
	}
	readAhead(f)
	tree, err := pages.Open(f, info.Size())
	if err != nil {
		return contents{}, err
	}
	c, err := contentsOf(tree, first)
	why := err
	if err == nil && !tree.MetaDamaged() {
		return c, nil
	}
	if err == nil {
		why = fmt.Errorf("%w: one of its two meta pages cannot be read", errHarmed)
	} else if outOfOrder(err) || errors.Is(err, errFormat) {
		return c, err
	} else if tree = tree.Previous(); tree != nil {
		c, err = contentsOf(tree, first)
	}
	if err != nil || c.state.Boot == "" || c.state.Boot == thisBoot() {
		return contents{}, why
	}
	c.torn = why
	return c, nil
}

// boot is what bootID has said; tests say something else.
var boot atomic.Pointer[string]

func thisBoot() string {
	if boot.Load() == nil {
		b := bootID()
		boot.CompareAndSwap(nil, &b)
	}
	return *boot.Load()
}

// contentsOf reads what a file holds as one of its meta pages has it.
func contentsOf(tree *pages.File, first uint64) (c contents, err error) {
	c = contents{head: first - 1, unresolved: map[uint64][]byte{}}
	var bad error
	each := func(bucket []byte, visit func(frame) error) error {
		err := tree.Each(bucket, nil, func(_, v []byte) bool {
			bad = eachFrame(v, visit)
			return bad == nil
		})
		return errors.Join(bad, err)
	}
	var transaction uint64
	err = tree.Each(bucketState, keyState, func(k, v []byte) bool {
		if bytes.Equal(k, keyState) {
			c.state, c.at, transaction, bad = decodeState(v)
			c.found = bad == nil
		}
		return false
	})
	if err := errors.Join(bad, err); err != nil {
		return c, err
	}
	switch {
	case !c.found:
		return c, fmt.Errorf("%w: it has no state", errHarmed)
	case transaction != 0 && transaction != tree.Transaction():
		return c, fmt.Errorf("%w: its state is that of commit %d, and its newest is %d", errHarmed, transaction, tree.Transaction())
	}
	err = each(bucketIntents, func(f frame) error {
		c.unresolved[f.intent] = bytes.Clone(f.payload)
		return nil
	})
	if err != nil {
		return c, err
	}
	err = each(bucketEntries, func(f frame) error {
		if f.sequence != c.head+1 {
			return fmt.Errorf("%w: entry %d follows entry %d", errHarmed, f.sequence, c.head)
		}
		c.head = f.sequence
		if f.flags&flagCompletes != 0 {
			delete(c.unresolved, f.intent)
		}
		return nil
	})
	switch {
	case err != nil:
		return c, err
	case c.head != c.state.Head:
		return c, fmt.Errorf("%w: its newest entry is %d, and its state says %d", errHarmed, c.head, c.state.Head)
	case len(c.unresolved) != c.state.Open:
		return c, fmt.Errorf("%w: %d of its intents have no end, and its state says %d", errHarmed, len(c.unresolved), c.state.Open)
	}
	return c, nil
}

// loadScan gathers what a scan of a harmed file finds. What a commit left there
// that never ended may be among it; nobody was answered on its account, and it is
// no lie to keep it.
func loadScan(f *os.File, first uint64) (c contents, err error) {
	c = contents{
		head: first - 1, unresolved: map[uint64][]byte{}, completed: map[uint64]struct{}{},
		index: []place{}, uncertain: true,
	}
	var newest frame
	err = scan(f, func(offset int64, f frame) {
		switch {
		case f.isState():
			if c.found && (f.sequence < newest.sequence || f.sequence == newest.sequence && f.time < newest.time) {
				return
			}
			if st, err := stateOf(f); err == nil {
				newest, c.state, c.found, c.at = f, st, true, time.UnixMicro(f.time)
			}
		case f.isIntent():
			c.unresolved[f.intent] = bytes.Clone(f.payload)
		case f.sequence >= first && f.flags&flagLost == 0:
			c.index = append(c.index, place{f.sequence, offset})
			c.head = max(c.head, f.sequence)
			if f.flags&flagCompletes != 0 {
				c.completed[f.intent] = struct{}{}
			}
		}
	})
	if err != nil {
		return c, err
	}
	for n := range c.completed {
		delete(c.unresolved, n)
	}
	c.index = sortPlaces(c.index)
	if c.found {
		c.head = max(c.head, c.state.reached())
		c.uncertain = !c.state.Clean // after the last commit of a close there is nothing
	}
	return c, nil
}

// loadNewest reads the newest segment. If its state is lost, that of the newest one
// before it counts that has one.
func loadNewest(segs []*segment) (contents, error) {
	c, err := segs[len(segs)-1].load()
	for i := len(segs) - 2; err == nil && !c.found && i >= 0; i-- {
		var older contents
		if older, err = segs[i].load(); err != nil {
			break
		}
		for n := range older.completed {
			c.completed[n] = struct{}{}
		}
		for n, payload := range older.unresolved {
			if _, ended := c.completed[n]; !ended {
				c.unresolved[n] = payload
			}
		}
		c.state, c.found, c.at = older.state, older.found, older.at
		if c.found {
			c.head = max(c.head, c.state.reached())
		}
	}
	return c, err
}

// rebuild brings counts into line that an older state has: what was recorded since
// is not known. The gap says so.
func (c *contents) rebuild() {
	s := &c.state
	s.NextIntent += 1 << 32 // above any that was given since
	n := &s.Calls
	n.Seen = n.Recorded + n.Excluded + n.Refused + n.Passed + n.Folded + uint64(len(c.unresolved))
}
