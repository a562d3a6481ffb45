package buffer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

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
	lost, live, err := q.copy(n, extra)
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
	q.waste = max(0, size-live)
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

func (n *newQuarantine) update(change func(*bolt.Bucket) error) error {
	return guarded(func() error {
		return n.db.Update(func(tx *bolt.Tx) error {
			k := tx.Bucket(bucketRecords)
			k.FillPercent = 1
			return change(k)
		})
	})
}

// resolvedRecord is what a file says of an entry that was resolved.
type resolvedRecord struct {
	serial   uint64
	key, raw []byte
}

// newestResolved are those that a file keeps when it is written anew: a start beside a
// harmed segment learns from them what it does not know any more.
func newestResolved(list []resolvedRecord) []resolvedRecord {
	slices.SortFunc(list, func(a, b resolvedRecord) int { return cmp.Compare(b.serial, a.serial) })
	return list[:min(len(list), keepResolved)]
}

// copy puts into a new file what counts, and the extra record last. It returns what
// counts and could not be read, and the footprint of what counts.
func (q *quarantine) copy(n newQuarantine, extra *record) (lost records[uint32], live int64, err error) {
	q.b.mu.Lock()
	lost, live = q.index.clone(), q.live
	dead := q.dead.clone()
	q.b.mu.Unlock()
	var resolved []resolvedRecord
	if extra != nil {
		lost.drop(extra.meta.Store, extra.sequence)
	}
	var batch [][2][]byte
	size := 0
	flush := func() error {
		err := n.update(func(k *bolt.Bucket) error {
			for _, kv := range batch {
				if err := k.Put(kv[0], kv[1]); err != nil {
					return err
				}
			}
			return nil
		})
		batch, size = nil, 0
		return err
	}
	var failed error
	one := func(r record, raw []byte) bool {
		if r.as != 0 {
			resolved = append(resolved, resolvedRecord{r.serial, r.key(), bytes.Clone(raw)})
			if len(resolved) >= 2*keepResolved {
				resolved = newestResolved(resolved)
			}
			return true
		}
		if !lost.has(r.meta.Store, r.sequence) {
			return true
		}
		lost.drop(r.meta.Store, r.sequence)
		batch = append(batch, [2][]byte{r.key(), bytes.Clone(raw)})
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
	if failed == nil {
		failed = flush()
	}
	if failed == nil {
		failed = n.update(func(k *bolt.Bucket) error {
			for _, r := range newestResolved(resolved) {
				if k.Get(r.key) == nil {
					if err := k.Put(r.key, r.raw); err != nil {
						return err
					}
				}
			}
			return q.bury(k, dead)
		})
	}
	if failed == nil && extra != nil {
		var raw []byte
		if raw, failed = extra.encode(); failed == nil {
			live += footprint(len(raw))
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
	return lost, live, failed
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
