package operator

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// EndRoom is what the buffer keeps free for the end of each call, in bytes: with less, it is
// full.
const EndRoom = 16 << 10

// Status is the answer of `caddy audit status --json`: both conservation
// equations, each term counted on its own, and what they are about.
type Status struct {
	// Live says that a running server answered; else the files did.
	Live bool `json:"live"`
	// Conserved says that both equations hold.
	Conserved bool   `json:"conserved"`
	Instance  string `json:"instance"`
	Directory string `json:"directory"`
	Head      uint64 `json:"head"`
	Oldest    uint64 `json:"oldest"`
	Segments  int    `json:"segments"`

	BufferBytes int64 `json:"buffer_bytes"`
	// QuarantineBytes is what of BufferBytes entries take that a store does not.
	QuarantineBytes int64 `json:"quarantine_bytes"`
	BufferMaxBytes  int64 `json:"buffer_max_bytes,omitempty"`
	// OldestPendingSeconds is what would be lost with the disk. Only a running
	// server says it.
	OldestPendingSeconds float64 `json:"oldest_pending_seconds,omitempty"`
	// FreeBytes is what the buffer's filesystem has left, of which MinFreeBytes are
	// for others; absent where the system does not say.
	FreeBytes    int64 `json:"free_bytes,omitempty"`
	MinFreeBytes int64 `json:"min_free_bytes,omitempty"`
	// KnowsFree says that the system tells what is left: 0 is a full disk then.
	KnowsFree bool `json:"-"`
	// StrangersBytes is what callers that are not known use of the buffer, of at
	// most StrangersMaxBytes.
	StrangersBytes    int64 `json:"strangers_bytes"`
	StrangersMaxBytes int64 `json:"strangers_max_bytes,omitempty"`
	// Damaged is the number of entries that this process has found unreadable.
	Damaged uint64 `json:"damaged,omitempty"`
	// Failing is why the buffer's disk fails, if it does, and Slow says that it keeps
	// calls waiting for longer than max_wait.
	Failing string `json:"failing,omitempty"`
	Slow    bool   `json:"slow,omitempty"`
	// PassingSince is since when calls pass unrecorded, if they do. PassUntil is until
	// when they may by order, whatever on_fault says.
	PassingSince *time.Time `json:"passing_since,omitempty"`
	PassUntil    *time.Time `json:"pass_until,omitempty"`

	Calls  StatusCalls   `json:"calls"`
	Stores []StatusStore `json:"stores"`
}

// StatusCalls are the terms of: seen = recorded + excluded + refused + passed
// + folded + open.
type StatusCalls struct {
	buffer.Calls
	Open  int  `json:"open"`
	Holds bool `json:"holds"`
}

// StatusStore are the terms of: head − start = delivered + filtered +
// quarantined + skipped + damaged + pending.
type StatusStore struct {
	Name string `json:"name"`
	forwarder.Description
	buffer.Position
	Pending uint64 `json:"pending"`
	// PendingBytes is about what that takes of the buffer. Beyond MaxPendingBytes the
	// store is detached; absent for one that is required.
	PendingBytes    int64 `json:"pending_bytes"`
	MaxPendingBytes int64 `json:"max_pending_bytes,omitempty"`
	Holds           bool  `json:"holds"`
	// Configured is false for a store that the buffer knows from an earlier
	// configuration.
	Configured bool `json:"configured"`
	// KeptUntil is when such a store's position is forgotten.
	KeptUntil    *time.Time `json:"kept_until,omitempty"`
	FailingSince *time.Time `json:"failing_since,omitempty"`
	LastError    string     `json:"last_error,omitempty"`
	// Retention is how the store is held to its retention, if it enforces that itself.
	// Only a running server says it.
	Retention *forwarder.KeepingStatus `json:"retention,omitempty"`
}

// Term is one of an equation's.
type Term struct {
	Name string
	N    uint64
}

// Terms are those on the right of the calls' equation, but for those that are open.
func (c *StatusCalls) Terms() []Term {
	return []Term{
		{"recorded", c.Recorded}, {"excluded", c.Excluded}, {"refused", c.Refused}, {"passed", c.Passed}, {"folded", c.Folded},
	}
}

// Terms are those on the right of the store's equation, but for what is pending.
func (s *StatusStore) Terms() []Term {
	return []Term{
		{"delivered", s.Delivered}, {"filtered", s.Filtered}, {"quarantined", s.Quarantined}, {"skipped", s.Skipped}, {"damaged", s.Damaged},
	}
}

// Sum adds them up.
func Sum(terms []Term) (n uint64) {
	for _, t := range terms {
		n += t.N
	}
	return n
}

// StatusOf computes a status from one consistent picture of the buffer.
// Entries of a store that the configuration does not name come last.
func StatusOf(dir string, b buffer.Stats, stores stores.List) Status {
	s := Status{
		Instance: b.Instance, Directory: dir, Head: b.Head, Oldest: b.Oldest, Segments: b.Segments,
		BufferBytes: b.Bytes, BufferMaxBytes: b.MaxBytes,
		Calls: StatusCalls{Calls: b.Calls, Open: b.Open},
	}
	if b.Failing != nil {
		s.Failing = b.Failing.Error()
	}
	s.FreeBytes, s.MinFreeBytes, s.KnowsFree = max(0, b.FreeBytes), b.MinFreeBytes, b.FreeBytes >= 0
	s.StrangersBytes, s.StrangersMaxBytes = b.StrangersBytes, b.StrangersMaxBytes
	s.Damaged, s.Slow, s.QuarantineBytes = b.Damaged, b.Slow, b.QuarantineBytes
	if b.Passing {
		s.PassingSince = &b.PassingSince
	}
	if !b.Ordered.IsZero() {
		s.PassUntil = &b.Ordered
	}
	s.Calls.Holds = b.Calls.Seen == Sum(s.Calls.Terms())+uint64(b.Open)
	s.Conserved = s.Calls.Holds
	add := func(name string, d forwarder.Description, configured bool) {
		st := StatusStore{
			Name: name, Description: d, Position: b.Stores[name], Configured: configured,
			Pending: b.Head - b.Stores[name].Position, PendingBytes: b.Lag[name], MaxPendingBytes: b.MaxLag[name],
		}
		st.Note = nil // it is for the store, and for who inspects the files
		if until := b.Stores[name].Until; until > 0 {
			t := time.UnixMicro(until)
			st.KeptUntil = &t
		}
		st.Holds = b.Head-st.Start == Sum(st.Terms())+st.Pending
		s.Conserved = s.Conserved && st.Holds
		s.Stores = append(s.Stores, st)
	}
	named := map[string]bool{}
	for _, n := range stores {
		named[n.Name] = true
		add(n.Name, n.Opener.Describe(), true)
	}
	for name := range b.Stores {
		if !named[name] {
			add(name, forwarder.Description{}, false)
		}
	}
	return s
}
