package forwarder

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// fakeSource is a buffer in memory.
type fakeSource struct {
	mu        sync.Mutex
	payloads  [][]byte // payloads[i] is entry i+1
	positions map[string]uint64
	delivered uint64
	filtered  uint64
	detached  int
	damages   bool

	quarantined   map[uint64]string
	quarantineErr error

	grown chan struct{} // closed when an entry is appended

	// What it can do wrong.
	short    uint64 // Read ends before this sequence
	readErr  error  // what Read returns then
	skip     uint64 // Read leaves this one out
	waitErr  error
	waitLies bool // Wait returns at once, whatever the head
	reads    int
}

func newFakeSource() *fakeSource {
	return &fakeSource{positions: map[string]uint64{}, grown: make(chan struct{})}
}

func (s *fakeSource) append(payloads ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.payloads = append(s.payloads, payloads...)
	close(s.grown)
	s.grown = make(chan struct{})
}

// add appends n entries.
func (s *fakeSource) add(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	from := len(s.payloads)
	s.mu.Unlock()
	all := make([][]byte, n)
	for i := range all {
		all[i] = payload(t, from+i+1)
	}
	s.append(all...)
}

func payload(t *testing.T, n int) []byte {
	t.Helper()
	e := audit.Entry{ID: fmt.Sprintf("entry-%d", n), Revision: audit.RevisionAnswer, Timestamp: int64(n), SchemaVersion: audit.SchemaVersion}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *fakeSource) set(change func(*fakeSource)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeSource) Instance(uint64) string { return testInstance }

func (s *fakeSource) Damaged(store string, to uint64) {
	s.set(func(s *fakeSource) { s.damages = true })
	s.Advance(store, to, 0, 0, 0)
}

func (s *fakeSource) Wait(ctx context.Context, after uint64) (uint64, error) {
	for {
		s.mu.Lock()
		head, grown, err, lies := uint64(len(s.payloads)), s.grown, s.waitErr, s.waitLies
		s.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if head > after || lies {
			return head, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *fakeSource) Read(from uint64, visit func(uint64, []byte) bool) error {
	s.mu.Lock()
	payloads, short, err, skip := s.payloads, s.short, s.readErr, s.skip
	s.reads++
	s.mu.Unlock()
	for n := from; n <= uint64(len(payloads)); n++ {
		if short != 0 && n >= short {
			return err
		}
		if n == skip {
			continue
		}
		// The payload is valid only during the call.
		p := slices.Clone(payloads[n-1])
		more := visit(n, p)
		for i := range p {
			p[i] = '!'
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (s *fakeSource) Position(store string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.positions[store]
}

func (s *fakeSource) Advance(store string, to, delivered, filtered, quarantined uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.positions[store]
	if s.detached > 0 && to <= p {
		return false
	}
	if to <= p {
		panic(fmt.Sprintf("position of %s moved from %d to %d", store, p, to))
	}
	if sum := delivered + filtered + quarantined; sum != to-p {
		if sum != 0 || !s.damages { // Damaged counts for itself
			panic(fmt.Sprintf("position of %s moved from %d to %d with %d entries accounted for", store, p, to, sum))
		}
	}
	s.positions[store] = to
	s.delivered += delivered
	s.filtered += filtered
	return true
}

// detach gives up what is held for a store, as a buffer does.
func (s *fakeSource) detach(store string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached++
	s.positions[store] = uint64(len(s.payloads))
}

func (s *fakeSource) Quarantine(_ string, sequence uint64, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quarantineErr != nil {
		return s.quarantineErr
	}
	if s.quarantined == nil {
		s.quarantined = map[uint64]string{}
	}
	s.quarantined[sequence] = reason
	return nil
}

// fakeStore keeps what it was given. Its hook, if set, comes first.
type fakeStore struct {
	mu      sync.Mutex
	batches [][]uint64 // sequences, for each Write that succeeded
	tried   [][]uint64 // for each Write
	records []Record
	hook    func(ctx context.Context, attempt int) error
}

func (s *fakeStore) Write(ctx context.Context, batch []Record) error {
	sequences := make([]uint64, len(batch))
	for i, r := range batch {
		sequences[i] = r.Sequence
	}
	s.mu.Lock()
	s.tried = append(s.tried, sequences)
	attempt, hook := len(s.tried), s.hook
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, attempt); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, sequences)
	for _, r := range batch {
		s.records = append(s.records, Record{Sequence: r.Sequence, Entry: r.Entry, JSON: slices.Clone(r.JSON)})
	}
	return nil
}

func (s *fakeStore) Describe() Description {
	return Description{Kind: "fake", Location: "memory", Delivery: DeliveryAtLeastOnce}
}

func (s *fakeStore) Close() error { return nil }

// got returns all delivered sequences in order.
func (s *fakeStore) got() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.batches...)
}

// sizes returns the sizes of the delivered batches.
func (s *fakeStore) sizes() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n []int
	for _, b := range s.batches {
		n = append(n, len(b))
	}
	return n
}

func (s *fakeStore) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tried)
}

// sequence returns first..last.
func sequence(first, last uint64) []uint64 {
	var s []uint64
	for n := first; n <= last; n++ {
		s = append(s, n)
	}
	return s
}
