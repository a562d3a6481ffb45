package buffer

import (
	"context"
	"time"
)

// Call is one call's way through the buffer: admitted, perhaps begun, then
// ended by exactly one of Append, Refuse and Fold, and released. It is used by one
// goroutine at a time.
type Call struct {
	b        *Buffer
	intent   ticket // its intent is zero until Begin
	reserved int64
	seen     bool
	ended    bool
}

// Admit decides whether a call may be let through, before anything of it
// happens. It reserves room for the call's end, in bytes, so that the end
// can be recorded however full the buffer is by then. It fails with ErrFull
// or ErrSlow; the call then counts as refused and must not have its effect.
func (b *Buffer) Admit(reserve int) (*Call, error) {
	if since := b.busySince.Load(); since != 0 && int64(time.Since(b.clock))-since > b.maxWait.Load() {
		b.tellSlow()
		b.refuse()
		return nil, ErrSlow
	}
	size := int64(reserve)
	if b.reserved.Add(size)+b.size() > b.maxSize.Load() {
		b.reserved.Add(-size)
		b.refuse()
		return nil, ErrFull
	}
	return &Call{b: b, reserved: size}, nil
}

func (b *Buffer) refuse() {
	b.mu.Lock()
	b.state.Calls.Seen++
	b.state.Calls.Refused++
	b.dirty = true
	b.mu.Unlock()
}

// Exclude counts a call that the policy does not record.
func (b *Buffer) Exclude() { b.excluded.Add(1) }

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
// its effect: end it with Refuse.
func (c *Call) Begin(payload []byte) error {
	t, err := c.b.submit(operation{kind: opIntent, payload: payload, calls: c.count(Calls{})})
	if err != nil {
		c.seen = false
		return err
	}
	c.intent = t
	return c.b.await(t.group)
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
// again; until then the call's intent stands.
func (c *Call) Append(payload []byte) error {
	t, err := c.append(payload, Calls{Recorded: 1})
	if err != nil {
		return err
	}
	return c.b.await(t.group)
}

// AppendLater is Append without the wait: the entry is durable with one of the
// next commits.
func (c *Call) AppendLater(payload []byte) error {
	_, err := c.append(payload, Calls{Recorded: 1})
	return err
}

// Refuse ends a call whose intent could not be made durable, with an entry
// that says so. It does not wait: the disk that refused the intent may take
// the entry only when it has healed.
func (c *Call) Refuse(payload []byte) error {
	c.b.cancel(c)
	_, err := c.append(payload, Calls{Refused: 1})
	return err
}

func (c *Call) append(payload []byte, term Calls) (ticket, error) {
	o := operation{kind: opEntry, payload: payload}
	if !c.ended {
		o.completes, o.intent, o.calls = true, c.intent.intent, c.count(term)
	}
	t, err := c.b.submit(o)
	if err == nil {
		c.ended = true
	}
	return t, err
}

// Release gives back what Admit reserved. Every admitted call is released
// once, whatever else happened to it.
func (c *Call) Release() {
	c.b.reserved.Add(-c.reserved)
	c.reserved = 0
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
	at        int64
	calls     Calls
}

// group is what one commit makes durable. Its callers wait for done together,
// which wakes all of them at once.
type group struct {
	ops  []operation
	done chan struct{}
	err  error // set before done is closed
}

func newGroup() *group { return &group{done: make(chan struct{})} }

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
	o.at = time.Now().UnixMicro()
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
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return t, nil
}

// cancel takes an intent back that the writer has not begun to write. One
// that it has stays, and the entry that follows completes it.
func (b *Buffer) cancel(c *Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.intent.intent != 0 && c.intent.group == b.next {
		b.next.ops[c.intent.index] = operation{}
		c.intent, c.seen = ticket{}, false
	}
}

// await waits until the group is durable, at most MaxWait.
func (b *Buffer) await(g *group) error {
	t := time.NewTimer(time.Duration(b.maxWait.Load()))
	defer t.Stop()
	select {
	case <-g.done:
		return g.err
	case <-t.C:
		b.tellSlow()
		return ErrSlow
	}
}

// tellSlow logs once that the disk keeps callers waiting.
func (b *Buffer) tellSlow() {
	if b.slow.CompareAndSwap(false, true) {
		b.log().Warn("the buffer's disk has not answered within max_wait; calls that need it are refused until it does",
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
