package buffer

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Call is one call's way through the buffer: admitted, perhaps begun, then
// ended by exactly one of Append, Refuse and Fold, and released. It is used by one
// goroutine at a time.
type Call struct {
	b      *Buffer
	caller Caller
	intent ticket // its intent is zero until Begin
	last   *group // of what was appended last; nil until then
	size   int64  // reserved
	held   bool   // size is reserved
	seen   bool
	ended  bool
	passed bool
}

// Passed reports whether the call goes through unrecorded. Its other methods then
// do nothing.
func (c *Call) Passed() bool { return c.passed }

// Fold ends a call that has not begun, and that another call's entry stands for:
// its end is counted there, and nothing is written.
func (c *Call) Fold() {
	if c.ended || c.seen {
		return
	}
	c.ended, c.seen = true, true
	c.b.mu.Lock()
	c.b.state.Calls.Seen++
	c.b.state.Calls.Folded++
	c.b.dirty = true
	c.b.mu.Unlock()
}

// Begin makes the call's intent durable. The payload is what Open will record
// if the process ends before the call does; the buffer owns it from here on.
//
// After an error nothing is known to be durable and the call must not have
// its effect: end it with Refuse. Under OnFault Pass there is none when the disk is
// at fault: the call then passes, or if its intent is on its way, goes on with it.
func (c *Call) Begin(payload []byte) error {
	if c.passed {
		return nil
	}
	t, err := c.b.submit(operation{kind: opIntent, payload: payload, calls: c.count(Calls{}), call: c})
	if err != nil {
		c.seen = false
		return err
	}
	c.intent = t
	err = c.b.await(t.group)
	if err == nil || !c.b.passes() || errors.Is(err, ErrClosed) {
		return err
	}
	// Something on the disk has to say that this call is not, before it goes on.
	withdrawn := c.b.cancel(c)
	n := uint64(0)
	if withdrawn {
		n = 1
	}
	if c.b.pass(err, n) != nil {
		return err
	}
	if withdrawn {
		c.passed, c.seen, c.ended = true, true, true
	}
	return nil
}

// count adds Seen to the first durable trace of the call.
func (c *Call) count(n Calls) Calls {
	if !c.seen {
		n.Seen++
		c.seen = true
	}
	return n
}

// Append makes an entry of the call durable and returns nil only then. The
// first one ends the call; further ones are later revisions. The buffer owns
// the payload from here on.
//
// After ErrSlow the entry stays in hand and is recorded when the disk answers
// again; until then the call's intent stands. Under OnFault Pass a marker on the
// disk then says that answers leave before their record.
func (c *Call) Append(payload []byte) error {
	if err := c.AppendLater(payload); err != nil {
		return err
	}
	return c.Settle()
}

// Settle waits until what was appended last is durable, and returns what Append would
// have. Between AppendLater and Settle the caller can do what need not wait for the disk.
func (c *Call) Settle() error {
	if c.last == nil {
		return nil
	}
	err := c.b.await(c.last)
	if errors.Is(err, ErrSlow) && c.b.passes() {
		_ = c.b.pass(err, 0) // the answer leaves in any case
	}
	return err
}

// Intended reports whether the call's intent is durable: whatever becomes of its
// end, there is a record of it.
func (c *Call) Intended() bool {
	if c.intent.group == nil {
		return false
	}
	select {
	case <-c.intent.group.done:
		return c.intent.group.err == nil
	default:
		return false
	}
}

// Lenient reports whether calls that cannot be recorded go through at this moment.
func (c *Call) Lenient() bool { return c.b.passes() }

// AppendLater is Append without the wait: the entry is durable with one of the
// next commits. Settle waits for that.
func (c *Call) AppendLater(payload []byte) error {
	if c.passed {
		return nil
	}
	return c.append(payload, Calls{Recorded: 1})
}

// Refuse ends a call whose intent could not be made durable, with an entry
// that says so. It does not wait: the disk that refused the intent may take
// the entry only when it has healed.
func (c *Call) Refuse(payload []byte) error {
	c.b.cancel(c)
	return c.append(payload, Calls{Refused: 1})
}

func (c *Call) append(payload []byte, term Calls) error {
	o := operation{kind: opEntry, payload: payload, call: c}
	if !c.ended {
		o.completes, o.intent, o.calls = true, c.intent.intent, c.count(term)
	}
	t, err := c.b.submit(o)
	if err == nil {
		c.ended, c.last = true, t.group
	}
	return err
}

// Release gives back what Admit reserved. Every admitted call is released
// once, whatever else happened to it.
func (c *Call) Release() {
	if c.held {
		c.b.inFlight.Add(-1)
	}
	c.release()
}

func (c *Call) release() {
	if !c.held {
		return
	}
	c.held = false
	c.b.reserved.Add(-c.size)
	if !c.caller.Known {
		c.b.strangers.give(c.caller.Network, c.size)
	}
}

// Append makes an entry durable that belongs to no call, as the sidecar's own
// events do.
func (b *Buffer) Append(payload []byte) error {
	t, err := b.submit(operation{kind: opEntry, payload: payload})
	if err != nil {
		return err
	}
	return b.await(t.group)
}

