package buffer

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// pace is how soon after a commit the next one may begin while fewer calls wait for it
// than for the one before, or most of those in flight do not wait. A commit costs processor
// time whatever it holds, so fewer and fuller ones leave more of it to the calls; a call
// that is alone waits for nothing.
const pace = 6 * time.Millisecond

// fullGroup is how many operations are worth a commit at once: more would cost each hardly
// less, and the calls can go on while these are written.
const fullGroup = 256

// write is the writer: the one goroutine that changes segments. It commits
// whatever was submitted while its last commit ran.
func (b *Buffer) write() {
	defer close(b.done)
	debug.SetPanicOnFault(true) // see guarded; it is this goroutine's for good
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	b.commit(b.take(true)) // what Open has found
	for {
		var flush bool
		select {
		case <-b.wake:
			b.gather()
			flush = b.suspect.Load()
		case <-tick.C:
			// Who looks at a disk that hangs waits with it, and callers must be told.
			b.busy()
			b.tellPending()
			b.watch()
			b.forgetRemoved()
			b.detachLagging()
			b.measureFree()
			b.sayRecorded()
			b.confirm()
			b.busySince.Store(0)
			flush = true
		case <-b.quit:
			b.sealing.Wait() // so that their checksums are stored
			// What waits has a commit of its own, which the last one confirms.
			b.commit(b.take(false))
			b.mu.Lock()
			b.state.Clean, b.dirty = true, true
			b.mu.Unlock()
			b.commit(b.take(true))
			b.closed = b.release()
			return
		}
		b.commit(b.take(flush))
	}
}

// gather waits until the next commit is worth its cost: as many wait for it as for the
// last one, and at least half of the calls in flight; or very many do; or the last one is long
// enough ago.
func (b *Buffer) gather() {
	// Those whom the last commit woke are about to submit again: let them, or
	// groups catch only half of the callers.
	runtime.Gosched()
	rest := pace - time.Since(b.lastCommit)
	if rest <= 0 {
		return
	}
	select {
	case <-b.full: // of this group, or of one before; then this commit is early, no more
		return
	default:
	}
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-b.full:
	case <-t.C:
	case <-b.quit:
	}
}

// batch is a group on its way to the disk.
type batch struct {
	group *group
	head  uint64 // sequence of its last entry
	calls Calls  // what the group adds
	state state  // with the group; nobody changes it
	sums  map[uint64]sum
}

// take closes the gathering group and fixes what its commit will hold. It
// returns nil when there is nothing to commit; with flush, positions and
// counts alone are something.
func (b *Buffer) take(flush bool) *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.next.ops) == 0 && !(flush && (b.dirty || b.passing != nil || b.excluded.Load() > 0)) {
		return nil
	}
	select {
	case <-b.full: // it was about this group
	default:
	}
	passed := b.tellPassed()
	t := &batch{group: b.next, head: b.head, calls: passed, sums: b.sums}
	b.lastGroup = len(b.next.ops)
	b.next, b.sums = newGroup(b.lastGroup), map[uint64]sum{}
	open := len(b.open)
	for i := range t.group.ops {
		o := &t.group.ops[i]
		switch o.kind {
		case opEntry:
			t.head++
			o.sequence = t.head
			if o.completes && o.intent != 0 {
				open--
			}
		case opIntent:
			open++
		}
		t.calls.add(o.calls)
	}
	n := b.excluded.Swap(0)
	t.calls.add(Calls{Seen: n, Excluded: n})
	b.inHand = passed
	b.inHand.add(Calls{Seen: n, Excluded: n})

	s := b.state.clone()
	s.Calls.add(t.calls)
	s.NextIntent, s.Head, s.Open = b.nextIntent, t.head, open
	s.Strangers = b.strangersIn(t)
	t.state = s
	b.dirty = false
	return t
}

