package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// documents reads the destination.
func (s *subject) documents() [][]byte {
	s.Helper()
	docs, err := s.Documents()
	if err != nil {
		s.Fatalf("reading the destination: %v", err)
	}
	return docs
}

// check compares what is in the destination with what was written: all that was
// acknowledged is there, nothing that was not written is, and in its order.
func (s *subject) check() {
	s.Helper()
	s.mu.Lock()
	attempts := slices.Clone(s.attempts)
	s.mu.Unlock()
	docs := s.documents()
	var err error
	switch {
	case s.once():
		err = checkOnce(attempts, docs)
	case s.loose:
		err = checkPresent(attempts, docs)
	default:
		err = checkRepeats(attempts, docs, s.o.Repeats)
	}
	if err != nil {
		s.Fatalf("reading the destination: %v", err)
	}
}

// version names a revision of an entry.
type version struct {
	id       string
	revision int
}

// checkOnce holds a destination that has each entry once, in its highest revision,
// by arrival and id.
func checkOnce(attempts []attempt, docs [][]byte) error {
	written := map[version][][]byte{} // more than one, if it came under several sequences
	owed := map[string]int{}          // the highest acknowledged revision
	for _, a := range attempts {
		for _, r := range a.batch {
			v := version{r.Entry.ID, r.Entry.Revision}
			written[v] = append(written[v], r.JSON)
			if have, ok := owed[v.id]; a.acknowledged && (!ok || v.revision > have) {
				owed[v.id] = v.revision
			}
		}
	}
	var last *audit.Entry
	seen := map[string]bool{}
	for i, doc := range docs {
		e, err := audit.Decode(doc)
		if err != nil {
			return fmt.Errorf("document %d, %.60q: %w", i, doc, err)
		}
		if seen[e.ID] {
			return fmt.Errorf("document %d: entry %s is there twice", i, name(e))
		}
		seen[e.ID] = true
		if last != nil && byArrival(last, e) > 0 {
			return fmt.Errorf("document %d: entry %s comes after entry %s, which arrived later", i, name(e), name(last))
		}
		last = e
		v := version{e.ID, e.Revision}
		if !containsBytes(written[v], doc) {
			return fmt.Errorf("document %d: entry %s was not written so: %.200q", i, name(e), doc)
		}
		if highest, ok := owed[e.ID]; ok && e.Revision < highest {
			return fmt.Errorf("document %d: entry %s is there, and revision %d was acknowledged", i, name(e), highest)
		}
	}
	for id := range owed {
		if !seen[id] {
			return fmt.Errorf("entry %s was acknowledged and is not there (%d documents are)", id, len(docs))
		}
	}
	return nil
}

// checkRepeats holds a destination that has all that arrived: the batches one after
// the other, each in its order, and before that what was stored of attempts that
// failed. Where repeats are kept out, a batch is what the destination had not yet of it.
func checkRepeats(attempts []attempt, docs [][]byte, repeats Repeats) error {
	rest := func(batch []forwarder.Record, _ int) []forwarder.Record { return batch }
	if repeats == RepeatsKeptOut {
		first, err := firsts(docs)
		if err != nil {
			return err
		}
		rest = func(batch []forwarder.Record, from int) []forwarder.Record { return without(batch, first, from) }
	}
	// ends are the numbers of documents that the attempts so far can account for.
	ends := map[int]bool{0: true}
	for i, a := range attempts {
		if !a.acknowledged || a.disturbed {
			grown := map[int]bool{}
			for from := range ends {
				for n := range 1 + inOrder(rest(a.batch, from), docs[from:]) {
					grown[from+n] = true
				}
			}
			ends = grown
		}
		if !a.acknowledged {
			continue
		}
		whole, furthest := map[int]bool{}, 0
		for from := range ends {
			furthest = max(furthest, from)
			if batch := rest(a.batch, from); startsWith(docs[from:], batch) {
				whole[from+len(batch)] = true
			}
			if end, all := afterLeavingOut(a.batch, docs, from); repeats == RepeatsMayShow && all {
				whole[end] = true
			}
		}
		if len(whole) == 0 {
			return fmt.Errorf("write %d, of %s, was acknowledged and is not whole and in order behind document %d of %d",
				i+1, sequences(a.batch), furthest, len(docs))
		}
		ends = whole
	}
	if !ends[len(docs)] {
		return fmt.Errorf("there are %d documents, of which the last are nothing that was written in this place", len(docs))
	}
	return nil
}

