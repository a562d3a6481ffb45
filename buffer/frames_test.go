package buffer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// Whatever commits hold, few entries or many, small or large, each is read from wherever
// one begins, from the segment that is written to as from one that is sealed.
func TestEntriesAreReadFromAnyOneOfThemOnHoweverTheyWereCommitted(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir := newDir(t)
	b := open(t, dir, Options{SegmentSize: 1 << 20})
	b.Hold("store")
	var want [][]byte
	for range 60 {
		var group [][]byte
		for range 1 + rnd.IntN([]int{1, 10, 300}[rnd.IntN(3)]) {
			size := rnd.IntN([]int{100, 2000, 2000, 2000, 20_000}[rnd.IntN(5)])
			if rnd.IntN(200) == 0 {
				size = []int{runTo, MaxPayload}[rnd.IntN(2)] - 20
			}
			group = append(group, append(fmt.Appendf(nil, "entry %d ", len(want)+len(group)+1), bytes.Repeat([]byte("x"), size)...))
		}
		together(t, b, group)
		want = append(want, group...)
	}
	check := func(when string, read func(from uint64, visit func(uint64, []byte) bool) error) {
		t.Helper()
		for from := 1; from <= len(want); from += 1 + rnd.IntN(40) {
			next, most := from, 1+rnd.IntN(200)
			err := read(uint64(from), func(n uint64, payload []byte) bool {
				if n != uint64(next) || !bytes.Equal(payload, want[next-1]) {
					t.Fatalf("%s, from %d: entry %d is %.20q, want %.20q", when, from, n, payload, want[next-1])
				}
				next++
				return next < from+most
			})
			if err != nil || next != min(from+most, len(want)+1) {
				t.Fatalf("%s, from %d: %d entries of %d, %v", when, from, next-from, most, err)
			}
		}
	}
	check("as they were written", b.Read)
	shut(t, b)
	o, err := OpenOffline(dir)
	if err != nil {
		t.Fatal(err)
	}
	check("offline", o.Read)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir, Options{SegmentSize: 1 << 20})
	check("after a restart", b.Read)
}

// What a full commit writes is its entries, once, in few pieces: a tree of many small values
// is what a commit's processor time went to.
func TestARunIsWrittenInOnePiece(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ entries, size, writes int }{
		{1, 600, 6}, {8, 600, 7}, {24, 600, 7}, {64, 600, 7}, {600, 600, 13},
	} {
		db, err := bolt.Open(filepath.Join(t.TempDir(), "segment.db"), segmentMode, nil)
		if err != nil {
			t.Fatal(err)
		}
		number := uint64(0)
		commit := func() {
			t.Helper()
			err := db.Update(func(tx *bolt.Tx) error {
				e, err := tx.CreateBucketIfNotExists(bucketEntries)
				if err != nil {
					return err
				}
				var fs frames
				for range test.entries {
					number++
					fs.add(&frame{sequence: number, payload: make([]byte, test.size)}, number)
				}
				return fs.put(e)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			commit()
		}
		before := db.Stats()
		const n = 20
		for range n {
			commit()
		}
		after := db.Stats()
		if writes := after.TxStats.GetWrite() - before.TxStats.GetWrite(); writes > int64(n*test.writes) {
			t.Errorf("%d entries of %d bytes take %.1f writes a commit, want at most %d", test.entries, test.size, float64(writes)/n, test.writes)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
