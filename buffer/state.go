package buffer

import (
	"encoding/json"
	"fmt"
	"maps"
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
}

// state is what bucket s holds: all that a start needs and no entry says.
type state struct {
	Format     int    `json:"format"`
	Instance   string `json:"instance"`
	NextIntent uint64 `json:"next_intent"`
	// Clean is set by the last commit of a Close, and by no other.
	Clean  bool                `json:"clean,omitempty"`
	Calls  Calls               `json:"calls"`
	Stores map[string]Position `json:"stores"`
}

func (s *state) clone() state {
	c := *s
	c.Stores = maps.Clone(s.Stores)
	return c
}

func (s *state) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil { // numbers and strings always encode
		panic(err)
	}
	return b
}

func decodeState(b []byte) (state, error) {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("decoding state: %w", err)
	}
	if s.Format != formatVersion {
		return s, fmt.Errorf("its format is version %d and this program reads version %d: use the release that wrote it, or drain it there first", s.Format, formatVersion)
	}
	if s.Instance == "" || s.NextIntent == 0 {
		return s, fmt.Errorf("decoding state: instance or next_intent is missing")
	}
	if s.Stores == nil {
		s.Stores = map[string]Position{}
	}
	return s, nil
}
