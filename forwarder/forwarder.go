package forwarder

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Forwarder delivers the entries of one source to one store: read a batch,
// write it, advance the position, in sequence and for ever.
//
// Nothing is dropped. In this version every error is one to retry, with
// exponential backoff; telling an entry that the store will never take from a
// store that is down, and putting the former into quarantine, comes with a
// later version. Until then such an entry, and likewise one that cannot be
// decoded, holds its store: the loop stops at it, says so in Status and the
// log, and tries again. The buffer keeps everything from there on.
type Forwarder struct {
	name   string
	source Source
	store  Store
	o      Options
	state  state
}

// New returns a forwarder from source to store. The name is the store's
// identity: the source keeps the position under it. The forwarder owns
// neither; the caller closes the store after Run has returned.
func New(name string, source Source, store Store, o Options) *Forwarder {
	return &Forwarder{name: name, source: source, store: store, o: o.withDefaults()}
}

// Run delivers until ctx ends. It must not run twice at a time for one name,
// in any process: the caller holds the lease.
//
// When ctx ends it stops reading and gives the batch in hand
// Options.FlushTimeout to finish. It returns nil if that was delivered or
// there was none, and else an error that says which entries the source keeps
// for the next Run. It returns for no other reason.
//
// An error of the store may carry a method RetryAfter() time.Duration. The
// next attempt is then not made sooner than that, up to MaxRetryAfter.
func (f *Forwarder) Run(ctx context.Context) error {
	f.state.running(true)
	defer f.state.running(false)

	position := f.source.Position(f.name)
	limit := f.o.BatchEntries
	var b batch
	prepared := false
	for {
		head, err := f.wait(ctx, position)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && !prepared {
			err = f.prepare(ctx, position+1)
			prepared = err == nil
		}
		if err == nil {
			err = b.read(f.source, position+1, head, limit, f.o.BatchBytes)
		}
		var harmed interface{ Damaged() (first, last uint64) }
		if errors.As(err, &harmed) {
			if first, last := harmed.Damaged(); first == position+1 && last >= first {
				f.o.Logger.Error("entries cannot be delivered: the buffer's file is harmed; a gap tells of them",
					"store", f.name, "first", first, "last", last)
				position = last
				f.source.Damaged(f.name, position)
				continue
			}
		}
		if err != nil {
			f.failed(err, position+1)
			if !f.pause(ctx, err) {
				return nil
			}
			continue
		}
		if err := f.deliver(ctx, &b); err != nil {
			return err
		}
		position = b.last()
		f.source.Advance(f.name, position, uint64(len(b.records)), 0, 0)
		f.delivered(&b)

		switch {
		case head <= position:
			limit = f.o.BatchEntries
		case len(b.records) >= limit:
			limit = min(2*limit, f.o.MaxBatchEntries)
		}
	}
}

// prepare lets the store do what comes before the first batch.
func (f *Forwarder) prepare(ctx context.Context, next uint64) error {
	p, ok := f.store.(Preparer)
	if !ok {
		return nil
	}
	return p.Prepare(ctx, next)
}

// wait returns the head once there is something after the position, and with
// BatchWait set once there is a full batch or it has waited long enough.
func (f *Forwarder) wait(ctx context.Context, position uint64) (uint64, error) {
	head, err := f.source.Wait(ctx, position)
	if err != nil {
		return 0, fmt.Errorf("waiting for entry %d: %w", position+1, err)
	}
	if head <= position {
		// Asking again at once would spin.
		return 0, fmt.Errorf("waiting for entry %d: the source returned with its head at %d", position+1, head)
	}
	full := position + uint64(f.o.BatchEntries)
	if f.o.BatchWait <= 0 || head >= full {
		return head, nil
	}
	fill, cancel := context.WithTimeout(ctx, f.o.BatchWait)
	defer cancel()
	if fuller, err := f.source.Wait(fill, full-1); err == nil {
		return max(head, fuller), nil
	}
	// The batch goes out as it is, with what came in meanwhile: this returns
	// at once.
	if newer, err := f.source.Wait(ctx, position); err == nil {
		head = max(head, newer)
	}
	return head, nil
}

// deliver writes one batch until the store has it. It returns an error only
// after ctx has ended.
func (f *Forwarder) deliver(ctx context.Context, b *batch) error {
	for {
		err := f.write(ctx, b)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			f.failed(err, b.first())
			if f.pause(ctx, err) {
				continue
			}
		}
		return fmt.Errorf("stopping delivery to store %q: entries %d to %d are not delivered and stay in the buffer: %w",
			f.name, b.first(), b.last(), err)
	}
}

// write makes one attempt. It outlives ctx by FlushTimeout.
func (f *Forwarder) write(ctx context.Context, b *batch) error {
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(f.o.FlushTimeout):
			cancel()
		case <-wctx.Done():
		}
	})
	defer stop()

	start := time.Now()
	err := guarded(wctx, f.store, b.records)
	if f.o.OnBatch != nil {
		f.o.OnBatch(Batch{
			First: b.first(), Last: b.last(), Entries: len(b.records), Bytes: b.bytes,
			Duration: time.Since(start), Err: err,
		})
	}
	return err
}

// guarded turns a panic of the store into an error. The same batch would
// panic again after a restart, and no store may stop the traffic.
func guarded(ctx context.Context, s Store, records []Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("writing a batch: the store panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return s.Write(ctx, records)
}
