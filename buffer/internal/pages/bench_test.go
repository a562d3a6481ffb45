package pages

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// countingReader counts reads.
type countingReader struct {
	*os.File
	reads atomic.Int64
}

func (r *countingReader) ReadAt(b []byte, at int64) (int, error) {
	r.reads.Add(1)
	return r.File.ReadAt(b, at)
}

// segment makes a file as the buffer does: 600-byte entries, appended by many
// commits.
func segment(b *testing.B, size int) (path string, entries int) {
	b.Helper()
	var transactions []func(tx *bolt.Tx) error
	transactions = append(transactions, func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("e"))
		return err
	})
	value := make([]byte, 600)
	for n := 0; n < size/700; n += 64 {
		transactions = append(transactions, func(tx *bolt.Tx) error {
			bucket := tx.Bucket([]byte("e"))
			bucket.FillPercent = 1
			for range 64 {
				entries++
				if err := bucket.Put(bigEndian(uint64(entries)), value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	file := create(b, 4096, transactions...)
	path = filepath.Join(b.TempDir(), "segment.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		b.Fatal(err)
	}
	return path, entries
}

// BenchmarkEach reads a healthy segment of 64 MiB whole, by this package and by
// bbolt, and 100 entries from its middle.
func BenchmarkEach(b *testing.B) {
	path, entries := segment(b, 64<<20)
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		b.Fatal(err)
	}
	r := &countingReader{File: file}
	f, err := Open(r, info.Size())
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, from []byte, want int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(f.Used() * int64(want) / int64(entries))
			r.reads.Store(0)
			for range b.N {
				n := 0
				if err := f.Each([]byte("e"), from, func(_, _ []byte) bool { n++; return n < want }); err != nil || n != want {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(r.reads.Load())/float64(b.N), "reads/op")
			b.ReportMetric(float64(want)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
	run("whole", nil, entries)
	run("hundred", bigEndian(uint64(entries/2)), 100)
	b.Run("open and one", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			f, err := Open(r, info.Size())
			if err != nil {
				b.Fatal(err)
			}
			if err := f.Each([]byte("e"), bigEndian(uint64(entries/3)), func(_, _ []byte) bool { return false }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bbolt whole", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(f.Used())
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		for range b.N {
			if err := db.View(func(tx *bolt.Tx) error {
				return tx.Bucket([]byte("e")).ForEach(func(_, _ []byte) error { return nil })
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scan", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(info.Size())
		for range b.N {
			if err := Scan(r, info.Size(), [4]byte{'A', 'U', 'D', '1'}, 1<<20, func(int64, []byte) int { return 1 }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
