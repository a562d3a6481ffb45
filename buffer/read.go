package buffer

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddy-audit-log/caddy-audit-log/buffer/internal/pages"
)

// errHarmed says that a file does not hold what was written to it.
var errHarmed = errors.New("the file is harmed")

// DamagedError says that entries cannot be read, and never will be. The buffer
// has recorded a gap for them, or does so with its next commit.
type DamagedError struct {
	// First and Last are the sequences of the range.
	First, Last uint64
	// Segment is the harmed file.
	Segment string
}

// Error implements error.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("entries %d to %d cannot be read: %q is harmed", e.First, e.Last, e.Segment)
}

// Damaged is the range of sequences, for those who do not know this package.
func (e *DamagedError) Damaged() (first, last uint64) { return e.First, e.Last }

// Read calls visit for each entry from the given sequence to the head, in
// order, until visit returns false. The payload is valid only during the call.
// Sequences below the oldest segment no longer exist; reading starts at the
// oldest that does.
//
// It ends before an entry that is damaged. The error is a *DamagedError when that
// one is the first; read on behind it.
func (b *Buffer) Read(from uint64, visit func(sequence uint64, payload []byte) bool) error {
	return b.read(from, func(f frame) bool { return visit(f.sequence, f.payload) })
}

// ReadPast is Read that goes on behind what is damaged.
func (b *Buffer) ReadPast(from uint64, visit func(sequence uint64, payload []byte) bool, damaged func(*DamagedError)) error {
	for {
		next, stopped := from, false
		err := b.Read(from, func(sequence uint64, payload []byte) bool {
			next, stopped = sequence+1, !visit(sequence, payload)
			return !stopped
		})
		var harm *DamagedError
		switch {
		case errors.As(err, &harm):
			damaged(harm)
			next = harm.Last + 1
		case err != nil:
			return err
		case stopped || next == from:
			return nil
		}
		from = next
	}
}

func (b *Buffer) read(from uint64, visit func(frame) bool) error {
	from = max(from, 1)
	for visited := false; ; visited = true {
		s, db, last, ok := b.acquire(from)
		if !ok {
			return nil
		}
		from = max(from, s.first)
		var err error
		next := from
		stopped := false
		one := func(f frame) bool {
			next, stopped = f.sequence+1, !visit(f)
			return !stopped
		}
		if db != nil {
			if err = readActive(db, from, last, one); err != nil {
				// The writer seals it, and then it is read as any harmed file is.
				b.suspect.Store(true)
				b.mu.Lock()
				b.dirty = true
				b.mu.Unlock()
				signal(b.wake)
				err = fmt.Errorf("reading segment %q: %w", s.path, err)
			}
		} else {
			err = b.readSealed(s, from, last, one)
		}
		b.releaseSegment(s)
		switch {
		case stopped, err != nil && (visited || next > from):
			return nil // what stopped the reading is met again as the first
		case err != nil:
			return err
		}
		from = last + 1
	}
}

// stretch is a range of entries, read in their order.
type stretch struct {
	next, last uint64
	from       uint64 // where it began
	visit      func(frame) bool
	stopped    bool // by visit
}

// take visits what a value has of the range. After an error the entry that comes next is not
// where it should be; errStop says that no more is wanted.
func (s *stretch) take(value []byte) error {
	return eachFrame(value, func(f frame) error {
		switch {
		case f.sequence < s.from: // a run begins before it
			return nil
		case s.next > s.last:
			return errStop
		case f.sequence != s.next:
			return fmt.Errorf("%w: entry %d lies in the place of entry %d", errHarmed, f.sequence, s.next)
		case f.flags&flagLost != 0:
			return fmt.Errorf("%w: entry %d was lost before it was repaired", errHarmed, s.next)
		}
		s.next++
		if s.stopped = !s.visit(f); s.stopped {
			return errStop
		}
		return nil
	})
}

func readActive(db *bolt.DB, from, last uint64, visit func(frame) bool) error {
	return guarded(func() error {
		return db.View(func(tx *bolt.Tx) error {
			e := tx.Bucket(bucketEntries)
			c := e.Cursor()
			s := stretch{next: from, last: last, from: from, visit: visit}
			for k, v := c.Seek(putKey(new([8]byte), from)); s.next <= last && !s.stopped; k, v = c.Next() {
				if k == nil {
					return fmt.Errorf("reading entry %d: it is missing", s.next)
				}
				if v == nil {
					v = e.Bucket(k).Get(k)
				}
				if err := s.take(v); err != nil && !errors.Is(err, errStop) {
					return fmt.Errorf("reading entry %d: %w", s.next, err)
				}
			}
			return nil
		})
	})
}

// view is how a sealed segment is read: by its pages, or where these are harmed,
// by an index of the frames that a scan of the file has found.
type view struct {
	file *os.File
	tree *pages.File
	// index is what was found of a harmed file, by sequence; nil while it looks
	// unharmed.
	index []place
	// buf is the frame in hand of a harmed file.
	buf []byte
}

// place is where a frame lies.
type place struct {
	sequence uint64
	offset   int64
}

// readSealed reads a segment that nobody writes to.
func (b *Buffer) readSealed(s *segment, from, last uint64, visit func(frame) bool) error {
	// One reader at a time: it is the disk that is waited for.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		if err := b.look(s, last); err != nil {
			return err
		}
	}
	if s.view.index == nil {
		next, stopped, err := s.view.walk(from, last, visit)
		if err == nil || stopped {
			s.unreadable = time.Time{} // the next time it has its patience again
			return nil
		}
		if err := b.harmed(s, last, err); err != nil {
			return err
		}
		from = next
	}
	return s.view.find(s.path, from, last, visit)
}

// look decides how a segment is read. A file that its checksum belies is scanned
// at once, whatever its pages look like.
func (b *Buffer) look(s *segment, last uint64) error {
	b.segMu.Lock()
	want := s.sum
	b.segMu.Unlock()
	v := new(view)
	f, err := s.open()
	if err == nil {
		v.file = f
		err = v.check(want)
	}
	s.view = v
	if err != nil {
		err = b.harmed(s, last, err)
	}
	if err != nil {
		s.view = nil
	}
	return err
}

// check reads a file once from end to end, which also brings it into memory in
// large steps, and opens its tree.
func (v *view) check(want *sum) error {
	info, err := v.file.Stat()
	if err != nil {
		return err
	}
	readAhead(v.file)
	if want != nil && !want.fresh {
		got, err := sumOf(v.file)
		if err != nil {
			return err
		}
		if got.Size != want.Size || got.CRC != want.CRC {
			return fmt.Errorf("%w: its checksum is %08x over %d bytes, and was %08x over %d when it was sealed", errHarmed, got.CRC, got.Size, want.CRC, want.Size)
		}
	}
	v.tree, err = pages.Open(v.file, info.Size())
	return err
}

// walk reads by the tree. It returns the sequence that comes next, and an error if
// that one is not where it should be.
//
// Where the newest tree fails, the one before it goes on: what the file is asked for was
// there before its last commit, if that did not get to the disk whole.
func (v *view) walk(from, last uint64, visit func(frame) bool) (next uint64, stopped bool, err error) {
	next, stopped, err = v.walkTree(from, last, visit)
	if err == nil || stopped || outOfOrder(err) {
		return next, stopped, err
	}
	newest := v.tree
	if v.tree = v.tree.Previous(); v.tree == nil {
		v.tree = newest
		return next, stopped, err
	}
	var failed error
	if next, stopped, failed = v.walkTree(next, last, visit); failed != nil {
		v.tree = newest
		return next, stopped, err
	}
	return next, stopped, nil
}

func (v *view) walkTree(from, last uint64, visit func(frame) bool) (next uint64, stopped bool, err error) {
	s := stretch{next: from, last: last, from: from, visit: visit}
	var bad error
	err = v.tree.Each(bucketEntries, putKey(new([8]byte), from), func(_, value []byte) bool {
		bad = s.take(value)
		return bad == nil && s.next <= last
	})
	if s.next > last || s.stopped {
		return s.next, s.stopped, nil
	}
	return s.next, false, errors.Join(bad, err, fmt.Errorf("%w: entry %d is not in its tree", errHarmed, s.next))
}

