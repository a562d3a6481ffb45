package buffer

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Calls are the terms of the conservation of calls, since the buffer's first
// start:
//
//	Seen = Recorded + Excluded + Refused + Passed + Folded + Open
//
// Seen is counted with a call's first durable trace, the others where its end
// is decided, and Open is the number of intents without an end, so that a
// mistake in any of them shows.
type Calls struct {
	Seen     uint64 `json:"seen"`
	Recorded uint64 `json:"recorded"`
	Excluded uint64 `json:"excluded"`
	Refused  uint64 `json:"refused"`
	Passed   uint64 `json:"passed"`
	Folded   uint64 `json:"folded"`
}

func (c *Calls) add(o Calls) {
	c.Seen += o.Seen
	c.Recorded += o.Recorded
	c.Excluded += o.Excluded
	c.Refused += o.Refused
	c.Passed += o.Passed
	c.Folded += o.Folded
}

// Position is how far a store is, and the terms of its conservation:
//
//	head − Start = Delivered + Filtered + Quarantined + Skipped + Damaged + (head − Position)
type Position struct {
	// Start is the sequence before the store's first.
	Start uint64 `json:"start"`
	// Position is the sequence of the last entry that the store is done with.
	Position    uint64 `json:"position"`
	Delivered   uint64 `json:"delivered"`
	Filtered    uint64 `json:"filtered"`
	Quarantined uint64 `json:"quarantined"`
	Skipped     uint64 `json:"skipped"`
	Damaged     uint64 `json:"damaged"`
	// MissingSince is the first sequence of a run that the store does not get, when it
	// was detached and has taken nothing since; 0 otherwise. The entry that tells of the
	// run may be part of it, when the store is detached again.
	MissingSince uint64 `json:"missing_since,omitempty"`
	// Destination is where the store's entries go.
	Destination string `json:"destination,omitempty"`
	// Until is when the position is forgotten, in µs since the Unix epoch, because the
	// store is no longer configured; 0 while it is.
	Until int64 `json:"until,omitempty"`
	// Note is what the store keeps here for itself.
	Note json.RawMessage `json:"note,omitempty"`
}

// origin is a buffer's UUID and the first sequence that it counts for.
type origin struct {
	Instance string `json:"instance"`
	First    uint64 `json:"first"`
}

// state is what bucket s holds: all that a start needs and no entry says.
type state struct {
	Format int `json:"format"`
	// Origins are the UUIDs of the entries that are here, by their first
	// sequence. The last one is that of what is recorded now.
	Origins []origin `json:"origins"`
	// Home is where the directory was when it was last opened, by what a copy of
	// it cannot have; empty where the system does not say.
	Home string `json:"home,omitempty"`
	// Boot identifies the time since the machine was started, during which this was
	// written, in a segment of which a commit can be torn; empty in others.
	Boot string `json:"boot,omitempty"`
	// Head is the sequence of the newest entry, and Open the number of intents
	// without an end, as of the commit that wrote this: a start holds what it
	// finds against them.
	Head       uint64 `json:"head"`
	Open       int    `json:"open"`
	NextIntent uint64 `json:"next_intent"`
	// Clean is set by the last commit of a Close, and by no other.
	Clean bool `json:"clean,omitempty"`
	// MayPass says that OnFault was Pass, so that calls may have passed with
	// nothing but this to say so.
	MayPass bool `json:"may_pass,omitempty"`
	// Passing is the episode of passed calls that no gap tells of yet, and
	// PassTold the beginnings of the last ones that do.
	Passing  *episode `json:"passing,omitempty"`
	PassTold []int64  `json:"passes_told,omitempty"`
	Calls    Calls    `json:"calls"`
	// Strangers are the bytes of entries of callers that were not known.
	Strangers int64               `json:"strangers,omitempty"`
	Stores    map[string]Position `json:"stores"`
	// Former are the positions of stores at the destination that they had before, in
	// case that they go back: a configuration that cannot start is taken back.
	Former map[string]Position `json:"former,omitempty"`
	// Harmed is how many entries of a segment, by its first, were missing when a gap
	// last told of it.
	Harmed map[uint64]uint64 `json:"harmed,omitempty"`
	// Resolved are the entries that the terms do not count as quarantined any more, and
	// that quarantine.db may still have.
	Resolved records[Resolution] `json:"resolved,omitempty"`
}

