package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// wasteBytes is how much of the file may be of no use before it is written anew.
	wasteBytes = 4 << 20
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
	// unreadable is since when the disk gives nothing of the file.
	unreadable time.Time
	failing    bool // it was logged

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
	return q.b.owns()
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
	waste := size - live
	return waste > live+wasteBytes || size+need > q.bound() && waste > max(wasteBytes, q.bound()/8)
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

// rewrite makes the file anew: with what counts of it by all that the process knows,
// and an extra record. What must count and cannot be read any more is lost, and told.
// An error leaves the file as it was, or the new one in its place; both have all that
// was acknowledged. The caller holds io.
func (q *quarantine) rewrite(extra *record) error {
	err := q.tryRewrite(extra)
	if err != nil {
		q.due = true
		return fmt.Errorf("writing %q anew: %w", q.path(), err)
	}
	q.due, q.harmed, q.places, q.unreadable = false, false, nil, time.Time{}
	return nil
}

func (q *quarantine) tryRewrite(extra *record) error {
	path := q.path()
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n, err := createQuarantine(tmp)
	if err != nil {
		return err
	}
	var size int64
	lost, err := q.copy(n, extra)
	if err == nil {
		size, err = sizeOf(n.db)
	}
	if err == nil {
		err = errors.Join(at("rewrite"), n.file.Sync())
	}
	if err == nil {
		err = q.setAside(path, len(lost) > 0)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		n.close()
		_ = os.Remove(tmp)
		return err
	}
	// From here on the new file is the one: it has all that counts of the old one.
	if q.db != nil {
		q.letGo(q.db)
		q.db = nil
	}
	if q.file != nil {
		_ = q.file.Close()
	}
	q.file, q.places = n.file, nil
	q.setSize(size)
	q.lose(lost)
	if err := errors.Join(at("rewritten"), syncDir(q.b.dir)); err != nil {
		// Which of the two a start would find is not known, so nothing is added to either.
		q.letGo(n.db)
		return err
	}
	n.db.NoSync = false
	q.db = n.db
	return nil
}

// newQuarantine is a file that is being made.
type newQuarantine struct {
	db   *bolt.DB
	file *os.File
}

func createQuarantine(tmp string) (n newQuarantine, err error) {
	n.db, err = bolt.Open(tmp, segmentMode, &bolt.Options{
		Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoSync: true, // it is synced whole
	})
	if err != nil {
		return n, err
	}
	n.db.AllocSize = growBy
	err = guarded(func() error {
		return n.db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket(bucketRecords)
			return err
		})
	})
	if err == nil {
		n.file, err = os.OpenFile(tmp, os.O_RDWR, 0)
	}
	if err != nil {
		n.close()
	}
	return n, err
}

func (n *newQuarantine) close() {
	if db := n.db; db != nil {
		go func() { _ = db.Close() }()
	}
	if n.file != nil {
		_ = n.file.Close()
	}
}

// copy puts into a new file what counts, and the extra record last. It returns what
// counts and could not be read.
func (q *quarantine) copy(n newQuarantine, extra *record) (lost records[uint32], err error) {
	q.b.mu.Lock()
	lost = q.index.clone()
	q.b.mu.Unlock()
	if extra != nil {
		lost.drop(extra.meta.Store, extra.sequence)
	}
	var batch [][2][]byte
	size := 0
	flush := func() error {
		put := func(k *bolt.Bucket) error {
			k.FillPercent = 1
			for _, kv := range batch {
				if err := k.Put(kv[0], kv[1]); err != nil {
					return err
				}
			}
			return nil
		}
		err := guarded(func() error {
			return n.db.Update(func(tx *bolt.Tx) error { return put(tx.Bucket(bucketRecords)) })
		})
		batch, size = nil, 0
		return err
	}
	var failed error
	one := func(r record, raw []byte) bool {
		if r.as != 0 || !lost.has(r.meta.Store, r.sequence) {
			return true
		}
		lost.drop(r.meta.Store, r.sequence)
		batch = append(batch, [2][]byte{r.key(), append([]byte(nil), raw...)})
		if size += len(raw); size >= copyBytes {
			failed = flush()
		}
		return failed == nil
	}
	bad := q.read(nil, one)
	if failed == nil && len(lost) > 0 && q.file != nil && q.places == nil {
		// What its tree does not have may still be somewhere in the file.
		var places []recordPlace
		var err error
		if places, err = scanRecords(q.file); err == nil {
			err = walkPlaces(q.file, places, nil, one)
		}
		bad = errors.Join(bad, err)
	}
	if failed == nil && extra != nil {
		var raw []byte
		if raw, failed = extra.encode(); failed == nil {
			batch = append(batch, [2][]byte{extra.key(), raw})
		}
	}
	if failed == nil {
		failed = flush()
	}
	if failed == nil && len(lost) > 0 && outOfOrder(bad) {
		// The disk may come back; a record that was given up does not.
		if q.unreadable.IsZero() {
			q.unreadable = time.Now()
		}
		if time.Since(q.unreadable) < harmAfter {
			failed = bad
		}
	}
	return lost, failed
}

