package forwarder

import (
	"sync"
	"time"
)

// Status is a snapshot of one delivery. It holds no secret, as far as the
// store's errors hold none.
type Status struct {
	Name string `json:"name"`
	// Store says where the entries go.
	Store Description `json:"store"`
	// Running says that Run was called and has not returned.
	Running bool `json:"running"`

	// FailingSince is when the first of the failures in a row was; zero while
	// the store takes entries, or has not been tried.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Failures is the number of failures in a row.
	Failures int `json:"consecutive_failures"`
	// LastError is the newest failure's text. It stays after a recovery, with
	// LastFailure as its time.
	LastError   string    `json:"last_error,omitempty"`
	LastFailure time.Time `json:"last_failure,omitzero"`

	// Batches and Entries count what was delivered since New, and Quarantined what
	// was put into quarantine.
	Batches     uint64 `json:"batches"`
	Entries     uint64 `json:"entries"`
	Quarantined uint64 `json:"quarantined"`
	// LastSuccess is when the newest batch was delivered; zero if none was.
	LastSuccess time.Time `json:"last_success,omitzero"`
}

// state is the Status that Run's goroutine changes and others copy.
type state struct {
	mu sync.Mutex
	s  Status
}

// Status may be called at any time, from any goroutine.
func (f *Forwarder) Status() Status {
	f.state.mu.Lock()
	s := f.state.s
	f.state.mu.Unlock()
	s.Name, s.Store = f.name, f.store.Describe()
	return s
}

func (st *state) running(yes bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.s.Running = yes
}

func (st *state) failures() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.s.Failures
}

// took notes what became of entries.
func (st *state) took(delivered, quarantined uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.s.Entries += delivered
	st.s.Quarantined += quarantined
}

// failed notes a failure at the entry of the given sequence. Only the first
// in a row is logged; the others show in Status.
func (f *Forwarder) failed(err error, sequence uint64) {
	now := time.Now()
	f.state.mu.Lock()
	s := &f.state.s
	s.Failures++
	s.LastError, s.LastFailure = err.Error(), now
	first := s.FailingSince.IsZero()
	if first {
		s.FailingSince = now
	}
	f.state.mu.Unlock()
	if first {
		f.o.Logger.Warn("store is failing; its entries stay in the buffer and are tried again",
			"store", f.name, "sequence", sequence, "error", err)
	}
}

// delivered notes a success, and ends a row of failures.
func (f *Forwarder) delivered(b *batch) {
	now := time.Now()
	f.state.mu.Lock()
	s := &f.state.s
	if len(b.records) > 0 {
		s.Batches++
		s.LastSuccess = now
	}
	since, failures := s.FailingSince, s.Failures
	s.FailingSince, s.Failures = time.Time{}, 0
	f.state.mu.Unlock()
	if failures > 0 {
		f.o.Logger.Info("store has recovered",
			"store", f.name, "after", now.Sub(since), "failed_attempts", failures, "sequence", b.last)
	}
}
