package buffer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	quarantineName = "quarantine.db"
	// quarantineShare is the part of MaxSize that quarantine may use, one in so many
	// bytes; but one entry of any size always finds room.
	quarantineShare, leastOfQuarantine = 8, 1<<20 + MaxPayload
	// copyBytes is what one transaction copies when the file is written anew, and what a
	// page of Quarantined holds; pageRecords bounds how many records that looks at.
	copyBytes   = 1 << 20
	pageRecords = 512
	// wasteBytes is how much of the file may become of no use before it is written anew,
	// beside as much as is of use. What is bounded are the records; bbolt needs up to
	// about so much besides.
	wasteBytes = 4 << 20
	// keepResolved is how many resolutions a file keeps that is written anew.
	keepResolved = 1024
)

var bucketRecords = []byte("q")

// quarantine is quarantine.db, and what the process knows of it.
//
// Two locks, io before Buffer.mu. io is held by who works on the file, for as long as
// the disk takes: the caller of Quarantine, one of Quarantined for a page of records,
// and the keeper, which is a goroutine of its own. Whoever has mu must not ask for io,
// and the writer does only at the very end, when the file is closed: until nobody works
// on it any more the directory stays locked. So a disk that hangs keeps nobody else.
//
// The file is read with pread alone, by a reader that no damage can bring down. bbolt
// opens what this process has made: the first change of a process writes the file anew,
// as a start begins a new segment, and so does every one after a commit that failed.
type quarantine struct {
	b *Buffer

	io   sync.Mutex // guards what follows
	file *os.File   // nil while there is none
	// db is of the same inode; nil until the file has to be changed, and after what is
	// in doubt: then it must be written anew first.
	db     *bolt.DB
	places []recordPlace // of a file that had to be scanned; else nil
	// due says that the file is to be written anew though nothing is to be changed.
	due    bool
	harmed bool // set it aside then
	closed bool
	found  bool // a start has found it harmed
	serial uint64
	waste  int64 // what was of no use when it was last written anew
	// unreadable is since when the disk gives nothing of the file.
	unreadable time.Time
	tending    trouble

	// Guarded by Buffer.mu.
	index records[uint32] // what counts of the file: the size of each record
	live  int64           // their footprint
	// pending are records beyond their store's position, in the order in which they were
	// put: those the store is about to count, and, not in the index, those that it will
	// try again.
	pending map[string][]uint64
	// dead are those whose resolution is on the disk, and that the file still has.
	dead records[Resolution]

	size    atomic.Int64 // of the file, in bytes in use
	wake    chan struct{}
	keeping sync.WaitGroup
}

func (q *quarantine) begin(b *Buffer) {
	q.b, q.wake = b, make(chan struct{}, 1)
	q.index, q.pending, q.dead = records[uint32]{}, map[string][]uint64{}, records[Resolution]{}
}

func (q *quarantine) path() string { return filepath.Join(q.b.dir, quarantineName) }

// bound is what quarantine may use, in bytes.
func (q *quarantine) bound() int64 {
	return max(q.b.maxSize.Load()/quarantineShare, leastOfQuarantine)
}

// mayWrite reports why the file must not be changed. The caller holds io.
func (q *quarantine) mayWrite() error {
	if q.closed {
		return ErrClosed
	}
	return q.b.owned()
}

// put makes a record durable, in one transaction, or if that is in doubt, by writing the
// file anew with it. The caller holds io. After an error the file may or may not have
// it, and the next change begins with writing it anew.
func (q *quarantine) put(r *record) error {
	raw, err := r.encode()
	if err != nil {
		return err
	}
	if q.db != nil && !q.wasteful(footprint(len(raw))) {
		err := q.update("quarantine", "quarantined", func(k *bolt.Bucket) error { return k.Put(r.key(), raw) })
		if err == nil {
			return nil
		}
		q.doubt(err)
	}
	return q.rewrite(r)
}

