package buffer

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

const (
	// strangersShare is the part of MaxSize that callers who are not known share:
	// one in so many bytes; networkShare is the part of it that one network may
	// use. A flood from outside fills that and nothing else. A small buffer gives
	// them no less than the least that is good for anything.
	strangersShare, leastShare   = 10, 4 << 20
	networkShare, leastOfNetwork = 10, 1 << 20
	// maxNetworks bounds the networks that are told apart; those beyond share one
	// quota.
	maxNetworks = 4096
)

// Caller is who makes a call, as far as the buffer's room is concerned.
type Caller struct {
	// Known says that somebody has proven who it is, or that the API has accepted
	// it lately. All others share a tenth of the buffer.
	Known bool
	// Network is where one that is not known calls from. Each network may use a
	// tenth of what they share.
	Network netip.Prefix
}

// Admit decides whether a call may be let through, before anything of it
// happens. It reserves room for the call's end, in bytes, so that the end
// can be recorded however full the buffer is by then.
//
// When the buffer is full, failing or slow, OnFault decides: Reject fails with
// ErrFull, ErrFailing or ErrSlow; Pass returns a call of which nothing will be
// recorded, see Call.Passed. ErrShare is for callers that are not known, under
// either: room that somebody has used up on purpose must not hide what comes next.
// After an error the call counts as refused and must not have its effect.
func (b *Buffer) Admit(reserve int, caller Caller) (*Call, error) {
	c := &Call{b: b, caller: caller, size: int64(reserve)}
	err := b.fault()
	if err == nil {
		err = b.reserve(c)
	}
	if err != nil {
		return b.turnAway(c, err)
	}
	b.inFlight.Add(1)
	return c, nil
}

// turnAway refuses a call that cannot be recorded, or lets it pass.
func (b *Buffer) turnAway(c *Call, why error) (*Call, error) {
	if !errors.Is(why, ErrShare) && b.passes() {
		if err := b.pass(why, 1); err == nil {
			c.passed, c.seen, c.ended = true, true, true
			return c, nil
		}
	}
	b.mu.Lock()
	b.state.Calls.Seen++
	b.state.Calls.Refused++
	b.dirty = true
	b.mu.Unlock()
	return nil, why
}

// passes reports whether calls that cannot be recorded go through.
func (b *Buffer) passes() bool {
	return OnFault(b.onFault.Load()) == Pass || b.ordered.Load() > time.Now().UnixMicro()
}

// fault is why the disk cannot be relied on at this moment, or nil.
func (b *Buffer) fault() error {
	since := b.busySince.Load()
	if since == 0 || int64(time.Since(b.clock))-since <= b.maxWait.Load() {
		return nil
	}
	b.mu.Lock()
	failing := b.failing != nil
	b.mu.Unlock()
	if failing {
		return ErrFailing
	}
	b.tellSlow()
	return ErrSlow
}

// reserve takes the room that a call may need.
func (b *Buffer) reserve(c *Call) error {
	if !c.caller.Known && !b.strangers.take(c.caller.Network, c.size, b.shareOfStrangers()) {
		return ErrShare
	}
	reserved := b.reserved.Add(c.size)
	free := b.free.Load()
	if reserved+b.used.Load() > b.maxSize.Load() || free >= 0 && free-reserved < b.floor() {
		c.held = true
		c.release()
		return ErrFull
	}
	c.held = true
	return nil
}

// shareOfStrangers is what callers that are not known may use together.
func (b *Buffer) shareOfStrangers() int64 {
	n := b.maxSize.Load()
	return max(n/strangersShare, min(n, leastShare))
}

// networkBound is what of that one network may use.
func networkBound(share int64) int64 {
	return max(share/networkShare, min(share, leastOfNetwork))
}

// floor is how much of the filesystem is left to others.
func (b *Buffer) floor() int64 {
	n := b.minFree.Load()
	if n == DefaultMinFree {
		n = min(n, b.total.Load()/20)
	}
	return n
}

// Exclude counts a call that the policy does not record.
func (b *Buffer) Exclude() { b.excluded.Add(1) }

// tally counts bytes by network.
type tally struct {
	all   int64
	parts map[netip.Prefix]int64
}

func (t *tally) add(network netip.Prefix, n int64) {
	t.all += n
	if t.parts == nil {
		t.parts = map[netip.Prefix]int64{}
	}
	network = t.of(network, n)
	t.parts[network] += n
	// What was counted with others comes back under its own name: it is theirs.
	if rest := t.parts[network]; rest < 0 && network.IsValid() {
		t.parts[network] = 0
		t.parts[netip.Prefix{}] += rest
	}
	for _, one := range []netip.Prefix{network, {}} {
		if t.parts[one] == 0 {
			delete(t.parts, one)
		}
	}
}

// of is under which name bytes of a network count. The sum of all names is what there
// is, however networks come and go.
func (t *tally) of(network netip.Prefix, n int64) netip.Prefix {
	if _, there := t.parts[network]; !there && (n < 0 || len(t.parts) >= maxNetworks) {
		return netip.Prefix{}
	}
	return network
}

// share is what callers that are not known use: what their calls have in the
// segments, and what is reserved for those in flight. What they had before a start
// counts for all of them and for no network.
type share struct {
	mu   sync.Mutex
	used tally
}

// take reserves n bytes, if the bound allows it.
func (s *share) take(network netip.Prefix, n, bound int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used.all+n > bound || s.used.parts[s.used.of(network, n)]+n > networkBound(bound) {
		return false
	}
	s.used.add(network, n)
	return true
}

func (s *share) give(network netip.Prefix, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used.add(network, -n)
}

// wrote counts bytes that went into a segment, and gives them with it.
func (s *share) wrote(seg *segment, network netip.Prefix, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used.add(network, n)
	seg.strangers.add(network, n)
}

// gone gives back what a segment held.
func (s *share) gone(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for network, n := range seg.strangers.parts {
		s.used.add(network, -n)
		seg.strangers.all -= n
	}
	s.used.all -= seg.strangers.all // of which the networks are not known any more
	seg.strangers = tally{}
}

// begin counts what was there at a start: newest is what the newest segment has,
// and the sums of the others say theirs.
func (s *share) begin(newest int64, segs []*segment) {
	for i, seg := range segs {
		switch {
		case i == len(segs)-1:
			seg.strangers.all = newest
		case seg.sum != nil:
			seg.strangers.all = seg.sum.Strangers
		}
		s.used.all += seg.strangers.all
	}
}

func (s *share) of(seg *segment) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seg.strangers.all
}

func (s *share) total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used.all
}
