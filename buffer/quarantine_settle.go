package buffer

import (
	"maps"
	"slices"
)

// maxResolved bounds the resolutions that the file does not show yet: each is in the
// state, which is written with every commit.
const maxResolved = 10_000

// counted is how many records of a store its position counts.
func (q *quarantine) counted(store string, p Position) (n uint64) {
	for sequence := range q.index[store] {
		if p.counts(sequence) && !q.b.state.Resolved.has(store, sequence) {
			n++
		}
	}
	return n
}

// counts reports whether an entry is one of those that the terms are about. Others are of
// a time before the store began anew.
func (p *Position) counts(sequence uint64) bool { return sequence > p.Start && sequence <= p.Position }

// resolve moves a store's terms, and tells of an entry that is dropped.
func (b *Buffer) resolve(store string, p *Position, sequence uint64, as Resolution, reason string) {
	if p.counts(sequence) {
		p.Quarantined--
		if as == ResolvedDropped {
			p.Skipped++
		} else {
			p.Delivered++
		}
	}
	if as == ResolvedDropped {
		b.tell(Gap{
			Reason: GapDropped, Store: store, First: sequence, Last: sequence, Count: 1, Cause: reason,
		})
	}
}

// tellLost tells of records that nobody can read. There may have been more, of which no
// counter knows.
func (b *Buffer) tellLost(g Gap) {
	g.Reason, g.Segment, g.AtLeast = GapDamaged, quarantineName, true
	b.damaged += g.Count
	b.tell(g)
}

// add notes a record of the file. The caller holds Buffer.mu.
func (q *quarantine) add(store string, sequence uint64, size uint32) {
	q.drop(store, sequence)
	q.index.put(store, sequence, size)
	q.live += footprint(int(size))
}

// drop forgets it.
func (q *quarantine) drop(store string, sequence uint64) {
	if size, ok := q.index[store][sequence]; ok {
		q.live -= footprint(int(size))
		q.index.drop(store, sequence)
	}
}

// stale are the records beyond their store's position that do not count. The caller
// holds Buffer.mu.
func (q *quarantine) stale() records[struct{}] {
	list := records[struct{}]{}
	for store, of := range q.pending {
		for _, sequence := range of {
			if !q.index.has(store, sequence) {
				list.put(store, sequence, struct{}{})
			}
		}
	}
	return list
}

// advanced settles the records that a store's position has come by, of which the caller
// has counted some as quarantined: those that were put last. Others are of an attempt
// before it, after which the entry was delivered or passed over in another way; they go.
// What was counted and is not there counts as damaged, with a gap. The caller holds
// Buffer.mu, and keeps p.
func (b *Buffer) advanced(store string, p *Position, counted uint64) {
	q := &b.quarantine
	if counted == 0 && len(q.pending[store]) == 0 {
		return
	}
	live, stale := q.take(store, 0, p.Position)
	for _, sequence := range live[:max(0, len(live)-int(counted))] {
		if b.state.Resolved.len() >= maxResolved {
			// The file's disk hangs. Nothing is lost by keeping it.
			if p.Delivered > 0 {
				p.Delivered--
				p.Quarantined++
			}
			continue
		}
		b.state.Resolved.put(store, sequence, ResolvedDelivered)
	}
	for _, sequence := range stale {
		if b.state.Resolved.len() < maxResolved {
			b.state.Resolved.put(store, sequence, ResolvedDelivered)
		}
	}
	if n := counted - min(counted, uint64(len(live))); n > 0 {
		p.Quarantined -= n
		p.Damaged += n
		b.tellLost(Gap{Store: store, Count: n})
	}
}

// saved is how many entries that a store comes by because nobody can read them are in
// quarantine all the same: they count as that. The caller holds Buffer.mu.
func (b *Buffer) saved(store string, to uint64) uint64 {
	q := &b.quarantine
	if len(q.pending[store]) == 0 {
		return 0
	}
	live, stale := q.take(store, 0, to)
	for _, sequence := range stale {
		b.state.Resolved.put(store, sequence, ResolvedDelivered)
	}
	return uint64(len(live))
}

// take takes pending records of a range out: those that count, in the order in which they
// were put, and those that do not.
func (q *quarantine) take(store string, from, to uint64) (live, stale []uint64) {
	q.pending[store] = slices.DeleteFunc(q.pending[store], func(sequence uint64) bool {
		switch {
		case sequence < from || sequence > to:
			return false
		case q.index.has(store, sequence):
			live = append(live, sequence)
		default:
			stale = append(stale, sequence)
		}
		return true
	})
	if len(q.pending[store]) == 0 {
		delete(q.pending, store)
	}
	return live, stale
}

// moved looks at a store's records anew after its position was set in another way than
// forward: those beyond it are tried again. The caller holds Buffer.mu.
func (b *Buffer) moved(store string) {
	q := &b.quarantine
	if len(q.index[store]) == 0 {
		return
	}
	p := b.state.Stores[store]
	there := map[uint64]bool{}
	for _, sequence := range q.pending[store] {
		there[sequence] = true
	}
	var back []uint64
	for _, sequence := range slices.Sorted(maps.Keys(q.index[store])) {
		if sequence > p.Position && !there[sequence] {
			back = append(back, sequence)
		}
	}
	if len(back) > 0 {
		q.pending[store] = append(back, q.pending[store]...)
	}
}

// published takes out what a commit has made certain: the state that is on the disk now
// does not count it, so that the file may lose it. The caller holds Buffer.mu.
func (q *quarantine) published(resolved records[Resolution]) {
	for store, of := range resolved {
		for sequence, as := range of {
			if b := q.b; b.state.Resolved.has(store, sequence) {
				q.drop(store, sequence)
				q.dead.put(store, sequence, as)
			}
		}
	}
	if len(q.dead) > 0 {
		signal(q.wake)
	}
}

// lose counts what could not be read when the file was written anew. The caller holds io.
func (q *quarantine) lose(lost records[uint32]) {
	if len(lost) == 0 {
		return
	}
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, store := range slices.Sorted(maps.Keys(lost)) {
		p, known := b.state.Stores[store]
		g := Gap{Store: store}
		for _, sequence := range slices.Sorted(maps.Keys(lost[store])) {
			resolved := b.state.Resolved.has(store, sequence)
			if !q.index.has(store, sequence) {
				continue
			}
			q.drop(store, sequence)
			switch {
			case resolved, known && sequence > p.Position: // counted when the store comes by
				continue
			case known && p.counts(sequence):
				p.Quarantined--
				p.Damaged++
			}
			g.note(sequence)
		}
		if known {
			b.state.Stores[store] = p
		}
		if g.Count > 0 {
			b.log().Error("quarantined entries cannot be read any more; a gap tells of them", "file", q.path(), "store", store, "entries", g.Count)
			b.tellLost(g)
		}
	}
	b.dirty = true
	signal(b.wake)
}

// note adds an entry to what a gap tells of; they come in order.
func (g *Gap) note(sequence uint64) {
	if g.Count == 0 {
		g.First = sequence
	}
	n := len(g.Ranges)
	switch {
	case n > 0 && g.Ranges[n-1][1]+1 == sequence && g.Last+1 == sequence:
		g.Ranges[n-1][1] = sequence
	case n < maxRanges:
		g.Ranges = append(g.Ranges, [2]uint64{sequence, sequence})
	}
	g.Count++
	g.Last = sequence
}