// setAside keeps a harmed file, and one that somebody has put in its place.
func (q *quarantine) setAside(path string, lost bool) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case q.file == nil || !same(path, q.file):
		return os.Rename(path, path+".replaced")
	case lost || q.harmed:
		if err := os.Link(path, path+setAside); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// keep is the keeper: it takes out of the file what was resolved, and sees to it that
// the file is there and whole.
func (q *quarantine) keep() {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-q.wake:
		case <-tick.C:
		case <-q.b.quit:
			return
		}
		q.io.Lock()
		err := q.tend()
		first := err != nil && !q.failing
		q.failing = err != nil
		q.io.Unlock()
		if first {
			q.b.log().Error("keeping the quarantine in order; it is tried again", "file", q.path(), "error", err)
		}
	}
}

// tend does what there is to do. The caller holds io.
func (q *quarantine) tend() error {
	gone := q.file != nil && !same(q.path(), q.file)
	q.b.mu.Lock()
	dead := q.dead.clone()
	stale := q.stale()
	q.b.mu.Unlock()
	if q.file == nil && !q.due {
		q.buried(dead, stale)
		return nil
	}
	dirty := len(dead) > 0 || len(stale) > 0
	anew := gone || q.due || dirty && (q.db == nil || len(stale) > 0) || q.db != nil && q.wasteful(0)
	if !anew && !dirty {
		return nil
	}
	if err := q.mayWrite(); err != nil {
		return err
	}
	if !anew {
		err := q.update("resolve", "resolved", func(k *bolt.Bucket) error { return q.bury(k, dead) })
		if err == nil {
			q.buried(dead, stale)
			return nil
		}
		q.doubt(err)
	}
	if err := q.rewrite(nil); err != nil {
		return err
	}
	if gone {
		q.b.log().Error("the quarantine was deleted or replaced behind our back; it is written again", "file", q.path())
	}
	q.buried(dead, stale)
	return nil
}

// bury puts in the place of records that were resolved what says so: until the file is
// written anew, a scan may still find the records themselves.
func (q *quarantine) bury(k *bolt.Bucket, dead records[Resolution]) error {
	for store, of := range dead {
		for sequence, as := range of {
			q.serial++
			r := record{
				as: as, sequence: sequence, serial: q.serial, at: time.Now().UnixMicro(),
				meta: recordMeta{Store: store},
			}
			raw, err := r.encode()
			if err == nil {
				err = k.Put(r.key(), raw)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// buried forgets what the file does not have any more. The caller holds io.
func (q *quarantine) buried(dead records[Resolution], stale records[struct{}]) {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for store, of := range dead {
		for sequence := range of {
			q.dead.drop(store, sequence)
			b.state.Resolved.drop(store, sequence)
			b.dirty = true
		}
	}
	for store, of := range stale {
		q.pending[store] = slices.DeleteFunc(q.pending[store], func(sequence uint64) bool {
			_, is := of[sequence]
			return is && !q.index.has(store, sequence)
		})
		if len(q.pending[store]) == 0 {
			delete(q.pending, store)
		}
	}
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
				r.payload = append([]byte(nil), r.payload...)
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

// repair writes a file anew that a start has found harmed, if the keeper has not done it
// yet, and reports whether it was.
func (q *quarantine) repair() (harmed bool, err error) {
	q.io.Lock()
	defer q.io.Unlock()
	if q.due {
		err = q.tend()
	}
	return q.found && err == nil, err
}
