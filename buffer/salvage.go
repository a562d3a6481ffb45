package buffer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer/internal/pages"
)

const (
	// harmAfter is how long a file's reads may fail before what they want counts
	// as damaged: the disk may come back, a lost entry does not.
	harmAfter = time.Minute
	// maxRanges bounds the ranges that a gap lists.
	maxRanges = 100
)

// frameSize is the length of the frame that begins with b, if one can.
func frameSize(b []byte) (int, bool) {
	if len(b) < frameHeader || binary.BigEndian.Uint32(b) != frameMagic {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	return int(n), n >= frameHeader && n <= frameHeader+MaxPayload
}

// scan finds every whole frame of a file, wherever it lies and whatever became of
// the pages around it.
//
// A payload cannot pass for a frame: ours are JSON, in which a zero byte never
// stands as it is, and a frame's length begins with one.
func scan(f *os.File, visit func(offset int64, f frame)) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := at("salvage"); err != nil {
		return err
	}
	readAhead(f)
	return pages.Scan(f, info.Size(), magic, frameHeader+MaxPayload, func(offset int64, b []byte) int {
		n, ok := frameSize(b)
		if !ok || n > len(b) {
			return len(magic)
		}
		fr, err := parseFrame(b[:n])
		if err != nil {
			return len(magic)
		}
		visit(offset, fr)
		return n
	})
}

// scanEntries finds the entries of a range.
func scanEntries(f *os.File, first, last uint64) (index []place, err error) {
	index = []place{}
	err = scan(f, func(offset int64, f frame) {
		if !f.isState() && !f.isIntent() && f.flags&flagLost == 0 && f.sequence >= first && f.sequence <= last {
			index = append(index, place{f.sequence, offset})
		}
	})
	return sortPlaces(index), err
}

// sortPlaces orders places by sequence, one each: pages that were written again
// hold the same frame.
func sortPlaces(index []place) []place {
	slices.SortStableFunc(index, func(a, b place) int { return cmp.Compare(a.sequence, b.sequence) })
	return slices.CompactFunc(index, func(a, b place) bool { return a.sequence == b.sequence })
}

// harm is what cannot be read of a segment.
type harm struct {
	count  uint64
	ranges [][2]uint64 // the first maxRanges
}

// missing is what an index lacks of a range.
func missing(index []place, first, last uint64) (h harm) {
	next := first
	lack := func(to uint64) { // [next, to)
		if to > next {
			h.count += to - next
			if len(h.ranges) < maxRanges {
				h.ranges = append(h.ranges, [2]uint64{next, to - 1})
			}
		}
	}
	for _, p := range index {
		if p.sequence < first || p.sequence > last {
			continue
		}
		lack(p.sequence)
		next = p.sequence + 1
	}
	lack(last + 1)
	return h
}

// harmed turns to reading a segment by what a scan of its file finds, and records
// a gap for what is missing. While the disk may only be out of order for a moment
// it does neither and returns why. The caller holds the segment's mu.
func (b *Buffer) harmed(s *segment, last uint64, why error) error {
	v := s.view
	if outOfOrder(why) && !b.patience(s) {
		return fmt.Errorf("reading segment %q: %w", s.path, why)
	}
	index := []place{}
	if v.file != nil {
		var err error
		if index, err = scanEntries(v.file, s.first, last); err != nil {
			return fmt.Errorf("salvaging segment %q: %w", s.path, err)
		}
	}
	v.index = index
	b.log().Error("a segment is harmed; what can be read of it is delivered, and a gap tells of the rest",
		"segment", s.path, "entries", last+1-s.first, "lost", missing(index, s.first, last).count, "error", why)
	b.tellHarm(s, last, index, false)
	return nil
}

// outOfOrder reports whether an error is the disk's and not the content's.
func outOfOrder(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist)
}

// patience reports whether a segment could not be read for long enough.
func (b *Buffer) patience(s *segment) bool {
	if s.unreadable.IsZero() {
		s.unreadable = time.Now()
	}
	return time.Since(s.unreadable) >= harmAfter
}

// tellHarm records a gap for what some store has not taken and no gap tells of yet,
// with the note that it does.
func (b *Buffer) tellHarm(s *segment, last uint64, index []place, atLeast bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := missing(index, s.first, last).count
	wanted := missing(index, min(max(s.first, b.state.taken()+1), last+1), last)
	b.segMu.Lock()
	s.lost = wanted.count > 0 || s.lost
	b.segMu.Unlock()
	// What is missing since the last time, as far as a store wants it.
	fresh := min(wanted.count, all-min(all, b.state.Harmed[s.first]))
	if fresh == 0 && !atLeast {
		return
	}
	if b.state.Harmed == nil {
		b.state.Harmed = map[uint64]uint64{}
	}
	b.state.Harmed[s.first] = max(all, b.state.Harmed[s.first])
	b.damaged += fresh
	b.tell(Gap{
		Reason: GapDamaged, Segment: s.name(), First: s.first, Last: last,
		Count: fresh, AtLeast: atLeast, Ranges: wanted.ranges,
	})
}

// tell appends the entry of a gap with the next commit. The caller holds mu.
func (b *Buffer) tell(g Gap) {
	b.dirty = true
	// Also while the buffer is being closed: the last commit counts what the gap tells
	// of, so it must hold the gap.
	if b.gap == nil {
		return
	}
	if p := b.gap(g); p != nil {
		b.next.ops = append(b.next.ops, operation{kind: opEntry, payload: p, at: time.Now().UnixMicro()})
	}
}
