package storetest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

// readCases are about the optional interfaces.
var readCases = []testCase{
	{"Read yields each entry once, in its highest revision and in order", func(s *subject) {
		readers := s.readers()
		s.need("a forwarder.Reader or forwarder.ReaderOpener", len(readers) > 0)
		highest := s.writeRandom(random(3))
		for _, r := range readers {
			for _, q := range []forwarder.Query{{}, {NewestFirst: true}, {Limit: 7}, {Limit: 7, NewestFirst: true}, {Limit: 1 << 30}} {
				if diff := cmp.Diff(selected(highest, q), s.read(r, q)); diff != "" {
					s.Errorf("%T, query %+v (-want +got):\n%s", r, q, diff)
				}
			}
		}
	}},
	{"each field of a query narrows", func(s *subject) {
		readers := s.readers()
		s.need("a forwarder.Reader or forwarder.ReaderOpener", len(readers) > 0)
		rng := random(4)
		highest := s.writeRandom(rng)
		found := 0
		for i := range trials.Rounds(80, 200) {
			q := randomQuery(rng, highest)
			want := selected(highest, q)
			found += len(want)
			for _, r := range readers {
				got := s.read(r, q)
				if !slices.Equal(want, got) { // a difference takes long to look for
					diff := cmp.Diff(want, got)
					s.Fatalf("%T, query %d, %+v (-want +got):\n%s", r, i, q, diff)
				}
				s.checkOwners(&q, got)
				if b, ok := r.(forwarder.Browser); ok {
					s.checkBriefs(b, q, matching(highest, q))
				}
				if i%10 == 0 {
					s.checkPages(r, q, highest)
				}
			}
		}
		for _, r := range readers {
			if b, ok := r.(forwarder.Browser); ok {
				s.checkBeats(b, highest)
			}
		}
		if found == 0 {
			s.Fatal("no query selects anything: the suite is wrong")
		}
	}},
	{"a reader that stops halfway delays no write", func(s *subject) {
		readers := s.readers()
		s.need("a forwarder.Reader or forwarder.ReaderOpener", len(readers) > 0)
		s.write(records(s, 1, 50))
		for i, r := range readers {
			for _, err := range r.Read(context.Background(), forwarder.Query{}) {
				if err != nil {
					s.Fatalf("reading: %v", err)
				}
				s.write(records(s, 100*(i+1), 100*(i+1)+5))
				break
			}
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			s.within("reading with a context that has ended", s.o.patience, func() {
				for _, err := range r.Read(ended, forwarder.Query{}) {
					if err != nil { // it may also have been quick enough
						return
					}
				}
			})
		}
		s.check()
	}},
	{"Received and Missing are what arrived", func(s *subject) {
		s.need("a forwarder.Checker", len(s.checkers()) > 0)
		rng := random(5)
		arrived := map[string]map[int]bool{instance: {}, otherInstance: {}}
		for round := range 40 {
			var batch []forwarder.Record
			from, first := []string{instance, otherInstance}[rng.IntN(2)], 1+rng.IntN(90)
			for n := first; n <= first+rng.IntN(12); n++ {
				// Revisions that lose have arrived all the same.
				b, err := entry(n%30, rng.IntN(3)).Encode()
				if err != nil {
					s.Fatal(err)
				}
				batch = append(batch, payload(s, from, n, b))
				arrived[from][n] = true
			}
			rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			s.write(batch)
			if round%10 == 9 {
				s.close()
				s.open()
			}
			if round%4 == 3 {
				s.checkRanges(arrived)
			}
		}
	}},
	{"Highest is the highest sequence that was taken", func(s *subject) {
		_, is := s.store.(forwarder.Witness)
		s.need("a forwarder.Witness", is)
		highest := func(of string, want uint64) {
			s.Helper()
			got, err := s.store.(forwarder.Witness).Highest(context.Background(), of)
			if err != nil || got != want {
				s.Errorf("highest sequence of %s is %d, %v; want %d", of, got, err, want)
			}
		}
		highest(instance, 0)
		s.write(records(s, 5, 9))
		highest(instance, 9)
		highest(otherInstance, 0)
		s.write(records(s, 1, 3))
		highest(instance, 9)
		s.write([]forwarder.Record{record(s, entry(5, audit.RevisionPending), 12)}) // taken, though a higher one is there
		highest(instance, 12)
		s.close()
		s.open()
		highest(instance, 12)
		b, err := entry(30, 1).Encode()
		if err != nil {
			s.Fatal(err)
		}
		s.write([]forwarder.Record{payload(s, otherInstance, 40, b)})
		highest(instance, 12)
		highest(otherInstance, 40)
	}},
}

