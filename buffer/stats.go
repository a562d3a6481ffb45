package buffer

import "time"

// Stats is a consistent picture of the buffer.
type Stats struct {
	// Instance is the UUID that entries are recorded under now.
	Instance string
	// Head is the sequence of the newest durable entry, Oldest that of the
	// oldest one still in a segment; Oldest is Head+1 when there is none.
	Head, Oldest uint64
	// Open is the number of durable intents without an end.
	Open   int
	Calls  Calls
	Stores map[string]Position
	// Lag is how many bytes wait for each store, about, and MaxLag how many may until
	// it is detached; one without a bound is not in MaxLag.
	Lag, MaxLag map[string]int64
	Bytes       int64
	MaxBytes    int64
	Segments    int
	// QuarantineBytes is what of Bytes is quarantine's.
	QuarantineBytes int64
	// FreeBytes is what the filesystem has left, -1 if that is not known, and
	// MinFreeBytes what of it the buffer leaves to others.
	FreeBytes, MinFreeBytes int64
	// StrangersBytes is what callers that are not known use, of at most
	// StrangersMaxBytes.
	StrangersBytes, StrangersMaxBytes int64
	// Damaged is the number of entries that gaps tell of which this process has
	// recorded because they cannot be read.
	Damaged uint64
	// Failing is why the disk fails at this moment, or nil. Slow says that it has
	// kept somebody waiting for longer than MaxWait, and still does.
	Failing error
	Slow    bool
	// Passing says that calls pass unrecorded, and PassingSince since when. Ordered
	// is until when they may whatever OnFault says; zero if nobody has ordered it.
	Passing      bool
	PassingSince time.Time
	Ordered      time.Time
}

// Stats is cheap and may be called at any time, also after Close.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state.clone()
	n := b.excluded.Load()
	s.Calls.add(Calls{Seen: n, Excluded: n})
	s.Calls.add(b.inHand) // or a counter went back until its commit has ended
	st := Stats{
		Instance: s.instance(), Head: b.head, Oldest: b.head + 1, Open: len(b.open), Calls: s.Calls, Stores: s.Stores,
		Bytes: b.used.Load(), MaxBytes: b.maxSize.Load(), FreeBytes: b.free.Load(), MinFreeBytes: b.floor(),
		StrangersBytes: b.strangers.total(), StrangersMaxBytes: b.shareOfStrangers(),
		QuarantineBytes: b.quarantine.size.Load(), Damaged: b.damaged, Failing: b.failing, Slow: b.slow.Load(), Ordered: b.Ordered(),
	}
	if p := b.passing; p != nil {
		n := p.Count - p.counted // in no commit yet
		st.Calls.add(Calls{Seen: n, Passed: n})
		st.Passing, st.PassingSince = p.Count > 0, time.UnixMicro(p.Since)
	}
	st.Lag, st.MaxLag = map[string]int64{}, map[string]int64{}
	for store, bound := range b.holding {
		if p := st.Stores[store].Position; p < b.head {
			st.Lag[store] = b.lag(p)
		}
		if bound > 0 {
			st.MaxLag[store] = b.atLeastASegment(bound)
		}
	}
	b.segMu.Lock()
	defer b.segMu.Unlock()
	st.Segments = len(b.segments)
	if st.Segments > 0 {
		st.Oldest = b.segments[0].first
	}
	return st
}