func newState(instance string) state {
	return state{Format: FormatVersion, Origins: []origin{{Instance: instance, First: 1}}, NextIntent: 1, Stores: map[string]Position{}, Resolved: records[Resolution]{}}
}

func (s *state) clone() state {
	c := *s
	c.Origins = slices.Clone(s.Origins)
	c.Stores = maps.Clone(s.Stores)
	c.Former = maps.Clone(s.Former)
	c.Harmed = maps.Clone(s.Harmed)
	c.Resolved = s.Resolved.clone()
	c.PassTold = slices.Clone(s.PassTold)
	if s.Passing != nil {
		p := *s.Passing
		c.Passing = &p
	}
	return c
}

// instance is the UUID of what is recorded now.
func (s *state) instance() string { return s.Origins[len(s.Origins)-1].Instance }

// instanceOf is the UUID that an entry was recorded under.
func (s *state) instanceOf(sequence uint64) string {
	for _, o := range slices.Backward(s.Origins) {
		if o.First <= sequence {
			return o.Instance
		}
	}
	return s.Origins[0].Instance
}

// reached is the highest sequence that the state knows of.
func (s *state) reached() uint64 {
	n := s.Head
	for _, p := range s.Stores {
		n = max(n, p.Position)
	}
	return n
}

// taken is the sequence up to which every store that the state knows has everything.
func (s *state) taken() uint64 {
	if len(s.Stores) == 0 {
		return 0
	}
	n := uint64(math.MaxUint64)
	for _, p := range s.Stores {
		n = min(n, p.Position)
	}
	return n
}

// putState writes the state of a commit into its transaction: a frame, so that it can be
// found in a file whose pages are otherwise lost. It has the transaction's number in the place
// that an entry has its intent's in: so a page that an earlier transaction wrote cannot pass
// for this one's.
func putState(tx *bolt.Tx, s state, boot string) error {
	s.Format, s.Boot = FormatVersion, boot
	b, err := json.Marshal(&s)
	if err != nil { // numbers and strings always encode
		panic(err)
	}
	f := frame{flags: flagState, sequence: s.Head, intent: uint64(tx.ID()), time: time.Now().UnixMicro(), payload: b}
	return tx.Bucket(bucketState).Put(keyState, f.append(make([]byte, 0, frameHeader+len(b))))
}

// decodeState reads the value of bucket s. The transaction is zero in one that was
// written by a version that did not number them.
func decodeState(b []byte) (s state, at time.Time, transaction uint64, err error) {
	f, err := parseFrame(b)
	if err != nil {
		return s, at, 0, fmt.Errorf("decoding state: %w", err)
	}
	if !f.isState() {
		return s, at, 0, fmt.Errorf("decoding state: %w: it is something else", errFrame)
	}
	s, err = stateOf(f)
	return s, time.UnixMicro(f.time), f.intent, err
}

func stateOf(f frame) (s state, err error) {
	if err := json.Unmarshal(f.payload, &s); err != nil {
		return s, fmt.Errorf("decoding state: %w", err)
	}
	if s.Format < ReadsFormatFrom || s.Format > FormatVersion {
		return s, fmt.Errorf("%w: it is version %d and this program reads versions %d to %d: use the release that wrote it, or drain it there first",
			errFormat, s.Format, ReadsFormatFrom, FormatVersion)
	}
	if len(s.Origins) == 0 || s.Origins[0].Instance == "" || s.NextIntent == 0 {
		return s, fmt.Errorf("decoding state: %w: origins or next_intent is missing", errFrame)
	}
	if s.Stores == nil {
		s.Stores = map[string]Position{}
	}
	if s.Resolved == nil {
		s.Resolved = records[Resolution]{}
	}
	return s, nil
}