// readers are all that the store can be read by: itself and what its opener opens.
func (s *subject) readers() (all []forwarder.Reader) {
	s.Helper()
	if r, ok := s.store.(forwarder.Reader); ok {
		all = append(all, r)
	}
	if o, ok := s.Opener.(forwarder.ReaderOpener); ok {
		ctx, cancel := context.WithTimeout(context.Background(), s.o.patience)
		defer cancel()
		r, err := o.OpenReader(ctx)
		if err != nil {
			s.Fatalf("opening a reader: %v", err)
		}
		s.Cleanup(func() {
			if err := r.Close(); err != nil {
				s.Errorf("closing a reader: %v", err)
			}
		})
		all = append(all, r)
	}
	return all
}

// checkers are those of the store and of its readers.
func (s *subject) checkers() (all []forwarder.Checker) {
	s.Helper()
	if c, ok := s.store.(forwarder.Checker); ok {
		all = append(all, c)
	}
	for _, r := range s.readers() {
		if c, ok := r.(forwarder.Checker); ok {
			all = append(all, c)
		}
	}
	return all
}

// received is what the first checker says, or nothing that can change.
func (s *subject) received() []forwarder.Range {
	s.Helper()
	all := s.checkers()
	if len(all) == 0 {
		return []forwarder.Range{{}}
	}
	ranges, err := all[0].Received(context.Background())
	if err != nil || len(ranges) == 0 {
		s.Fatalf("reading what was received: %v, %v", ranges, err)
	}
	return ranges
}

// checkRanges compares what was received with sets of sequences.
func (s *subject) checkRanges(arrived map[string]map[int]bool) {
	s.Helper()
	var have, missing []forwarder.Range
	add := func(ranges []forwarder.Range, of string, n int) []forwarder.Range {
		if i := len(ranges) - 1; i >= 0 && ranges[i].Instance == of && ranges[i].Last == uint64(n-1) {
			ranges[i].Last++
			return ranges
		}
		return append(ranges, forwarder.Range{Instance: of, First: uint64(n), Last: uint64(n)})
	}
	for _, of := range slices.Sorted(maps.Keys(arrived)) {
		highest := 0
		for n := range arrived[of] {
			highest = max(highest, n)
		}
		for n := 1; n <= highest; n++ {
			if arrived[of][n] {
				have = add(have, of, n)
			} else {
				missing = add(missing, of, n)
			}
		}
	}
	for _, c := range s.checkers() {
		received, err := c.Received(context.Background())
		if diff := cmp.Diff(have, received); diff != "" || err != nil {
			s.Fatalf("%T, received: %v (-want +got):\n%s", c, err, diff)
		}
		holes, err := c.Missing(context.Background())
		if diff := cmp.Diff(missing, holes); diff != "" || err != nil {
			s.Fatalf("%T, missing: %v (-want +got):\n%s", c, err, diff)
		}
	}
}

// read reads all that a query selects.
func (s *subject) read(r forwarder.Reader, q forwarder.Query) (docs []string) {
	s.Helper()
	for doc, err := range r.Read(context.Background(), q) {
		if err != nil {
			s.Fatalf("reading %+v: %v", q, err)
		}
		docs = append(docs, string(doc))
	}
	return docs
}

// writeRandom writes entries whose revisions come in any order, some of which
// arrived at the same time or under ids in another order. It returns the highest
// revision of each as it is read, by arrival.
func (s *subject) writeRandom(rng *rand.Rand) []forwarder.Record {
	s.Helper()
	var all []forwarder.Record
	highest := map[string]forwarder.Record{}
	for n := range 120 {
		var of belonging
		from := oneOf(rng, []string{instance, instance, otherInstance})
		for revision := range 1 + rng.IntN(3) {
			e := entry(n, revision)
			if revision == 0 {
				of = randomBelonging(rng, e.OrganizationSlug)
			}
			e.Timestamp = epoch + int64(n/3)
			e.ID = id(119 - n)
			vary(rng, e)
			if of.id != "" && rng.IntN(2) == 0 {
				e.OrganizationID = of.id
			}
			b, err := e.Encode()
			if err != nil {
				s.Fatal(err)
			}
			given, read := s.stamp(payload(s, from, len(all)+1, b), of.stampOf(e))
			all = append(all, given)
			highest[e.ID] = read
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for batch := range slices.Chunk(all, 17) {
		s.write(batch)
	}
	return slices.SortedFunc(maps.Values(highest), func(a, b forwarder.Record) int { return byArrival(a.Entry, b.Entry) })
}

// selected is what a query selects of entries that are sorted by arrival, and matching
// the entries themselves.
func selected(entries []forwarder.Record, q forwarder.Query) (docs []string) {
	for _, r := range matching(entries, q) {
		docs = append(docs, string(r.JSON))
	}
	return docs
}

func matching(entries []forwarder.Record, q forwarder.Query) (all []forwarder.Record) {
	for _, r := range entries {
		if q.Matches(r.Entry) {
			all = append(all, r)
		}
	}
	if q.NewestFirst {
		slices.Reverse(all)
	}
	if q.Limit > 0 && len(all) > q.Limit {
		all = all[:q.Limit]
	}
	return all
}
