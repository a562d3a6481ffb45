package buffer

// Hold lets a store's position keep segments from being removed. A store that
// the buffer does not know begins at the oldest entry that is still there. One
// that it knows goes on where it was; entries that were removed meanwhile
// are counted as skipped, and a gap says so.
func (b *Buffer) Hold(store string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.head
	b.segMu.Lock()
	if len(b.segments) > 0 {
		before = b.segments[0].first - 1
	}
	b.segMu.Unlock()
	p, known := b.state.Stores[store]
	switch {
	case !known:
		p = Position{Start: before, Position: before}
	case p.Position < before:
		n := before - p.Position
		b.tell(Gap{Reason: GapSkipped, Store: store, First: p.Position + 1, Last: before, Count: n})
		p.Skipped += n
		p.Position = before
	}
	b.holding[store] = true
	b.state.Stores[store] = p
	b.dirty = true
}

// Unhold lets the buffer remove what the store has not taken yet. Its position
// stays.
func (b *Buffer) Unhold(store string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.holding, store)
}

// Position is the sequence of the last entry that the store is done with.
func (b *Buffer) Position(store string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.Stores[store].Position
}

// Advance moves a store's position forward and adds to its terms, in one step.
// It is durable with one of the next commits; a position that is lost at a
// crash repeats a batch, and its terms go back with it.
func (b *Buffer) Advance(store string, to uint64, delivered, filtered, quarantined uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.state.Stores[store]
	p.Position = max(p.Position, to)
	p.Delivered += delivered
	p.Filtered += filtered
	p.Quarantined += quarantined
	b.state.Stores[store] = p
	b.dirty = true
}

// Damaged moves a store's position over entries that nobody can read, up to to. It
// is Advance for them.
func (b *Buffer) Damaged(store string, to uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.state.Stores[store]
	if to <= p.Position {
		return
	}
	p.Damaged += to - p.Position
	p.Position = to
	b.state.Stores[store] = p
	b.dirty = true
}
