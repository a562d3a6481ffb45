package forwarder

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func recordsOf(instance string, sequences ...uint64) []Record {
	var records []Record
	for _, n := range sequences {
		records = append(records, Record{Sequence: n, Entry: &audit.Entry{Origin: &audit.Origin{Instance: instance, Sequence: n}}})
	}
	return records
}

func TestRangesMergeWhateverTheOrder(t *testing.T) {
	records := append(recordsOf("b", 7, 8, 3, 5, 4, 4, 8), recordsOf("a", 2, 1)...)
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	want := []Range{{"a", 1, 2}, {"b", 3, 5}, {"b", 7, 8}}
	if diff := cmp.Diff(want, Ranges(records)); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if got := Ranges(nil); len(got) != 0 {
		t.Errorf("ranges of nothing: %v", got)
	}
}

func TestHolesCountFromOneForEachInstance(t *testing.T) {
	received := []Range{{"a", 1, 4}, {"a", 6, 9}, {"a", 20, 20}, {"b", 3, 3}, {"c", 1, 1}}
	want := []Range{{"a", 5, 5}, {"a", 10, 19}, {"b", 1, 2}}
	if diff := cmp.Diff(want, Holes(received)); diff != "" {
		t.Errorf("holes (-want +got):\n%s", diff)
	}
}