// firsts says of each version which document it is. None may be there twice.
func firsts(docs [][]byte) (map[version]int, error) {
	first := map[version]int{}
	for i, doc := range docs {
		e, err := audit.Decode(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d, %.60q: %w", i, doc, err)
		}
		v := version{e.ID, e.Revision}
		if n, again := first[v]; again {
			return nil, fmt.Errorf("document %d: entry %s is document %d already, and repeats are kept out", i, name(e), n)
		}
		first[v] = i
	}
	return first, nil
}

// without is what is new of a batch behind the first documents, each version once.
func without(batch []forwarder.Record, first map[version]int, docs int) (fresh []forwarder.Record) {
	seen := map[version]bool{}
	for _, r := range batch {
		v := version{r.Entry.ID, r.Entry.Revision}
		if n, there := first[v]; there && n < docs || seen[v] {
			continue
		}
		seen[v] = true
		fresh = append(fresh, r)
	}
	return fresh
}

// inOrder is how many of the documents are a part of the batch, in its order.
func inOrder(batch []forwarder.Record, docs [][]byte) (n int) {
	for _, r := range batch {
		if n < len(docs) && bytes.Equal(docs[n], r.JSON) {
			n++
		}
	}
	return n
}

// afterLeavingOut is where a batch ends in the documents from one on, if each of its
// records stands there or somewhere before.
func afterLeavingOut(batch []forwarder.Record, docs [][]byte, from int) (end int, all bool) {
	before := map[string]bool{}
	for _, doc := range docs[:from] {
		before[string(doc)] = true
	}
	end = from
	for _, r := range batch {
		switch {
		case before[string(r.JSON)]:
		case end < len(docs) && bytes.Equal(docs[end], r.JSON):
			before[string(r.JSON)] = true
			end++
		default:
			return end, false
		}
	}
	return end, true
}

func startsWith(docs [][]byte, batch []forwarder.Record) bool {
	return len(docs) >= len(batch) && inOrder(batch, docs[:len(batch)]) == len(batch)
}

// checkPresent holds a destination where an attempt that was given up may end after
// the next one began.
func checkPresent(attempts []attempt, docs [][]byte) error {
	written, owed := map[string]bool{}, map[string]bool{}
	for _, a := range attempts {
		for _, r := range a.batch {
			written[string(r.JSON)] = true
			owed[string(r.JSON)] = owed[string(r.JSON)] || a.acknowledged
		}
	}
	for i, doc := range docs {
		if !written[string(doc)] {
			return fmt.Errorf("document %d was not written so: %.200q", i, doc)
		}
		owed[string(doc)] = false
	}
	for doc, missing := range owed {
		if missing {
			return fmt.Errorf("a document was acknowledged and is not there: %.200q", doc)
		}
	}
	return nil
}

// byArrival is the order of a Reader.
func byArrival(a, b *audit.Entry) int {
	return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.ID, b.ID))
}

func containsBytes(all [][]byte, b []byte) bool {
	return slices.ContainsFunc(all, func(a []byte) bool { return bytes.Equal(a, b) })
}

func name(e *audit.Entry) string { return fmt.Sprintf("%s in revision %d", e.ID, e.Revision) }

// sequences says which entries a batch has, in few words.
func sequences(batch []forwarder.Record) string {
	if len(batch) == 0 {
		return "an empty batch"
	}
	return fmt.Sprintf("a batch of %d from sequence %d", len(batch), batch[0].Sequence)
}
