package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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

// What a full commit writes is its entries, once, in few pieces: each piece is a system call,
// and DESIGN.md says how many there are.
func TestACommitIsWrittenInFewPieces(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ entries, size, writes int }{
		{1, 600, 4}, {8, 600, 6}, {24, 900, 5}, {64, 900, 5}, {600, 900, 13},
	} {
		b := open(t, newDir(t), Options{MaxWait: time.Minute})
		commit := func() {
			payloads := make([][]byte, test.entries)
			for i := range payloads {
				payloads[i] = make([]byte, test.size)
			}
			together(t, b, payloads)
		}
		commit()
		// The writer commits what is due by itself now and then: the least counts.
		least := int64(math.MaxInt64)
		for range 20 {
			of := b.active().db
			before := of.Stats()
			commit()
			after := of.Stats()
			if n := after.TxStats.GetWrite() - before.TxStats.GetWrite(); of == b.active().db && n > 0 {
				least = min(least, n)
			}
		}
		if least > int64(test.writes) {
			t.Errorf("%d entries of %d bytes take %d writes, want at most %d", test.entries, test.size, least, test.writes)
		}
		shut(t, b)
	}
}

// Each who waits has the time that he is given, though the one before him is told that the disk
// is slow.
func TestWhoWaitsWithOthersWaitsForHisOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(0)
		var first, second, third error
		var all sync.WaitGroup
		all.Go(func() { first = g.await(2 * time.Second) })
		time.Sleep(time.Second)
		all.Go(func() { second = g.await(2 * time.Second) })
		all.Go(func() { third = g.await(1500 * time.Millisecond) })
		time.Sleep(1900 * time.Millisecond)
		g.finish(nil)
		all.Wait()
		if !errors.Is(first, ErrSlow) || second != nil || !errors.Is(third, ErrSlow) {
			t.Errorf("%v, %v, %v", first, second, third)
		}
		if err := g.await(time.Second); err != nil {
			t.Errorf("after its end: %v", err)
		}
	})
}
