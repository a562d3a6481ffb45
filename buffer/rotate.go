package buffer

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddy-audit-log/caddy-audit-log/buffer/internal/pages"
)

// replace begins a new segment if the active one must not be appended to,
// trying until it can. It fails only when the buffer is being closed.
func (b *Buffer) replace() error {
	if b.suspect.Swap(false) {
		b.mustReplace = true
	}
	for b.mustReplace {
		err := b.begin()
		if err == nil {
			break
		}
		b.fails(err)
		if !b.rest() {
			return err
		}
	}
	return nil
}

// rotate seals the active segment when it has its size. When the new one
// cannot be made, the old one goes on, and the next attempt is made after it
// has grown some more. When that is in doubt, the old one must not go on, and
// the next commit makes the new one first. It reports whether a new one was begun.
func (b *Buffer) rotate() bool {
	active := b.active()
	// What callers that are not known have in a segment counts until it is gone, and
	// only a sealed one goes: one network's share must not fit into one segment, or it
	// stays used up where nobody else calls.
	theirs := b.strangers.of(active) >= networkBound(b.shareOfStrangers())/2 && active.size >= b.rotateFrom
	// A segment that grows is worth no more room than it has once another is ready.
	better := active.filled == 0 && active.size >= b.filling.enough && active.size >= b.rotateFrom && b.isReady()
	if active.size < b.rotateAt && !theirs && !better {
		b.prepare(active)
		return false
	}
	err := b.begin()
	switch {
	case errors.Is(err, errInDoubt):
		b.fails(err)
		b.mustReplace = true
	case err != nil:
		b.rotateAt = max(b.rotateAt, active.size) + b.segmentSize()/8
		b.rotateFrom = b.rotateAt
		b.log().Warn("beginning a new segment; the current one is used for longer", "directory", b.dir, "error", err)
	}
	return err == nil
}

// prepare has the file of the next segment made while calls go on, if there is room. That
// it cannot be made is no matter: then the segment's file grows.
func (b *Buffer) prepare(active *segment) {
	bound := b.segmentSize()
	if active.filled > 0 && active.size < bound/2 {
		return // there is time
	}
	if b.isReady() || b.preparing || active.size < b.filling.from || bound < b.filling.least || time.Now().Before(b.prepareFrom) {
		return
	}
	if free := b.free.Load(); free >= 0 && free-b.reserved.Load()-2*bound < b.floor() {
		return
	}
	b.preparing = true
	b.sealing.Go(func() {
		f, err := newFile(filepath.Join(b.dir, nextName), bound)
		if err == nil {
			if err = f.fill(bound+b.filling.beyond, b.filling.step, b.quit); err != nil {
				f.remove()
			}
		}
		if err != nil {
			f = &file{} // so that the writer knows
		}
		b.ready.Store(f)
	})
}

// isReady reports whether the next segment's file is there.
func (b *Buffer) isReady() bool {
	f := b.ready.Load()
	if f != nil && f.filled == 0 {
		b.takeReady() // it could not be made
		return false
	}
	return f != nil
}

// takeReady returns the file that was prepared, or nil.
func (b *Buffer) takeReady() *file {
	f := b.ready.Swap(nil)
	if f == nil {
		return nil
	}
	b.preparing = false
	if f.filled == 0 {
		b.prepareFrom = time.Now().Add(prepareAgain)
		return nil
	}
	if !same(f.path, f.file) {
		f.remove()
		return nil
	}
	return f
}

// nextName is what a file that is being prepared is called.
const nextName = "seg-next.db.tmp"

// prepareAgain is how long after a failure a file is prepared again.
const prepareAgain = time.Minute

// begin makes a new active segment that holds the state as committed, all open
// intents, and the checksums of the segments before.
func (b *Buffer) begin() error {
	if err := b.own(); err != nil {
		return err
	}
	b.mu.Lock()
	first := b.head + 1
	open := maps.Clone(b.open)
	state := b.written
	b.mu.Unlock()
	b.segMu.Lock()
	sums := map[uint64]sum{}
	for _, s := range b.segments {
		if s.sum != nil {
			sums[s.first] = *s.sum
		}
	}
	b.segMu.Unlock()
	inDoubt := b.mustReplace
	s, err := createSegment(b.dir, first, b.segmentSize(), b.takeReady(), func(tx *bolt.Tx, boot string) error {
		var intents frames
		for _, n := range sortedKeys(open) {
			intents.add(&frame{intent: n, time: open[n].at, payload: open[n].payload}, n)
		}
		if err := intents.put(tx.Bucket(bucketIntents)); err != nil {
			return err
		}
		if err := putSums(tx, sums); err != nil {
			return err
		}
		return putState(tx, state, boot)
	})
	if err != nil {
		return err
	}
	b.rotateAt, b.rotateFrom, b.mustReplace = b.segmentSize(), 0, false
	b.segMu.Lock()
	defer b.segMu.Unlock()
	if n := len(b.segments); n > 0 {
		if last := b.segments[n-1]; last.first == first {
			// It has no entry that counts, and the rename has replaced its file.
			b.segments = b.segments[:n-1]
			last.dead = true
			b.strangers.gone(last)
			defer b.closeIdle(last)
		} else {
			b.seal(last, first-1, inDoubt)
			defer b.closeIdle(last)
		}
	}
	b.segments = append(b.segments, s)
	if n := len(b.segments) - keepFiles; n > 0 {
		b.segments[n-1].keep = false
		b.closeIdle(b.segments[n-1])
	}
	b.measureLocked()
	// The open intents that it begins with do not count, or with many of them each
	// commit would make a segment.
	b.rotateAt += s.size
	return nil
}

