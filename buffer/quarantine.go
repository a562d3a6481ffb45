package buffer

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of quarantine.
var (
	// ErrQuarantineFull says that quarantine has used up its share of MaxSize, an eighth,
	// or 2 MiB if that is more.
	ErrQuarantineFull = errors.New("quarantine has used up its share of the buffer: resolve what is in it, or give the buffer more room")
	// ErrNotQuarantined says that an entry is not in quarantine, or not any more, or that
	// the store's position has not come by it yet.
	ErrNotQuarantined = errors.New("the entry is not in quarantine")
)

// Quarantined is an entry that a store will never take, and why.
type Quarantined struct {
	// Store is the store's name, at most 255 bytes.
	Store    string
	Sequence uint64
	// Instance is the buffer that recorded the entry. Empty is what Buffer.Instance says.
	Instance string
	// At is when it was put into quarantine, to the microsecond. Zero is now.
	At time.Time
	// Reason is what the store says. One line of printable characters is kept of it, at
	// most 1 KiB.
	Reason string
	// Payload is the entry as it lies in the buffer.
	Payload []byte
}

// Quarantine keeps an entry that a store will never take, in a file of its own within
// MaxSize. It is on the disk when this returns nil. Doing it again replaces it.
//
// The caller then moves the store's position over the entry with Advance, which counts
// it as quarantined; until that is durable a start forgets the record again, since the
// store will be given the entry once more. Of what was put since the position was last
// moved, Advance keeps as many as it counts, those that were put last: what an earlier
// attempt had put and a later one has delivered is no longer in quarantine.
//
// It waits for the disk however long that takes, and nobody else does. It fails with
// ErrQuarantineFull when there is no room, and with the disk's error when that fails:
// then the entry may or may not be there at the next start, and the caller tries again.
func (b *Buffer) Quarantine(e Quarantined) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("putting entry %d into quarantine for store %q: %w", e.Sequence, e.Store, err)
		}
	}()
	switch {
	case len(e.Payload) > MaxPayload:
		return ErrTooLarge
	case !validStoreName(e.Store):
		return errors.New("the store's name is empty, too long, or no text")
	case e.Sequence == 0:
		return errors.New("no entry has that sequence")
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if e.Instance == "" {
		e.Instance = b.Instance(e.Sequence)
	}
	r := record{
		sequence: e.Sequence, at: e.At.UnixMicro(), payload: e.Payload,
		meta: recordMeta{Store: e.Store, Instance: e.Instance, Reason: printableReason(e.Reason)},
	}
	raw, err := r.encode()
	if err != nil {
		return err
	}
	q := &b.quarantine
	q.io.Lock()
	defer q.io.Unlock()
	if err := q.mayWrite(); err != nil {
		return err
	}
	if err := q.admit(e.Store, e.Sequence, len(raw)); err != nil {
		return err
	}
	q.serial++
	r.serial = q.serial
	if err := q.put(&r); err != nil {
		q.unsure(e.Store, e.Sequence)
		return err
	}
	// Who has lost the directory to another process acknowledges nothing.
	if err := b.owned(); err != nil {
		q.doubt(err)
		q.unsure(e.Store, e.Sequence)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q.note(e.Store, e.Sequence, uint32(len(raw)))
	return nil
}

// admit reports why a record must not be put.
func (q *quarantine) admit(store string, sequence uint64, size int) error {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	before, there := q.index[store][sequence]
	need := q.live + footprint(size)
	if there {
		need -= footprint(int(before))
	}
	switch {
	case sequence > b.head:
		return errors.New("there is no such entry yet")
	case sequence <= b.state.Stores[store].Position && (!there || b.state.Resolved.has(store, sequence)):
		return errors.New("the store is done with it: an entry is put into quarantine before the position moves")
	case need > q.bound():
		return ErrQuarantineFull
	}
	return nil
}

// unsure notes a record of which nobody knows whether it is on the disk. If the store comes
// by in another way, it is not in quarantine, and a start must not take it for that. The
// caller holds io.
func (q *quarantine) unsure(store string, sequence uint64) {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if sequence > b.state.Stores[store].Position && !slices.Contains(q.pending[store], sequence) {
		q.pending[store] = append(q.pending[store], sequence)
	}
}

// note notes a record that is on the disk. The caller holds io and Buffer.mu.
func (q *quarantine) note(store string, sequence uint64, size uint32) {
	b := q.b
	q.add(store, sequence, size)
	// It may have been here before the store began anew.
	q.dead.drop(store, sequence)
	b.state.Resolved.drop(store, sequence)
	if sequence > b.state.Stores[store].Position {
		q.take(store, sequence, sequence)
		q.pending[store] = append(q.pending[store], sequence)
	}
}

// Quarantined calls visit for each entry of a store in quarantine, from a sequence on and
// in their order, until it returns false; an empty store is all of every store. One that Advance has not counted yet is
// among them. The payload is valid only during the call.
//
// What comes or goes meanwhile may be missed or seen. Entries are read some at a time,
// and Quarantine waits for no more than that.
func (b *Buffer) Quarantined(store string, from uint64, visit func(Quarantined) bool) error {
	var key []byte
	if store != "" {
		key = recordKey(store, from)
	}
	for {
		list, next, err := b.quarantine.page(store, key)
		for i := range list {
			if !visit(list[i].quarantined()) {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("reading quarantine: %w", err)
		}
		if next == nil {
			return nil
		}
		key = next
	}
}

// Resolve takes an entry out of quarantine: it was delivered after all, or an operator
// gives it up, and says why. The store's terms move with it, from Quarantined to
// Delivered or Skipped; for one that is dropped the gap that says so is in the same
// commit. All that is durable when it returns nil.
//
// It fails with ErrNotQuarantined when the entry is not there, and with ErrSlow when the
// disk does not answer within MaxWait: then it is done when the disk does.
func (b *Buffer) Resolve(store string, sequence uint64, as Resolution, reason string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("taking entry %d of store %q out of quarantine: %w", sequence, store, err)
		}
	}()
	if as != ResolvedDelivered && as != ResolvedDropped {
		return errors.New("no such resolution")
	}
	g, err := b.submitResolution(store, sequence, as, printableReason(reason))
	if err != nil {
		return err
	}
	signal(b.full)
	signal(b.wake)
	return b.await(g)
}

// submitResolution hands a resolution to the writer. The commit that counts it also
// names it, until the keeper has taken the record out of the file: so a start knows
// whether it counts.
func (b *Buffer) submitResolution(store string, sequence uint64, as Resolution, reason string) (*group, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, known := b.state.Stores[store]
	switch {
	case b.ending:
		return nil, ErrClosed
	case !b.quarantine.index.has(store, sequence), b.state.Resolved.has(store, sequence), known && sequence > p.Position:
		return nil, ErrNotQuarantined
	case b.state.Resolved.len() >= maxResolved/2:
		return nil, fmt.Errorf("%w: what was resolved before is still in its file", ErrSlow)
	}
	b.resolve(store, &p, sequence, as, reason)
	if known {
		b.state.Stores[store] = p
	}
	b.state.Resolved.put(store, sequence, as)
	b.dirty = true
	return b.waitForCommit(), nil
}
