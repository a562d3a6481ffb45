package buffer

import (
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Read calls visit for each entry from the given sequence to the head, in
// order, until visit returns false. The payload is valid only during the call.
// Sequences below the oldest segment no longer exist; reading starts at the
// oldest that does.
func (b *Buffer) Read(from uint64, visit func(sequence uint64, payload []byte) bool) error {
	return b.read(from, func(f frame) bool { return visit(f.sequence, f.payload) })
}

func (b *Buffer) read(from uint64, visit func(frame) bool) error {
	from = max(from, 1)
	for {
		s, db, last, ok, err := b.acquire(from)
		if err != nil || !ok {
			return err
		}
		from = max(from, s.first)
		more, err := readSegment(db, from, last, visit)
		b.releaseSegment(s)
		if err != nil {
			return fmt.Errorf("reading segment %q: %w", s.path, err)
		}
		if !more {
			return nil
		}
		from = last + 1
	}
}

func readSegment(db *bolt.DB, from, last uint64, visit func(frame) bool) (more bool, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketEntries).Cursor()
		k, v := c.Seek(putKey(new([8]byte), from))
		for ; from <= last; from++ {
			if k == nil {
				return fmt.Errorf("entry %d is missing", from)
			}
			f, err := parseFrame(v)
			if err != nil {
				return fmt.Errorf("entry %d: %w", from, err)
			}
			if f.sequence != from {
				return fmt.Errorf("entry %d lies where entry %d should", f.sequence, from)
			}
			if !visit(f) {
				return nil
			}
			k, v = c.Next()
		}
		more = true
		return nil
	})
	return more, err
}

// acquire opens the segment that holds the sequence from, or the first one
// after it, and says which of its entries exist: up to last, the head or the
// entry before the next segment. It is not ok when there is nothing to read.
func (b *Buffer) acquire(from uint64) (s *segment, db *bolt.DB, last uint64, ok bool, err error) {
	// The head is read first: a segment that is begun meanwhile begins after
	// it.
	b.mu.Lock()
	last = b.head
	b.mu.Unlock()
	b.segMu.Lock()
	defer b.segMu.Unlock()
	if from > last || len(b.segments) == 0 {
		return nil, nil, 0, false, nil
	}
	i := len(b.segments) - 1
	for i > 0 && b.segments[i].first > from {
		i--
	}
	s = b.segments[i]
	if i+1 < len(b.segments) {
		last = min(last, b.segments[i+1].first-1)
	}
	if s.db == nil {
		if s.db, err = openForReading(s.path); err != nil {
			return nil, nil, 0, false, err
		}
	}
	s.refs++
	return s, s.db, last, true, nil
}

func (b *Buffer) releaseSegment(s *segment) {
	b.segMu.Lock()
	defer b.segMu.Unlock()
	s.refs--
	if s.dead {
		b.closeIdle(s)
		return
	}
	open := 0
	for _, o := range b.segments[:max(0, len(b.segments)-1)] {
		if o.db != nil {
			open++
		}
	}
	for _, o := range b.segments[:max(0, len(b.segments)-1)] {
		if open <= keepOpen {
			return
		}
		if o.db != nil && o.refs == 0 {
			b.closeIdle(o)
			open--
		}
	}
}

// closeIdle closes a segment that nobody reads. The caller holds segMu.
func (b *Buffer) closeIdle(s *segment) {
	if s.db == nil || s.refs > 0 {
		return
	}
	db := s.db
	s.db = nil
	if err := db.Close(); err != nil {
		b.log().Warn("closing a segment", "segment", s.path, "error", err)
	}
}

// Stats is a consistent picture of the buffer.
type Stats struct {
	Instance string
	// Head is the sequence of the newest durable entry, Oldest that of the
	// oldest one still in a segment; Oldest is Head+1 when there is none.
	Head, Oldest uint64
	// Open is the number of durable intents without an end.
	Open     int
	Calls    Calls
	Stores   map[string]Position
	Bytes    int64
	MaxBytes int64
	Segments int
	// Failing is why the disk fails at this moment, or nil.
	Failing error
}

// Stats is cheap and may be called at any time, also after Close.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state.clone()
	n := b.excluded.Load()
	s.Calls.add(Calls{Seen: n, Excluded: n})
	st := Stats{
		Instance: b.instance, Head: b.head, Oldest: 1, Open: len(b.open), Calls: s.Calls, Stores: s.Stores,
		Bytes: b.used.Load(), MaxBytes: b.maxSize.Load(), Failing: b.failing,
	}
	b.segMu.Lock()
	defer b.segMu.Unlock()
	st.Segments = len(b.segments)
	if st.Segments > 0 {
		st.Oldest = b.segments[0].first
	}
	return st
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