// seal makes the checksum of a file that nothing is appended to any more, while
// calls go on, and has it stored with one of the next commits. What the file has beyond
// its pages is given back, unless they are in doubt. The caller holds segMu.
func (b *Buffer) seal(s *segment, last uint64, inDoubt bool) {
	if s.sum != nil || s.dead {
		return
	}
	s.refs++
	size := s.size
	b.sealing.Go(func() {
		defer b.releaseSegment(s)
		s.mu.Lock()
		f, err := s.open()
		var got sum
		if err == nil {
			err = at("seal")
		}
		if err == nil && s.filled > 0 && !inDoubt {
			_ = f.Truncate(size) // else it keeps it
		}
		if err == nil {
			got, err = sumOf(f)
		}
		s.mu.Unlock()
		if err != nil {
			b.log().Warn("making the checksum of a sealed segment; it has none", "segment", s.path, "error", err)
			return
		}
		got.Last, got.Strangers, got.fresh = last, b.strangers.of(s), true
		b.segMu.Lock()
		s.sum = &got
		b.segMu.Unlock()
		b.mu.Lock()
		b.sums[s.first], b.dirty = got, true
		b.mu.Unlock()
	})
}

// loadSums reads the checksums that the newest segment holds of those before it. It
// is no matter if there are none.
func (b *Buffer) loadSums(segs []*segment) {
	newest := segs[len(segs)-1]
	info, err := newest.file.Stat()
	if err != nil {
		return
	}
	tree, err := pages.Open(newest.file, info.Size())
	if err != nil {
		return
	}
	_ = tree.Each(bucketSums, nil, func(k, v []byte) bool {
		for _, s := range segs {
			if len(k) == 8 && s.first == binary.BigEndian.Uint64(k) {
				s.sum = decodeSum(v)
			}
		}
		return true
	})
}

// sums are frames too, with the segment's last entry as their sequence, so that a
// flipped bit in one does not make a good file look harmed.
func (s sum) encode() []byte {
	p := binary.BigEndian.AppendUint64(nil, uint64(s.Size))
	p = binary.BigEndian.AppendUint32(p, s.CRC)
	p = binary.BigEndian.AppendUint64(p, uint64(s.Strangers))
	f := frame{flags: flagState | flagSum, sequence: s.Last, payload: p}
	return f.append(nil)
}

func decodeSum(b []byte) *sum {
	f, err := parseFrame(b)
	if err != nil || f.flags&flagSum == 0 || len(f.payload) != 20 {
		return nil
	}
	return &sum{
		Size: int64(binary.BigEndian.Uint64(f.payload)), CRC: binary.BigEndian.Uint32(f.payload[8:]),
		Strangers: int64(binary.BigEndian.Uint64(f.payload[12:])), Last: f.sequence,
	}
}

// unlinkDrained removes the oldest segments that every holding store is done
// with, by the positions that the newest segment holds. One that has lost entries
// is set aside instead: somebody may yet get something out of it.
//
// No lock is held meanwhile: an unlink can hang with the disk, and no call may wait
// for that.
func (b *Buffer) unlinkDrained() {
	for {
		s, harmed := b.takeDrained()
		if s == nil {
			break
		}
		err := at("unlink")
		switch {
		case err != nil:
		case harmed:
			err = os.Rename(s.path, s.path+setAside)
		default:
			err = os.Remove(s.path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if b.unlinking.failed() {
				b.log().Warn("removing drained segments; until it succeeds, they take room and are tried again", "segment", s.path, "error", err)
			}
			b.segMu.Lock()
			b.segments = slices.Insert(b.segments, 0, s)
			b.segMu.Unlock()
			break
		}
		if after, ends := b.unlinking.ended(); ends {
			b.log().Info("drained segments can be removed again", "segment", s.path, "after", after)
		}
		b.strangers.gone(s)
		b.segMu.Lock()
		s.dead = true
		b.closeIdle(s)
		b.segMu.Unlock()
	}
	b.measure()
}

// takeDrained takes the oldest segment away if no store needs it, or returns nil. A
// store that begins to hold does so before or after, not in between.
func (b *Buffer) takeDrained() (s *segment, harmed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	drained := b.head
	for name := range b.holding {
		drained = min(drained, b.committed[name].Position)
	}
	if len(b.holding) == 0 {
		drained = 0 // nobody has taken anything: the buffer is the only copy
	}
	b.segMu.Lock()
	defer b.segMu.Unlock()
	if len(b.segments) < 2 || b.segments[1].first > drained+1 {
		return nil, false
	}
	s = b.segments[0]
	b.segments = b.segments[1:]
	return s, s.lost
}

// setAside is what the name of a harmed file ends with once its stores are done
// with it. Nothing reads or removes it any more.
const setAside = ".damaged"

// active is the segment that the writer writes to.
func (b *Buffer) active() *segment {
	b.segMu.Lock()
	defer b.segMu.Unlock()
	return b.segments[len(b.segments)-1]
}

// measure brings the sizes up to date.
func (b *Buffer) measure() {
	b.segMu.Lock()
	defer b.segMu.Unlock()
	b.measureLocked()
}

func (b *Buffer) measureLocked() {
	if len(b.segments) == 0 {
		return
	}
	if active := b.segments[len(b.segments)-1]; active.db != nil {
		_ = guarded(func() error {
			return active.db.View(func(tx *bolt.Tx) error {
				active.size = tx.Size()
				return nil
			})
		})
	}
	sum := b.quarantine.size.Load()
	for _, s := range b.segments {
		sum += s.size
	}
	b.used.Store(sum)
}

// measureFree asks what the filesystem has left.
func (b *Buffer) measureFree() {
	free, total, err := space(b.dir)
	if err != nil {
		free, total = -1, 0
	}
	b.free.Store(free)
	b.total.Store(total)
}

func sortedKeys[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }
