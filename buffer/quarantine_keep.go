package buffer

import (
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

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
		begins := err != nil && q.tending.failed()
		after, ends := time.Duration(0), false
		if err == nil {
			after, ends = q.tending.ended()
		}
		q.io.Unlock()
		switch {
		case begins:
			q.b.log().Error("keeping the quarantine in order; it is tried again", "file", q.path(), "error", err)
		case ends:
			q.b.log().Info("the quarantine is in order again", "file", q.path(), "after", after)
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
