package natsstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The bounds of what one Write has published and not had acknowledged. The first is also
// how far order can be lost when a message in the middle fails.
const (
	maxFlying      = 512
	maxFlyingBytes = 4 << 20
)

// flight is what one Write has under way. Acknowledgements come from the library's
// goroutines; those of an earlier flight are for messages that this one does not know.
type flight struct {
	// changed gets a value when something has landed or failed.
	changed chan struct{}

	mu    sync.Mutex
	out   map[*nats.Msg]flying
	ids   map[string]struct{}
	bytes int
	err   error // the first failure
}

// flying is one message.
type flying struct {
	id, stream, domain string
	bytes              int
}

func newFlight() *flight {
	return &flight{changed: make(chan struct{}, 1), out: map[*nats.Msg]flying{}, ids: map[string]struct{}{}}
}

// launch waits until there is room for a message and takes it in. A repeat of one that
// flies waits until that has landed: a stream with replicas refuses a repeat of what
// it has not yet stored. A message that is larger than the bound flies alone.
func (f *flight) launch(ctx context.Context, m *nats.Msg, as flying) error {
	return f.wait(ctx, func() bool {
		if _, flies := f.ids[as.id]; flies || len(f.out) >= maxFlying || len(f.out) > 0 && f.bytes+as.bytes > maxFlyingBytes {
			return false
		}
		f.out[m] = as
		f.ids[as.id] = struct{}{}
		f.bytes += as.bytes
		return true
	})
}

// landed waits until nothing flies.
func (f *flight) landed(ctx context.Context) error {
	return f.wait(ctx, func() bool { return len(f.out) == 0 })
}

// wait waits until done, which it calls under the lock, or for a failure. Each message
// lands or fails within the time that its acknowledgement may take.
func (f *flight) wait(ctx context.Context, done func() bool) error {
	for {
		f.mu.Lock()
		err, ok := f.err, false
		if err == nil {
			ok = done()
		}
		f.mu.Unlock()
		if err != nil || ok {
			return err
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle waits until nothing flies, whatever else has failed.
func (f *flight) settle(ctx context.Context) {
	for {
		f.mu.Lock()
		left := len(f.out)
		f.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-f.changed:
		case <-ctx.Done():
			return
		}
	}
}

// acknowledged takes in what a stream said of a message.
func (f *flight) acknowledged(m *nats.Msg, ack *jetstream.PubAck) {
	f.land(m, func(as flying) error {
		if ack.Stream != as.stream || ack.Domain != as.domain {
			return &wrongAckError{want: place(as.stream, as.domain), got: place(ack.Stream, ack.Domain)}
		}
		return nil
	})
}

// failed takes in why a message was not acknowledged.
func (f *flight) failed(m *nats.Msg, err error) {
	f.land(m, func(flying) error { return err })
}

// fail takes in a failure of no message in particular. The first failure counts.
func (f *flight) fail(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.mu.Unlock()
	f.wake()
}

// land takes a message out and its failure in, in one step: whoever finds that nothing
// flies any more must find the failure too, or it would acknowledge what failed.
func (f *flight) land(m *nats.Msg, judge func(flying) error) {
	f.mu.Lock()
	as, ok := f.out[m]
	if ok {
		delete(f.out, m)
		delete(f.ids, as.id)
		f.bytes -= as.bytes
		if err := judge(as); err != nil && f.err == nil {
			f.err = err
		}
	}
	f.mu.Unlock()
	if ok {
		f.wake()
	}
}

func (f *flight) wake() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// abandon lets go of the batch's memory. The library keeps the messages that still fly
// until their time is over, and does not look into them any more.
func (f *flight) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for m := range f.out {
		m.Data, m.Header = nil, nil
	}
	clear(f.out)
}

// place names a stream in a domain.
func place(stream, domain string) string {
	if domain == "" {
		return fmt.Sprintf("stream %q", stream)
	}
	return fmt.Sprintf("stream %q of domain %q", stream, domain)
}
