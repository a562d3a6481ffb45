package summary

import "math/bits"

// Filter is a Bloom filter (Bloom, 1970) of keys: it knows of some that they are not in it,
// and of all others that they may be. Its bytes are its format: the first is the number of
// probes, and each further one has eight bits, the lowest first. Probe i of a key is the
// bit at (h1 + i·h2) mod 2^32, scaled down to the number of bits, where h1 and h2 are the
// key's halves and h2 is odd. No bytes at all are the filter that may have everything.
type Filter []byte

const (
	// bitsPerKey and probes let one of a hundred keys that are not there pass, or three
	// when a filter has half as many again as it was made for.
	bitsPerKey = 10
	probes     = 7
	// leastBytes leaves a filter of few keys room for some more.
	leastBytes = 32
	maxProbes  = 32
)

// newFilter makes one with room for so many keys.
func newFilter(keys int) Filter {
	f := make(Filter, 1+max(leastBytes, (keys*bitsPerKey+7)/8))
	f[0] = probes
	return f
}

// Add adds a key.
func (f Filter) Add(key uint64) {
	for i := range f.probes() {
		at := f.bit(key, i)
		f[1+at/8] |= 1 << (at % 8)
	}
}

// Has reports whether a key may be there.
func (f Filter) Has(key uint64) bool {
	for i := range f.probes() {
		at := f.bit(key, i)
		if f[1+at/8]&(1<<(at%8)) == 0 {
			return false
		}
	}
	return true
}

// probes is zero for one that may have everything, as is one that nobody here has made.
func (f Filter) probes() uint32 {
	if len(f) < 2 || f[0] > maxProbes {
		return 0
	}
	return uint32(f[0])
}

func (f Filter) bit(key uint64, probe uint32) uint64 {
	at := uint32(key) + probe*(uint32(key>>32)|1)
	high, _ := bits.Mul64(uint64(at)<<32, uint64(len(f)-1)*8)
	return high
}
