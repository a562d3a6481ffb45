package forwarder

import (
	"cmp"
	"context"
	"slices"
)

// Range is a run of sequences of one buffer, both ends included.
type Range struct {
	Instance string `json:"instance"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// Checker is a store that remembers which sequences it has received, apart
// from the entries, since a higher revision takes the place of a lower one and
// the entry then bears only the newer sequence.
type Checker interface {
	// Received returns what has arrived, merged, by instance and sequence.
	Received(ctx context.Context) ([]Range, error)
	// Missing returns the holes: for each instance what is below its highest
	// received sequence, counted from 1, and has not arrived. A store that was
	// added later lacks the beginning; what is missing at the end shows only
	// beside the buffer's head.
	Missing(ctx context.Context) ([]Range, error)
}

// Ranges returns the sequences of a batch as merged ranges, by instance and
// sequence. Each record must have its origin.
func Ranges(records []Record) []Range {
	all := make([]Range, 0, 1)
	for _, r := range records {
		o := r.Entry.Origin
		if n := len(all); n > 0 && all[n-1].Instance == o.Instance && all[n-1].Last+1 == o.Sequence {
			all[n-1].Last = o.Sequence // the usual case: in sequence
			continue
		}
		all = append(all, Range{Instance: o.Instance, First: o.Sequence, Last: o.Sequence})
	}
	slices.SortFunc(all, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.First, b.First))
	})
	merged := all[:0]
	for _, r := range all {
		if n := len(merged); n > 0 && merged[n-1].Instance == r.Instance && r.First <= merged[n-1].Last+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Holes returns what lies between 1 and the last range of each instance and in
// none of them. The ranges are merged and sorted, as Checker.Received returns
// them.
func Holes(received []Range) []Range {
	var holes []Range
	next, instance := uint64(1), ""
	for _, r := range received {
		if r.Instance != instance {
			next, instance = 1, r.Instance
		}
		if r.First > next {
			holes = append(holes, Range{Instance: instance, First: next, Last: r.First - 1})
		}
		next = r.Last + 1
	}
	return holes
}