// find reads by the index.
func (v *view) find(path string, from, last uint64, visit func(frame) bool) error {
	i := sort.Search(len(v.index), func(i int) bool { return v.index[i].sequence >= from })
	for next := from; next <= last; next, i = next+1, i+1 {
		if i < len(v.index) && v.index[i].sequence == next {
			f, err := v.frame(v.index[i])
			if err == nil && f.sequence == next {
				if !visit(f) {
					return nil
				}
				continue
			}
			return fmt.Errorf("reading entry %d of segment %q: %w: it could be read a moment ago", next, path, errors.Join(err, errHarmed))
		}
		end := last
		if i < len(v.index) {
			end = min(last, v.index[i].sequence-1)
		}
		return &DamagedError{First: next, Last: end, Segment: path}
	}
	return nil
}

func (v *view) frame(p place) (frame, error) {
	if cap(v.buf) < frameHeader+MaxPayload {
		v.buf = make([]byte, frameHeader+MaxPayload)
	}
	head := v.buf[:frameHeader]
	if _, err := v.file.ReadAt(head, p.offset); err != nil {
		return frame{}, err
	}
	n, ok := frameSize(head)
	if !ok {
		return frame{}, errFrame
	}
	whole := v.buf[:n]
	if _, err := v.file.ReadAt(whole, p.offset); err != nil {
		return frame{}, err
	}
	return parseFrame(whole)
}

// sum is the checksum of a sealed file, whole.
type sum struct {
	// Size is the file's length in bytes and CRC its CRC-32C.
	Size int64  `json:"size"`
	CRC  uint32 `json:"crc"`
	// Last is the sequence of its last entry.
	Last uint64 `json:"last"`
	// Strangers is what callers that were not known have in it, in bytes.
	Strangers int64 `json:"strangers,omitempty"`
	// fresh says that this process has made it, from what it has written.
	fresh bool
}

func sumOf(f *os.File) (sum, error) {
	h := crc32.New(crcTable)
	n, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62))
	return sum{Size: n, CRC: h.Sum32()}, err
}

// acquire returns the segment that holds the sequence from, or the first one
// after it, and says which of its entries exist: up to last, the head or the
// entry before the next segment. The database is that of the active segment, and
// nil for a sealed one. It is not ok when there is nothing to read.
func (b *Buffer) acquire(from uint64) (s *segment, db *bolt.DB, last uint64, ok bool) {
	// The head is read first: a segment that is begun meanwhile begins after
	// it.
	b.mu.Lock()
	last = b.head
	b.mu.Unlock()
	b.segMu.Lock()
	defer b.segMu.Unlock()
	if from > last || len(b.segments) == 0 {
		return nil, nil, 0, false
	}
	i := len(b.segments) - 1
	for i > 0 && b.segments[i].first > from {
		i--
	}
	s = b.segments[i]
	if i+1 < len(b.segments) {
		last = min(last, b.segments[i+1].first-1)
	} else {
		db = s.db
	}
	s.refs++
	return s, db, last, true
}

func (b *Buffer) releaseSegment(s *segment) {
	b.segMu.Lock()
	defer b.segMu.Unlock()
	s.refs--
	b.closeIdle(s)
}

// closeIdle closes what nobody reads: all of a segment that is gone, the database
// of one that is sealed, the file of one that is not kept open. The caller holds
// segMu.
func (b *Buffer) closeIdle(s *segment) {
	if s.refs > 0 || len(b.segments) > 0 && s == b.segments[len(b.segments)-1] {
		return
	}
	if s.dead || !s.keep {
		s.close()
		return
	}
	if db := s.db; db != nil {
		s.db = nil
		go func() { _ = db.Close() }()
	}
}

// AppendedAt is when the entry with that sequence came to the buffer. It is
// not ok when the buffer does not hold the entry.
func (b *Buffer) AppendedAt(sequence uint64) (t time.Time, ok bool) {
	_ = b.read(sequence, func(f frame) bool {
		if f.sequence == sequence {
			t, ok = time.UnixMicro(f.time), true
		}
		return false
	})
	return t, ok
}
