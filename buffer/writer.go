package buffer

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// write is the writer: the one goroutine that changes files. It commits
// whatever was submitted while its last commit ran, so that the disk sets the
// size of a group and nobody waits for a clock.
func (b *Buffer) write() {
	defer close(b.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		flush := false
		select {
		case <-b.wake:
			// Those whom the last commit woke are about to submit again:
			// let them, or groups catch only half of the callers.
			runtime.Gosched()
		case <-tick.C:
			b.tellPending()
			flush = true
		case <-b.quit:
			b.mu.Lock()
			b.state.Clean, b.dirty = true, true
			b.mu.Unlock()
			b.commit(b.take(true))
			b.closed = b.release()
			return
		}
		b.commit(b.take(flush))
	}
}

// batch is a group on its way to the disk.
type batch struct {
	group     *group
	head      uint64 // sequence of its last entry
	calls     Calls  // what the group adds
	state     []byte // bucket s with the group
	positions map[string]Position
}

// take closes the gathering group and fixes what its commit will hold. It
// returns nil when there is nothing to commit; with flush, positions and
// counts alone are something.
func (b *Buffer) take(flush bool) *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.next.ops) == 0 && !(flush && (b.dirty || b.excluded.Load() > 0)) {
		return nil
	}
	t := &batch{group: b.next, head: b.head}
	b.next = newGroup()
	for i := range t.group.ops {
		o := &t.group.ops[i]
		if o.kind == opEntry {
			t.head++
			o.sequence = t.head
		}
		t.calls.add(o.calls)
	}
	n := b.excluded.Swap(0)
	t.calls.add(Calls{Seen: n, Excluded: n})

	s := b.state.clone()
	s.Calls.add(t.calls)
	s.NextIntent = b.nextIntent
	t.state, t.positions = s.encode(), s.Stores
	b.dirty = false
	return t
}

// commit makes a batch durable, however long the disk takes to let it, and
// answers its callers. A commit that failed may or may not be on the disk, and
// reading it back proves nothing (the page cache answers), so it is written
// again into a new segment, whose first sequence declares whatever the old one
// holds from there on void. Only Close ends the attempts.
func (b *Buffer) commit(t *batch) {
	if t == nil {
		return
	}
	b.busySince.Store(max(1, int64(time.Since(b.clock))))
	defer b.busySince.Store(0)
	for {
		if err := b.replace(); err != nil {
			t.group.err = fmt.Errorf("%w: %w", ErrClosed, err)
			close(t.group.done)
			return
		}
		start := time.Now()
		err := b.apply(t)
		if b.onCommit != nil {
			b.onCommit(Commit{Duration: time.Since(start), Err: err})
		}
		if err == nil {
			break
		}
		b.fails(err)
		b.mustReplace = true
	}
	b.publish(t)
	if b.slow.CompareAndSwap(true, false) {
		took := time.Since(b.clock) - time.Duration(b.busySince.Load())
		b.log().Info("the buffer's disk answers again", "directory", b.dir, "after", took.Round(time.Millisecond))
	}
	b.unlinkDrained()
	b.rotate()
}

// apply writes a batch into the active segment in one transaction.
func (b *Buffer) apply(t *batch) error {
	active := b.active()
	tx, err := active.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	e, in := tx.Bucket(bucketEntries), tx.Bucket(bucketIntents)
	e.FillPercent, in.FillPercent = 1, 1
	b.arena = b.arena[:0]
	var key [8]byte
	for i := range t.group.ops {
		o := &t.group.ops[i]
		f := frame{sequence: o.sequence, intent: o.intent, time: o.at, payload: o.payload}
		if o.completes {
			f.flags = flagCompletes
		}
		// The transaction keeps the value until it ends. When the arena grows
		// by moving, earlier values keep its old memory alive.
		at := len(b.arena)
		switch o.kind {
		case opIntent:
			b.arena = f.append(b.arena)
			err = in.Put(putKey(&key, o.intent), b.arena[at:len(b.arena):len(b.arena)])
		case opEntry:
			b.arena = f.append(b.arena)
			err = e.Put(putKey(&key, o.sequence), b.arena[at:len(b.arena):len(b.arena)])
		}
		if err != nil {
			return err
		}
	}
	if err := tx.Bucket(bucketState).Put(keyState, t.state); err != nil {
		return err
	}
	return tx.Commit()
}

// publish makes a durable batch visible and wakes its callers.
func (b *Buffer) publish(t *batch) {
	b.mu.Lock()
	b.state.Calls.add(t.calls)
	b.written, b.committed = t.state, t.positions
	for i := range t.group.ops {
		o := &t.group.ops[i]
		switch {
		case o.kind == opIntent:
			b.open[o.intent] = &openIntent{payload: o.payload, begun: time.UnixMicro(o.at)}
		case o.completes && o.intent != 0:
			delete(b.open, o.intent)
		}
	}
	if t.head != b.head {
		b.head = t.head
		close(b.headMoved)
		b.headMoved = make(chan struct{})
	}
	healed := b.failing != nil
	b.failing = nil
	b.mu.Unlock()
	close(t.group.done)
	if healed {
		b.log().Info("buffer's disk works again", "directory", b.dir, "after", time.Since(b.failedSince).Round(time.Millisecond))
	}
	b.measure()
}