// commit makes a batch durable, however long the disk takes to let it, and
// answers its callers. A commit that failed may or may not be on the disk, and
// reading it back proves nothing (the page cache answers), so it is written
// again into a new segment, whose first sequence declares whatever the old one
// holds from there on void. Only Close ends the attempts.
func (b *Buffer) commit(t *batch) {
	if t == nil {
		return
	}
	b.busy()
	defer b.busySince.Store(0)
	for again := false; ; again = true {
		if err := b.replace(); err != nil {
			b.abandon(t, err)
			return
		}
		start := time.Now()
		err := guarded(func() error { return b.apply(t) })
		if err == nil {
			err = b.owned()
		}
		if b.onCommit != nil {
			b.onCommit(Commit{Duration: time.Since(start), Err: err})
		}
		if err == nil {
			break
		}
		b.fails(err)
		b.mustReplace = true
		// A full disk may have room for a new segment, and none for what waits.
		if again && !b.rest() {
			b.abandon(t, err)
			return
		}
	}
	b.lastCommit = time.Now()
	b.unconfirmed = len(t.group.ops) > 0
	took := time.Since(b.clock) - time.Duration(b.busySince.Load())
	// The disk has answered, and what follows is its own wait: a call that comes upon those
	// answers is not refused for what they waited.
	b.busy()
	b.publish(t)
	if b.slow.CompareAndSwap(true, false) {
		b.log().Info("the buffer's disk answers again", "directory", b.dir, "after", took.Round(time.Millisecond))
	}
	b.unlinkDrained()
	if b.rotate() {
		b.detachLagging()
	}
}

// confirm has one more commit made when there was no further one by itself. The last commit
// may be taken for one that the disk does not have whole, if its pages are harmed later and
// the machine goes down; of one that holds nothing, nothing is lost then.
func (b *Buffer) confirm() {
	if !b.unconfirmed {
		return
	}
	b.mu.Lock()
	b.dirty = true
	b.mu.Unlock()
}

// busy notes that the writer is at the disk from now on.
func (b *Buffer) busy() { b.busySince.Store(max(1, int64(time.Since(b.clock)))) }

// abandon answers the callers of a batch that the disk did not take before Close.
func (b *Buffer) abandon(t *batch, err error) {
	t.group.finish(fmt.Errorf("%w: %w", ErrClosed, err))
}

// rest waits before another attempt. It reports false if the buffer is being closed.
func (b *Buffer) rest() bool {
	select {
	case <-b.quit:
		return false
	case <-time.After(retryEvery):
	}
	b.measureFree()
	return true
}

// apply writes a batch into the active segment in one transaction, and syncs it: once where
// syncOnce allows it.
//
// bbolt syncs twice, its pages before the meta page that names them. That order is
// what keeps a file of its whole when the machine goes down between the two. A segment
// can do without: the state tells a commit that is whole from one that is not, the
// commit before it is untouched, and nobody was answered. See loadTree.
func (b *Buffer) apply(t *batch) error {
	active := b.active()
	once := active.syncOnce(t.group.bytes())
	active.db.NoSync = once
	tx, err := active.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if err := at("append"); err != nil {
		return err
	}
	b.entries.reset()
	b.intents.reset()
	for i := range t.group.ops {
		o := &t.group.ops[i]
		f := frame{sequence: o.sequence, intent: o.intent, time: o.at, payload: o.payload}
		if o.completes {
			f.flags = flagCompletes
		}
		switch o.kind {
		case opIntent:
			b.intents.add(&f, o.intent)
		case opEntry:
			b.entries.add(&f, o.sequence)
		}
	}
	if err := b.entries.put(tx.Bucket(bucketEntries)); err != nil {
		return err
	}
	if err := b.intents.put(tx.Bucket(bucketIntents)); err != nil {
		return err
	}
	if err := putSums(tx, t.sums); err != nil {
		return err
	}
	if err := putState(tx, t.state, active.boot()); err != nil {
		return err
	}
	if err := at("commit"); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if once {
		if err := at("flush"); err != nil {
			return err
		}
		if err := active.db.Sync(); err != nil {
			return err
		}
	}
	if len(t.group.ops) == 0 {
		return at("position")
	}
	return at("committed")
}