type opKind uint8

const (
	opNone opKind = iota // cancelled
	opIntent
	opEntry
)

// operation is one thing to be made durable.
type operation struct {
	kind      opKind
	completes bool
	intent    uint64
	sequence  uint64 // given by the writer
	payload   []byte
	at        int64     // µs since the Unix epoch
	submitted time.Time // the same, by the clock that does not jump
	calls     Calls
	call      *Call // nil for what belongs to none
}

// group is what one commit makes durable. Its callers wait for one channel together, without a
// timer each: it is closed when the group is durable, or when the first of them has waited for
// long enough.
type group struct {
	ops  []operation
	done chan struct{} // closed when the writer is done with it
	err  error         // set before that

	answer   chan struct{}
	answered atomic.Bool
	waited   atomic.Bool // by somebody, so that there is a limit
	limit    atomic.Pointer[time.Timer]
}

// newGroup makes a group that is expected to have so many operations.
func newGroup(expected int) *group {
	return &group{ops: make([]operation, 0, expected), done: make(chan struct{}), answer: make(chan struct{})}
}

// finish wakes all who wait. The writer calls it once, and nobody looks at the operations
// afterwards. They are let go of: a call holds the group of its intent, in which there are
// other calls' outcomes, and so would keep all calls since the last lull in memory.
func (g *group) finish(err error) {
	g.ops = nil
	g.err = err
	close(g.done)
	g.wake()
	if t := g.limit.Load(); t != nil {
		t.Stop()
	}
}

func (g *group) wake() {
	if g.answered.CompareAndSwap(false, true) {
		close(g.answer)
	}
}

// ticket is where a submitted operation lies.
type ticket struct {
	group  *group
	index  int
	intent uint64 // the number of an intent; zero for an entry
}

// submit hands an operation to the writer.
func (b *Buffer) submit(o operation) (ticket, error) {
	if len(o.payload) > MaxPayload {
		return ticket{}, ErrTooLarge
	}
	o.submitted = time.Now()
	o.at = o.submitted.UnixMicro()
	b.mu.Lock()
	if b.ending {
		b.mu.Unlock()
		return ticket{}, ErrClosed
	}
	t := ticket{group: b.next, index: len(b.next.ops)}
	if o.kind == opIntent {
		o.intent = b.nextIntent
		t.intent = o.intent
		b.nextIntent++
	}
	b.next.ops = append(b.next.ops, o)
	n := len(b.next.ops)
	enough := n >= fullGroup || n >= b.lastGroup && 2*int64(n) >= b.inFlight.Load()
	b.mu.Unlock()
	if enough {
		signal(b.full)
	}
	signal(b.wake)
	return t, nil
}

// waitForCommit is the group of the next commit, which takes the state along that was
// changed. The caller holds mu, and signals the writer afterwards.
func (b *Buffer) waitForCommit() *group {
	b.next.ops = append(b.next.ops, operation{}) // so that there is a commit
	return b.next
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// cancel takes an intent back that the writer has not begun to write, and reports
// whether it did. One that it has stays, and the entry that follows completes it.
func (b *Buffer) cancel(c *Call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.intent.intent == 0 || c.intent.group != b.next {
		return false
	}
	b.next.ops[c.intent.index] = operation{}
	c.intent, c.seen = ticket{}, false
	return true
}

// await waits until the group is durable, at most MaxWait.
func (b *Buffer) await(g *group) error {
	err := g.await(time.Duration(b.maxWait.Load()))
	if errors.Is(err, ErrSlow) {
		b.tellSlow()
	}
	return err
}

// await waits until the group is durable, at most d.
func (g *group) await(d time.Duration) error {
	begun := time.Now()
	if !g.answered.Load() && g.waited.CompareAndSwap(false, true) {
		g.limit.Store(time.AfterFunc(d, g.wake))
	}
	<-g.answer
	select {
	case <-g.done:
		return g.err
	default:
	}
	// The disk is slow, and who came after the first one has some time left.
	t := time.NewTimer(d - time.Since(begun))
	defer t.Stop()
	select {
	case <-g.done:
		return g.err
	case <-t.C:
		return ErrSlow
	}
}

// tellSlow logs once that the disk keeps callers waiting.
func (b *Buffer) tellSlow() {
	if b.slow.CompareAndSwap(false, true) {
		b.log().Warn("the buffer's disk has not answered within max_wait; calls that need it cannot be recorded until it does",
			"directory", b.dir, "max_wait", time.Duration(b.maxWait.Load()))
	}
}

// Wait returns the head as soon as it is beyond after, or ctx's error.
func (b *Buffer) Wait(ctx context.Context, after uint64) (uint64, error) {
	for {
		b.mu.Lock()
		head, moved := b.head, b.headMoved
		b.mu.Unlock()
		if head > after {
			return head, nil
		}
		select {
		case <-moved:
		case <-b.done:
			return 0, ErrClosed
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
