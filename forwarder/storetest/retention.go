package storetest

import (
	"bytes"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// retentionCases are about what was taken away on purpose.
var retentionCases = []testCase{
	{"a pruned entry does not come back", func(s *subject) {
		s.need("Target.Prune", s.Prune != nil)
		batch := records(s, 1, 10)
		s.write(batch)
		received := s.received()
		if err := s.Prune(id(1), id(2), id(3)); err != nil {
			s.Fatal(err)
		}
		left := func(when string) {
			s.Helper()
			if diff := cmp.Diff(texts(batch[3:]), s.texts()); diff != "" {
				s.Fatalf("entries %s (-want +got):\n%s", when, diff)
			}
		}
		left("after pruning")
		s.write(batch)
		left("after the batch was repeated")
		s.write([]forwarder.Record{record(s, entry(2, 2), 11)})
		left("after a higher revision of one")
		s.close()
		s.open()
		s.write(batch[:5])
		left("after a restart")
		received[0].Last = 11
		if diff := cmp.Diff(received, s.received()); diff != "" {
			s.Errorf("what was received (-before +after pruning):\n%s", diff)
		}
	}},
	{"a redacted text does not come back", func(s *subject) {
		s.need("Target.Redact", s.Redact != nil)
		const text = "erase.me@example.com"
		batch := records(s, 1, 5)
		about := func(revision int) forwarder.Record {
			e := entry(3, revision)
			e.Actor.Email = text
			return record(s, e, 2+revision)
		}
		batch[2] = about(1)
		s.write(batch)
		if err := s.Redact(id(3), text); err != nil {
			s.Fatal(err)
		}
		gone := func(when string) {
			s.Helper()
			docs := s.documents()
			if len(docs) != len(batch) {
				s.Fatalf("%d entries %s, want %d", len(docs), when, len(batch))
			}
			for i, doc := range docs {
				if bytes.Contains(doc, []byte(text)) {
					s.Fatalf("entry %d holds what was erased, %s", i+1, when)
				}
				if i != 2 && !bytes.Equal(doc, batch[i].JSON) {
					s.Fatalf("entry %d has changed, %s: %.200q", i+1, when, doc)
				}
			}
		}
		gone("after the erasure")
		s.write(batch)
		gone("after the batch was repeated")
		s.write([]forwarder.Record{about(4)})
		gone("after a higher revision")
		s.close()
		s.open()
		s.write(batch)
		gone("after a restart")
	}},
}

// texts is what a reader finds, to be compared.
func (s *subject) texts() (all []string) {
	s.Helper()
	for _, doc := range s.documents() {
		all = append(all, string(doc))
	}
	return all
}

func texts(batch []forwarder.Record) (all []string) {
	for _, r := range batch {
		all = append(all, string(r.JSON))
	}
	return all
}
