package storetest

import (
	"context"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// refusalCases are about entries that a destination will never take.
var refusalCases = []testCase{
	{"a refused entry is told from its neighbours", func(s *subject) {
		s.need("Target.Refuse", s.Refuse != nil)
		const text = "nobody takes this one"
		batch := records(s, 1, 9)
		e := entry(5, 1)
		e.Actor.UserAgent = text
		batch[4] = record(s, e, 5)
		s.disturbed = true
		accept := s.Refuse(text)
		for range 2 { // and again, as after a restart
			if diff := cmp.Diff([]uint64{5}, s.divide(batch)); diff != "" {
				s.Errorf("refused sequences (-want +got):\n%s", diff)
			}
		}
		s.write(records(s, 10, 12)) // what comes after is not in its way
		accept()
		s.deliver(batch)
		s.disturbed = false
		s.write(records(s, 13, 15))
		s.check()
	}},
	{"a destination that refuses everything says so of each entry", func(s *subject) {
		s.need("Target.Refuse", s.Refuse != nil)
		s.write(records(s, 1, 3))
		batch := records(s, 4, 7)
		s.disturbed = true
		accept := s.Refuse("")
		if diff := cmp.Diff([]uint64{4, 5, 6, 7}, s.divide(batch)); diff != "" {
			s.Errorf("refused sequences (-want +got):\n%s", diff)
		}
		accept()
		s.deliver(batch)
		s.disturbed = false
		s.write(records(s, 8, 9))
		s.check()
	}},
}

// divide writes a batch as the forwarder does that is looking for what is refused: in
// halves. It returns the sequences of the entries that are refused alone.
func (s *subject) divide(batch []forwarder.Record) (refused []uint64) {
	s.Helper()
	err := s.try(context.Background(), batch)
	switch {
	case err == nil:
		return nil
	case !isRefused(err):
		s.Fatalf("writing %s: this is refused for what is in it, and the error is no *forwarder.RefusedError: %v", sequences(batch), err)
	case len(batch) == 1:
		return []uint64{batch[0].Sequence}
	}
	half := len(batch) / 2
	return append(s.divide(batch[:half]), s.divide(batch[half:])...)
}