// publish makes a durable batch visible and wakes its callers.
func (b *Buffer) publish(t *batch) {
	active := b.active()
	b.mu.Lock()
	b.state.Calls.add(t.calls)
	b.written, b.committed, b.armed = t.state, t.state.Stores, t.state.MayPass
	b.quarantine.published(t.state.Resolved)
	for i := range t.group.ops {
		o := &t.group.ops[i]
		switch {
		case o.kind == opIntent:
			b.open[o.intent] = &openIntent{payload: o.payload, at: o.at, begun: o.submitted}
		case o.completes && o.intent != 0:
			delete(b.open, o.intent)
		}
	}
	if t.head != b.head {
		b.head = t.head
		close(b.headMoved)
		b.headMoved = make(chan struct{})
	}
	b.telling, b.inHand = episode{}, Calls{}
	healed := b.failing != nil
	b.failing = nil
	b.mu.Unlock()
	for i := range t.group.ops {
		if o := &t.group.ops[i]; o.stranger() {
			b.strangers.wrote(active, o.call.caller.Network, o.size())
		}
	}
	t.group.finish(nil)
	if healed {
		b.log().Info("buffer's disk works again", "directory", b.dir, "after", time.Since(b.failedSince).Round(time.Millisecond))
	}
	b.measure()
}

// stranger reports whether an operation is of a caller that is not known.
func (o *operation) stranger() bool {
	return o.kind != opNone && o.call != nil && !o.call.caller.Known
}

// bytes is what a group takes of a segment, about.
func (g *group) bytes() (n int64) {
	for i := range g.ops {
		n += g.ops[i].size()
	}
	return n
}

// size is what an operation takes of a segment, about.
func (o *operation) size() int64 { return int64(len(o.payload)) + frameHeader + 24 }

// strangersIn is what callers that are not known will have in the active segment
// with a batch.
func (b *Buffer) strangersIn(t *batch) (n int64) {
	for i := range t.group.ops {
		if o := &t.group.ops[i]; o.stranger() {
			n += o.size()
		}
	}
	b.segMu.Lock()
	defer b.segMu.Unlock()
	if len(b.segments) > 0 {
		if s := b.segments[len(b.segments)-1]; s.db != nil {
			n += b.strangers.of(s)
		}
	}
	return n
}

// fails notes that the disk fails, and logs the first time.
func (b *Buffer) fails(err error) {
	b.mu.Lock()
	first := b.failing == nil
	b.failing = err
	b.mu.Unlock()
	if first {
		b.failedSince = time.Now()
		b.log().Error("buffer's disk fails; calls that need it cannot be recorded until it works",
			"directory", b.dir, "error", err)
	}
}

// tellPending appends an entry for each intent that has been open for long.
// They are made while nobody is kept from submitting.
func (b *Buffer) tellPending() {
	if b.pending == nil {
		return
	}
	now := time.Now()
	long := map[uint64][]byte{}
	b.mu.Lock()
	// A call whose end waits for a disk that takes nothing is not open any longer.
	ended := map[uint64]bool{}
	for i := range b.next.ops {
		if o := &b.next.ops[i]; o.completes {
			ended[o.intent] = true
		}
	}
	for n, o := range b.open {
		if !o.told && !ended[n] && now.Sub(o.begun) >= b.pendAge {
			o.told = true
			long[n] = o.payload
		}
	}
	b.mu.Unlock()
	for _, n := range sortedKeys(long) {
		p := b.pending(long[n])
		b.mu.Lock()
		if p != nil && b.open[n] != nil && !b.ending {
			b.next.ops = append(b.next.ops, operation{kind: opEntry, intent: n, payload: p, at: now.UnixMicro()})
		}
		b.mu.Unlock()
	}
}

func putSums(tx *bolt.Tx, sums map[uint64]sum) error {
	for _, first := range sortedKeys(sums) {
		if err := tx.Bucket(bucketSums).Put(putKey(new([8]byte), first), sums[first].encode()); err != nil {
			return err
		}
	}
	return nil
}