// fails notes that the disk fails, and logs the first time.
func (b *Buffer) fails(err error) {
	b.mu.Lock()
	first := b.failing == nil
	b.failing = err
	b.mu.Unlock()
	if first {
		b.failedSince = time.Now()
		b.log().Error("buffer's disk fails; calls that need it are refused until it works",
			"directory", b.dir, "error", err)
	}
}

// replace begins a new segment if the active one must not be appended to,
// trying until it can. It fails only when the buffer is being closed.
func (b *Buffer) replace() error {
	for b.mustReplace {
		err := b.begin()
		if err == nil {
			break
		}
		b.fails(err)
		select {
		case <-b.quit:
			return err
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// rotate seals the active segment when it has its size. When the new one
// cannot be made, the old one goes on, and the next attempt is made after it
// has grown some more. When that is in doubt, the old one must not go on, and
// the next commit makes the new one first.
func (b *Buffer) rotate() {
	if b.active().size < b.rotateAt {
		return
	}
	switch err := b.begin(); {
	case errors.Is(err, errInDoubt):
		b.fails(err)
		b.mustReplace = true
	case err != nil:
		b.rotateAt += b.segmentSize() / 8
		b.log().Warn("beginning a new segment; the current one is used for longer", "directory", b.dir, "error", err)
	}
}

// begin makes a new active segment that holds the state as committed and all
// open intents.
func (b *Buffer) begin() error {
	b.mu.Lock()
	first := b.head + 1
	open := maps.Clone(b.open)
	b.mu.Unlock()
	s, err := createSegment(b.dir, first, b.segmentSize(), func(tx *bolt.Tx) error {
		i := tx.Bucket(bucketIntents)
		i.FillPercent = 1
		for _, n := range sortedKeys(open) {
			f := frame{intent: n, time: open[n].begun.UnixMicro(), payload: open[n].payload}
			if err := i.Put(putKey(new([8]byte), n), f.append(nil)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketState).Put(keyState, b.written)
	})
	if err != nil {
		return err
	}
	b.rotateAt, b.mustReplace = b.segmentSize(), false
	b.segMu.Lock()
	defer b.segMu.Unlock()
	if last := b.segments[len(b.segments)-1]; last.first == first {
		// It has no entry that counts, and the rename has replaced its file.
		b.segments = b.segments[:len(b.segments)-1]
		last.dead = true
		b.closeIdle(last)
	}
	b.segments = append(b.segments, s)
	b.measureLocked()
	return nil
}

// unlinkDrained removes the oldest segments that every holding store is done
// with, by the positions that the newest segment holds.
func (b *Buffer) unlinkDrained() {
	b.mu.Lock()
	drained := b.head
	for name := range b.holding {
		drained = min(drained, b.committed[name].Position)
	}
	if len(b.holding) == 0 {
		drained = 0 // nobody has taken anything: the buffer is the only copy
	}
	b.mu.Unlock()

	b.segMu.Lock()
	defer b.segMu.Unlock()
	for len(b.segments) > 1 && b.segments[1].first <= drained+1 {
		s := b.segments[0]
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			b.log().Warn("removing a drained segment; it is tried again", "segment", s.path, "error", err)
			return
		}
		s.dead = true
		b.segments = b.segments[1:]
		b.closeIdle(s)
	}
	b.measureLocked()
}

// tellPending appends an entry for each intent that has been open for long.
// They are made while nobody is kept from submitting.
func (b *Buffer) tellPending() {
	if b.pending == nil {
		return
	}
	now := time.Now()
	long := map[uint64][]byte{}
	b.mu.Lock()
	for n, o := range b.open {
		if !o.told && now.Sub(o.begun) >= b.pendAge {
			o.told = true
			long[n] = o.payload
		}
	}
	b.mu.Unlock()
	for _, n := range sortedKeys(long) {
		p := b.pending(long[n])
		b.mu.Lock()
		if p != nil && b.open[n] != nil && !b.ending {
			b.next.ops = append(b.next.ops, operation{kind: opEntry, intent: n, payload: p, at: now.UnixMicro()})
		}
		b.mu.Unlock()
	}
}

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
	active := b.segments[len(b.segments)-1]
	_ = active.db.View(func(tx *bolt.Tx) error {
		active.size = tx.Size()
		return nil
	})
	var sum int64
	for _, s := range b.segments {
		sum += s.size
	}
	b.used.Store(sum)
}

// size is what the buffer holds on disk, in bytes.
func (b *Buffer) size() int64 { return b.used.Load() }

func sortedKeys[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }
