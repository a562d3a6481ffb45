package buffer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// From is where a store begins that the buffer does not know, or whose destination has
// changed.
type From int

const (
	// FromUnsaid is FromOldest for a store that the buffer does not know. A changed
	// destination needs one of the others.
	FromUnsaid From = iota
	// FromOldest begins at the oldest entry that is still there.
	FromOldest
	// FromNow begins with what is recorded next.
	FromNow
)

// Attachment is how a store is attached to the buffer.
type Attachment struct {
	// Destination says where the store's entries go. A position counts for one
	// destination: what another one has is not known by it.
	Destination string
	// From is where a new store begins, or one with a new destination.
	From From
	// MaxLag is how many bytes of entries may wait for the store. When there are more
	// it is detached: what waits is given up for it, and a gap tells what it does not
	// get. Zero is no bound: the store holds what it has not taken whatever happens,
	// and calls are refused when the buffer is full of it. A bound below a segment's size
	// counts as that.
	MaxLag int64
}

// Attach lets a store's position keep segments from being removed. A store that
// the buffer does not know begins where From says. One that it knows goes on where it
// was; entries that were removed meanwhile are counted as skipped, and a gap says so.
//
// A store that goes back to the destination that it had last goes on where it was there.
//
// It fails when the destination is a new one and From does not say where
// to begin, and when entries of the one before are still in quarantine. The store then
// holds what it held, and must not be delivered to.
func (b *Buffer) Attach(store string, a Attachment) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.state.Stores[store]
	changed := known && p.Destination != "" && a.Destination != "" && p.Destination != a.Destination
	former := b.state.Former[store]
	back := changed && former.Destination == a.Destination
	var err error
	switch {
	case changed && p.Quarantined > 0:
		err = fmt.Errorf("attaching store %q: it goes to %s now, and %d entries for %s are in quarantine: drop them, go back to %s to retry them, or give the store another name",
			store, a.Destination, p.Quarantined, p.Destination, p.Destination)
	case changed && !back && a.From == FromUnsaid:
		err = fmt.Errorf("attaching store %q: its position is that of %s, and now it goes to %s: say \"from oldest\" or \"from now\" in its options, or give it another name",
			store, p.Destination, a.Destination)
	case changed:
		b.log().Warn("a store has another destination", "store", store, "destination", a.Destination, "before", p.Destination, "goes_back", back)
		if b.state.Former == nil {
			b.state.Former = map[string]Position{}
		}
		b.state.Former[store] = p
		if back {
			b.state.Stores[store] = former
			b.moved(store)
		}
	}
	if err != nil {
		a.Destination = p.Destination
	}
	b.hold(store, a, !known || changed && !back && err == nil)
	return err
}

// Hold is Attach whatever the destination. The bound stays what it is; a store that was
// not attached, or removed, has none.
func (b *Buffer) Hold(store string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.state.Stores[store]
	a := Attachment{Destination: p.Destination}
	if p.Until == 0 {
		a.MaxLag = b.holding[store]
	}
	b.hold(store, a, !known)
}

// hold attaches a store, at a new position if it is fresh. The caller holds mu.
func (b *Buffer) hold(store string, a Attachment, fresh bool) {
	before := b.head
	b.segMu.Lock()
	if len(b.segments) > 0 {
		before = b.segments[0].first - 1
	}
	b.segMu.Unlock()
	p := b.state.Stores[store]
	switch {
	case fresh && a.From == FromNow:
		if known := p.Destination != ""; known && p.Position < b.head {
			// It goes to neither destination. It counts at the one before, if that comes back.
			b.tell(Gap{Reason: GapSkipped, Cause: "destination", Store: store, First: p.Position + 1, Last: b.head, Count: b.head - p.Position})
		}
		p = Position{Start: b.head, Position: b.head}
	case fresh:
		p = Position{Start: before, Position: before}
	case p.Position < before:
		b.skip(&p, before, Gap{Reason: GapSkipped, Store: store})
	}
	p.Until = 0
	if a.Destination != "" {
		p.Destination = a.Destination
	}
	b.holding[store] = a.MaxLag
	b.state.Stores[store] = p
	if fresh {
		b.moved(store)
	}
	b.dirty = true
}

// MaxNote bounds a note, in bytes.
const MaxNote = 1024

// Note is what SetNote kept last for a store at its destination, nil if nothing.
func (b *Buffer) Note(store string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.state.Stores[store].Note)
}

// SetNote keeps a JSON value of up to MaxNote bytes beside a store's position: something
// that the store decides and has to find again after a crash. It is durable when this
// returns nil. It fails with ErrSlow when the disk does not answer within MaxWait: then
// it is kept when the disk does.
func (b *Buffer) SetNote(store string, note []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeping a note of store %q: %w", store, err)
		}
	}()
	if len(note) > MaxNote || !json.Valid(note) {
		return fmt.Errorf("it is no JSON value of up to %d bytes", MaxNote)
	}
	g, err := b.submitNote(store, bytes.Clone(note))
	if err != nil {
		return err
	}
	signal(b.full)
	signal(b.wake)
	return b.await(g)
}

