package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// pair is a key and its value in a bucket.
type pair struct{ bucket, k, v string }

func bigEndian(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// create makes a bbolt file by the given transactions and returns its bytes.
func create(t testing.TB, pageSize int, transactions ...func(tx *bolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: pageSize, NoSync: true, NoGrowSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	for _, transaction := range transactions {
		if err := db.Update(transaction); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's own check: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// size of a value: mostly small, seldom as large as the buffer's largest.
func randomValue(r *rand.Rand, largest int) []byte {
	n := r.IntN(700)
	switch r.IntN(40) {
	case 0:
		n = 0
	case 1:
		n = r.IntN(40 << 10)
	case 2:
		if r.IntN(20) == 0 {
			n = largest - r.IntN(3)
		}
	}
	n = min(n, largest)
	v := make([]byte, n)
	for i := 0; i < n; i += 8 {
		copy(v[i:], bigEndian(r.Uint64()))
	}
	return v
}

// randomFile makes a file like those of the buffer and unlike them: "append"
// is only appended to, now and then by a bucket of its own, "random" takes any key and loses some, "emptied" loses
// all, "inline" stays small, "state" has one key; and there are many further
// small buckets, so that the buckets themselves take a branch.
func randomFile(t testing.TB, r *rand.Rand, pageSize, commits, largest int, further int) []byte {
	t.Helper()
	var next uint64
	transactions := make([]func(tx *bolt.Tx) error, 0, commits)
	transactions = append(transactions, func(tx *bolt.Tx) error {
		for _, name := range []string{"append", "random", "emptied", "inline", "state", "empty"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for i := range further {
			b, err := tx.CreateBucket(fmt.Appendf(nil, "further %04d", i))
			if err != nil {
				return err
			}
			for j := range r.IntN(3) {
				if err := b.Put(bigEndian(uint64(j)), randomValue(r, 20)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for c := range commits {
		transactions = append(transactions, func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("append"))
			b.FillPercent = 1.0
			for range r.IntN(60) {
				next++
				if r.IntN(10) > 0 {
					if err := b.Put(bigEndian(next), randomValue(r, largest)); err != nil {
						return err
					}
					continue
				}
				n := uint64([]int{1, 1, 1, 3, 200}[r.IntN(5)])
				within, err := b.CreateBucket(bigEndian(next + n - 1))
				if err != nil {
					return err
				}
				for i := range n {
					if err := within.Put(bigEndian(next+i), randomValue(r, largest)); err != nil {
						return err
					}
				}
				next += n - 1
			}
			b = tx.Bucket([]byte("random"))
			for range r.IntN(60) {
				if err := b.Put(bigEndian(r.Uint64N(4000)), randomValue(r, largest)); err != nil {
					return err
				}
			}
			for range r.IntN(80) {
				if err := b.Delete(bigEndian(r.Uint64N(4000))); err != nil {
					return err
				}
			}
			b = tx.Bucket([]byte("emptied"))
			for i := range 100 {
				var err error
				if c == commits-1 {
					err = b.Delete(bigEndian(uint64(i)))
				} else {
					err = b.Put(bigEndian(uint64(i)), randomValue(r, 300))
				}
				if err != nil {
					return err
				}
			}
			if err := tx.Bucket([]byte("inline")).Put(bigEndian(uint64(c%3)), randomValue(r, 10)); err != nil {
				return err
			}
			return tx.Bucket([]byte("state")).Put([]byte("state"), randomValue(r, 3000))
		})
	}
	return create(t, pageSize, transactions...)
}

// cursorPairs is what bbolt itself finds.
func cursorPairs(t testing.TB, file []byte) (all []pair) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oracle.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			var each func(b *bolt.Bucket) error
			each = func(b *bolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					if v == nil {
						return each(b.Bucket(k))
					}
					all = append(all, pair{string(name), string(k), string(v)})
					return nil
				})
			}
			return each(b)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func open(t testing.TB, file []byte) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func each(f *File, bucket string, from []byte, most int) (got []pair, err error) {
	err = f.Each([]byte(bucket), from, func(k, v []byte) bool {
		got = append(got, pair{bucket, string(k), string(v)})
		return len(got) != most
	})
	return got, err
}

func diff(t testing.TB, what string, got, want []pair) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d pairs, bbolt has %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: pair %d is %x: %d bytes; bbolt has %x: %d bytes", what, i, got[i].k, len(got[i].v), want[i].k, len(want[i].v))
		}
	}
}

// TestEachIsWhatBboltReads holds healthy files against bbolt's own reading:
// each bucket whole, and parts from any key.
func TestEachIsWhatBboltReads(t *testing.T) {
	for seed := range uint64(12) {
		pageSize := []int{4096, 512, 1024, 16 << 10, 64 << 10, 4096}[seed%6]
		t.Run(fmt.Sprintf("seed %d pages of %d", seed, pageSize), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			file := randomFile(t, r, pageSize, 3+int(seed)*4, 1<<20+37, int(seed%4)*60)
			buckets := map[string][]pair{"append": nil, "random": nil, "emptied": nil, "inline": nil, "state": nil, "empty": nil}
			for _, p := range cursorPairs(t, file) {
				buckets[p.bucket] = append(buckets[p.bucket], p)
			}
			f := open(t, file)
			if f.MetaDamaged() || f.PageSize() != pageSize || f.Used() > int64(len(file)) || f.Used() < int64(pageSize)*4 {
				t.Fatalf("meta damaged %v, page size %d, used %d of %d", f.MetaDamaged(), f.PageSize(), f.Used(), len(file))
			}
			for bucket, want := range buckets {
				got, err := each(f, bucket, nil, 0)
				if err != nil {
					t.Fatal(err)
				}
				diff(t, bucket, got, want)
				for range 40 {
					from := bigEndian(r.Uint64N(4100))
					if r.IntN(4) == 0 {
						from = from[:r.IntN(9)]
					}
					first := 0
					for first < len(want) && want[first].k < string(from) {
						first++
					}
					most := 1 + r.IntN(30)
					got, err := each(f, bucket, from, most)
					if err != nil {
						t.Fatal(err)
					}
					diff(t, fmt.Sprintf("%s from %x", bucket, from), got, want[first:min(len(want), first+most)])
				}
			}
			if _, err := each(f, "none", nil, 0); !errors.Is(err, ErrDamaged) {
				t.Errorf("a bucket that is not there: %v", err)
			}
		})
	}
}
