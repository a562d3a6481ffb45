package storetest

import (
	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// deliveryCases are about batches that nothing disturbs.
var deliveryCases = []testCase{
	{"a batch arrives whole, in order and byte by byte", func(s *subject) {
		s.write(records(s, 1, 50))
		s.check()
	}},
	{"many batches keep their order", func(s *subject) {
		rng := random(1)
		for n := 1; n < 400; {
			last := n + rng.IntN(40)
			s.write(records(s, n, last))
			n = last + 1
		}
		s.send(bare(s, 1000, 1000+forwarder.DefaultMaxBatchEntries)) // a backlog
		s.write(records(s, 9000, 9003))
		s.check()
	}},
	{"a repeated batch changes nothing, or shows as a repeat", func(s *subject) {
		batch := records(s, 1, 20)
		s.write(batch)
		before := s.documents()
		s.write(batch)
		s.check()
		s.write(append(records(s, 15, 20), records(s, 21, 25)...)) // it begins in the one before
		s.write(append(records(s, 26, 30), records(s, 28, 28)...)) // and within one batch
		var again []forwarder.Record                               // as a buffer that was in doubt appends them
		for n := 1; n <= 5; n++ {
			again = append(again, record(s, entry(n, audit.RevisionAnswer), 30+n))
		}
		s.write(again)
		s.check()
		if after := s.documents(); s.once() && len(after) != len(before)+10 {
			s.Errorf("%d documents, want the %d from before and 10 new ones", len(after), len(before))
		}
	}},
	{"a part that is there already does no harm", func(s *subject) {
		batch := records(s, 1, 20)
		s.write(batch[:7])
		s.write(batch)
		s.write(batch[13:])
		s.check()
	}},
	{"the highest revision wins, in any order", func(s *subject) {
		one, two, unknown := record(s, entry(1, 1), 1), record(s, entry(1, 2), 2), record(s, entry(1, audit.RevisionUnknown), 3)
		s.write([]forwarder.Record{one})
		s.write([]forwarder.Record{two})
		s.check()
		s.write([]forwarder.Record{one})
		s.write([]forwarder.Record{unknown})
		s.check()
		s.write([]forwarder.Record{record(s, entry(2, 2), 4), record(s, entry(2, 1), 5), record(s, entry(3, 1), 6), record(s, entry(3, 2), 7)})
		s.check()
		var all []forwarder.Record
		for n := 10; n < 20; n++ {
			for revision := audit.RevisionPending; revision < 4; revision++ {
				all = append(all, record(s, entry(n, revision), 100+len(all)))
			}
		}
		rng := random(2)
		for range 25 {
			batch := make([]forwarder.Record, 1+rng.IntN(8))
			for i := range batch {
				batch[i] = all[rng.IntN(len(all))]
			}
			s.write(batch)
			s.check()
		}
	}},
	{"a restart loses nothing and repeats nothing", func(s *subject) {
		for n := range 4 {
			s.write(records(s, 10*n+1, 10*n+10))
			s.close()
			s.check()
			s.open()
		}
		s.check()
		s.write(records(s, 31, 45)) // a position that was lost
		s.check()
	}},
}
