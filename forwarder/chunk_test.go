package forwarder

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A chunk is what one would get by decoding one entry after the other, however many there
// are.
func TestAChunkIsWhatItsSourceHolds(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	source := newFakeSource()
	for n := range 3000 {
		p := payload(t, n+1)
		switch rng.IntN(50) {
		case 0:
			p = []byte("no entry")
		case 1:
			p = slices.Concat([]byte(`{"x":"`), make([]byte, rng.IntN(100_000)), p)
		}
		source.append(p)
	}
	var c chunk
	for range 200 {
		from, entries, size := 1+rng.Uint64N(3000), 1+rng.IntN(chunkEntries), 1+rng.IntN(1<<rng.IntN(22))
		got, err := c.read(source, from, entries, size)
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for i, d := range got {
			if d.sequence != from+uint64(i) {
				t.Fatalf("entry %d stands where entry %d belongs", d.sequence, from+uint64(i))
			}
			if i > 0 && (i >= entries || bytes+roomForStamps*i >= size) {
				t.Fatalf("%d entries and %d bytes, of %d and %d", len(got), bytes, entries, size)
			}
			p := source.payloads[d.sequence-1]
			bytes += len(p)
			want, err := NewRecord(testInstance, d.sequence, p)
			if (err != nil) != (d.err != nil) {
				t.Fatalf("entry %d: %v, want %v", d.sequence, d.err, err)
			}
			if err == nil && (string(want.JSON) != string(d.record.JSON) || want.Entry.ID != d.record.Entry.ID) {
				t.Fatalf("entry %d is %s, want %s", d.sequence, d.record.JSON, want.JSON)
			}
		}
		if whole := len(got) == entries || bytes+roomForStamps*len(got) >= size || got[len(got)-1].sequence == 3000; !whole {
			t.Fatalf("%d entries and %d bytes, of %d and %d: there were more", len(got), bytes, entries, size)
		}
		if rng.IntN(3) == 0 {
			c.clear()
		}
	}
}