// update makes one transaction durable. The caller holds io.
func (q *quarantine) update(before, after string, change func(*bolt.Bucket) error) error {
	err := guarded(func() error {
		return q.db.Update(func(tx *bolt.Tx) error {
			k := tx.Bucket(bucketRecords)
			k.FillPercent = 1
			if err := change(k); err != nil {
				return err
			}
			return at(before)
		})
	})
	if err == nil {
		err = at(after)
	}
	var size int64
	if err == nil {
		size, err = sizeOf(q.db)
	}
	if err == nil {
		q.setSize(size)
	}
	return err
}

// sizeOf is what a database uses of its file, in bytes.
func sizeOf(db *bolt.DB) (n int64, err error) {
	err = guarded(func() error {
		return db.View(func(tx *bolt.Tx) error {
			n = tx.Size()
			return nil
		})
	})
	return n, err
}

// setSize notes the size, for admission too.
func (q *quarantine) setSize(n int64) {
	q.b.segMu.Lock()
	defer q.b.segMu.Unlock()
	q.b.used.Add(n - q.size.Swap(n))
}

// doubt gives up a database of which a commit has failed. The caller holds io.
func (q *quarantine) doubt(err error) {
	if q.db == nil {
		return
	}
	q.b.log().Warn("a commit to quarantine failed; the file is written anew", "file", q.path(), "error", err)
	q.letGo(q.db)
	q.db, q.due = nil, true
}

// letGo closes a database. That can wait for a transaction that a fault has cut, so
// nobody waits for it.
func (q *quarantine) letGo(db *bolt.DB) { go func() { _ = db.Close() }() }

// wasteful reports whether much of the file is of no use: what was resolved leaves its
// room to what comes, but keeps it from the segments.
func (q *quarantine) wasteful(need int64) bool {
	q.b.mu.Lock()
	live := q.live
	q.b.mu.Unlock()
	size := q.size.Load()
	waste := size - live - q.waste
	part := q.bound() / 8
	return waste > live+min(wasteBytes, part) || size+need > q.bound() && waste > part
}

// read visits what the file has, from a key on. The caller holds io.
func (q *quarantine) read(from []byte, visit func(r record, raw []byte) bool) error {
	switch {
	case q.file == nil:
		return nil
	case q.places != nil:
		return walkPlaces(q.file, q.places, from, visit)
	}
	return walkRecords(q.file, from, visit)
}

// close waits for who works on the file. The writer calls it last.
func (q *quarantine) close() {
	if q.b == nil {
		return
	}
	q.keeping.Wait()
	q.io.Lock()
	defer q.io.Unlock()
	q.closed = true
	if q.db != nil {
		_ = guarded(q.db.Close)
		q.db = nil
	}
	if q.file != nil {
		_ = q.file.Close()
		q.file = nil
	}
}

// page reads some records of a store, or of all, from a key on, and says where to go
// on; nil at the end. It holds io only for that.
func (q *quarantine) page(store string, from []byte) (list []record, next []byte, err error) {
	q.io.Lock()
	defer q.io.Unlock()
	if q.closed {
		return nil, nil, ErrClosed
	}
	read := func() error {
		list, next = nil, nil
		size, seen := 0, 0
		return q.read(from, func(r record, raw []byte) bool {
			if store != "" && r.meta.Store != store {
				return false
			}
			if r.as == 0 && q.counts(r.meta.Store, r.sequence) {
				r.payload = bytes.Clone(r.payload)
				list = append(list, r)
				size += len(raw)
			}
			if seen++; size >= copyBytes || seen >= pageRecords {
				next = append(r.key(), 0)
				return false
			}
			return true
		})
	}
	err = read()
	if err != nil && q.places == nil && q.b.quit != nil {
		// What the tree does not give is looked for in all of the file.
		q.harmed = true
		if mayNot := q.mayWrite(); mayNot != nil {
			return list, next, errors.Join(err, mayNot)
		}
		if err = q.rewrite(nil); err == nil {
			err = read()
		}
	}
	return list, next, err
}

// counts reports whether an entry is in quarantine.
func (q *quarantine) counts(store string, sequence uint64) bool {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	return q.index.has(store, sequence) && !q.b.state.Resolved.has(store, sequence)
}
