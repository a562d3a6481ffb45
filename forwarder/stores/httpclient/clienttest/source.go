package clienttest

import (
	"context"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Source is a forwarder.Source that has a few entries.
type Source struct {
	// Quarantined are the reasons by sequence. Only the forwarder's goroutine uses it
	// until Done.
	Quarantined map[uint64]string

	instance string
	payloads [][]byte // as a buffer has them, without an origin
	done     chan struct{}
	position uint64
}

// NewSource has the entries of one instance, in sequence from 1 on.
func NewSource(instance string, batch []forwarder.Record) (*Source, error) {
	s := &Source{instance: instance, done: make(chan struct{}), Quarantined: map[uint64]string{}}
	for _, r := range batch {
		e := *r.Entry
		e.Origin = nil
		payload, err := e.Encode()
		if err != nil {
			return nil, err
		}
		s.payloads = append(s.payloads, payload)
	}
	return s, nil
}

// Done is closed when the store is done with all of them.
func (s *Source) Done() <-chan struct{} { return s.done }

// Instance implements forwarder.Source.
func (s *Source) Instance(uint64) string { return s.instance }

// Position implements forwarder.Source.
func (s *Source) Position(string) uint64 { return s.position }

// Damaged implements forwarder.Source.
func (*Source) Damaged(string, uint64) {}

// Quarantine implements forwarder.Source.
func (s *Source) Quarantine(_ string, sequence uint64, reason string) error {
	s.Quarantined[sequence] = reason
	return nil
}

// Wait implements forwarder.Source.
func (s *Source) Wait(ctx context.Context, after uint64) (uint64, error) {
	if head := uint64(len(s.payloads)); after < head {
		return head, nil
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// Read implements forwarder.Source.
func (s *Source) Read(from uint64, visit func(uint64, []byte) bool) error {
	for i, payload := range s.payloads[from-1:] {
		if !visit(from+uint64(i), payload) {
			break
		}
	}
	return nil
}

// Advance implements forwarder.Source.
func (s *Source) Advance(_ string, to, _, _, _ uint64) bool {
	if s.position = to; to == uint64(len(s.payloads)) {
		close(s.done)
	}
	return true
}