func (b *Buffer) submitNote(store string, note []byte) (*group, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.state.Stores[store]
	switch {
	case b.ending:
		return nil, ErrClosed
	case !known:
		return nil, errors.New("the buffer does not know the store")
	}
	p.Note = note
	b.state.Stores[store] = p
	b.dirty = true
	return b.waitForCommit(), nil
}

// skip moves a position over entries that its store does not get, and tells of them.
// The caller holds mu.
func (b *Buffer) skip(p *Position, to uint64, g Gap) {
	g.First, g.Last, g.Count = p.Position+1, to, to-p.Position
	b.tell(g)
	p.Skipped += g.Count
	p.Position = to
	b.advanced(g.Store, p, 0)
}

// removedShare is the part of MaxSize that may wait for a store that was removed from
// the configuration.
const removedShare = 5

// Remove says that a store is no longer configured. Until a time, its entries are still
// kept for it, in case that it comes back, as far as they take a fifth of MaxSize. Then
// its position is forgotten, so that it would begin anew, once nothing of it is in
// quarantine.
func (b *Buffer) Remove(store string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.state.Stores[store]
	if !known {
		return
	}
	p.Until = until.UnixMicro()
	b.state.Stores[store] = p
	b.holding[store] = b.maxSize.Load() / removedShare
	b.dirty = true
}

// forgetRemoved forgets stores that were removed long enough ago.
func (b *Buffer) forgetRemoved() {
	now := time.Now().UnixMicro()
	b.mu.Lock()
	defer b.mu.Unlock()
	for store, p := range b.state.Stores {
		if p.Until == 0 || now < p.Until {
			continue
		}
		if _, held := b.holding[store]; held {
			delete(b.holding, store)
			b.log().Warn("a store that is no longer configured has not come back; what it has not taken is no longer kept for it",
				"store", store, "position", p.Position, "head", b.head)
		}
		if p.Quarantined == 0 {
			delete(b.state.Stores, store)
			delete(b.state.Former, store)
			b.dirty = true
		}
	}
}

// detachLagging gives up what is held for stores beyond their bound.
func (b *Buffer) detachLagging() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for store, bound := range b.holding {
		p := b.state.Stores[store]
		lag := b.lag(p.Position)
		if bound == 0 || lag <= b.atLeastASegment(bound) || p.Position >= b.head {
			continue
		}
		b.log().Error("a store is detached: more waits for it than it may hold; a gap tells what it does not get",
			"store", store, "bytes", lag, "bound", b.atLeastASegment(bound), "first", p.Position+1, "last", b.head)
		if p.MissingSince == 0 {
			p.MissingSince = p.Position + 1
		}
		b.skip(&p, b.head, Gap{Reason: GapDetached, Store: store, MissingSince: p.MissingSince})
		b.state.Stores[store] = p
		b.dirty = true
	}
}

// atLeastASegment is what a bound counts as: less gives no space back, and the gap that
// tells of it waits too.
func (b *Buffer) atLeastASegment(bound int64) int64 { return max(bound, b.segmentSize()) }

// lag is how many bytes wait behind a position, about: of a segment that is partly
// taken, the part of its entries that is not. The caller holds mu.
func (b *Buffer) lag(position uint64) (n int64) {
	b.segMu.Lock()
	defer b.segMu.Unlock()
	for i, s := range b.segments {
		last := b.head
		if i+1 < len(b.segments) {
			last = b.segments[i+1].first - 1
		}
		switch {
		case last <= position:
		case s.first > position:
			n += s.size
		default:
			n += int64(float64(s.size) * float64(last-position) / float64(last+1-s.first))
		}
	}
	return n
}

// Position is the sequence of the last entry that the store is done with.
func (b *Buffer) Position(store string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.Stores[store].Position
}

// Advance moves a store's position forward and adds to its terms, in one step.
// It is durable with one of the next commits; a position that is lost at a
// crash repeats a batch, and its terms go back with it. What it counts as quarantined
// was put there by Quarantine before. It reports false, and counts
// nothing, when the position is there already or beyond, since the store was detached.
func (b *Buffer) Advance(store string, to uint64, delivered, filtered, quarantined uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.state.Stores[store]
	if to <= p.Position {
		return false
	}
	p.Position = to
	p.Delivered += delivered
	p.Filtered += filtered
	p.Quarantined += quarantined
	p.MissingSince = 0
	b.advanced(store, &p, quarantined)
	b.state.Stores[store] = p
	b.dirty = true
	return true
}

// Damaged moves a store's position over entries that nobody can read, up to to. It
// is Advance for them. Those that are in quarantine count as that.
func (b *Buffer) Damaged(store string, to uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.state.Stores[store]
	if to <= p.Position {
		return
	}
	saved := b.saved(store, to)
	p.Quarantined += saved
	p.Damaged += to - p.Position - saved
	p.Position = to
	b.state.Stores[store] = p
	b.dirty = true
}
