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
// Nothing is dropped. An error is tried again with exponential backoff, however long
// it takes; the source keeps everything from there on. Only an entry that the store
// refuses for what is in it, while it accepts others, is put aside, into the source's
// quarantine: see suspicion. So is one that cannot be decoded.
type Forwarder struct {
	name   string
	source Source
	store  Store
	o      Options
	state  state
	// turn is held by who uses the store.
	turn      chan struct{}
	suspicion suspicion
	// ceiling is the most entries that a batch has, below MaxBatchEntries while the
	// store does not manage so many in its time. Run's goroutine owns it.
	ceiling int
	// busy says that entries come fast enough to be worth gathering, see wait. Run's
	// goroutine owns it.
	busy bool
}

// New returns a forwarder from source to store. The name is the store's
// identity: the source keeps the position under it. The forwarder owns
// neither; the caller closes the store after Run has returned.
func New(name string, source Source, store Store, o Options) *Forwarder {
	return &Forwarder{name: name, source: source, store: store, o: o.withDefaults(), turn: make(chan struct{}, 1)}
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

	f.suspicion.forget()
	f.ceiling, f.busy = f.o.MaxBatchEntries, false
	limit := f.o.BatchEntries
	b, next := new(batch), new(ahead)
	defer func() { next.end(0) }()
	_, prepares := f.store.(Preparer)
	for {
		position := f.source.Position(f.name)
		head, err := f.wait(ctx, position)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && prepares {
			if err = f.prepare(ctx, position+1); err == nil {
				prepares = false
				continue // the position may be another one by now
			}
		}
		switch ready := next.end(position + 1); {
		case err != nil:
		case ready && !f.suspicion.any():
			*b, next.batch = next.batch, *b
		case f.suspicion.any():
			err = f.read(b, position+1, head, max(min(limit, f.ceiling), siftEntries), max(f.o.BatchBytes, siftBytes))
		default:
			err = f.read(b, position+1, head, min(limit, f.ceiling), f.o.BatchBytes)
		}
		if err == nil && b.pending != nil && b.last == position {
			f.stampOf(ctx, b.pending)
			continue
		}
		passed, err := f.passOver(err, position)
		if passed {
			continue
		}
		if err == nil {
			next.begin(f, b, head, min(f.grown(limit, b), f.ceiling))
			if err = f.deliver(ctx, b); err != nil && ctx.Err() != nil {
				return fmt.Errorf("stopping delivery to store %q: entries %d to %d are not delivered and stay in the buffer: %w",
					f.name, b.first(), b.last, err)
			}
		}
		if errors.Is(err, errMoved) {
			f.suspicion.forget()
			f.o.Logger.Info("delivery goes on where the store was detached to; a gap tells what it does not get",
				"store", f.name, "position", f.source.Position(f.name))
			continue
		}
		if err != nil {
			f.failed(err, position+1)
			if !f.pause(ctx, err) {
				return nil
			}
			continue
		}
		f.delivered(b)

		f.busy = f.o.BatchWait == 0 && head <= b.last && len(b.records) >= busyEntries
		switch {
		case f.busy:
			limit = f.o.gather()
		case head <= b.last:
			limit = f.o.BatchEntries
		default:
			limit = f.grown(limit, b)
		}
	}
}

// grown is the size of the batch behind b on a backlog: twice as many as b's limit, if b
// had that many.
func (f *Forwarder) grown(limit int, b *batch) int {
	if len(b.records) < min(limit, f.ceiling) {
		return limit
	}
	return min(2*limit, f.o.MaxBatchEntries)
}

// passOver moves the position past entries that nobody can be given, and reports
// whether it has: those that are damaged, of which the source tells, and one that is
// no entry, which goes into quarantine. Any other error it returns.
func (f *Forwarder) passOver(err error, position uint64) (bool, error) {
	var harmed interface{ Damaged() (first, last uint64) }
	if errors.As(err, &harmed) {
		first, last := harmed.Damaged()
		if first != position+1 || last < first {
			return false, err
		}
		f.o.Logger.Error("entries cannot be delivered: the buffer's file is harmed; a gap tells of them",
			"store", f.name, "first", first, "last", last)
		f.source.Damaged(f.name, last)
		return true, nil
	}
	var bad *unusable
	if !errors.As(err, &bad) {
		return false, err
	}
	if err := f.quarantine(bad.sequence, bad.err); err != nil {
		return false, errors.Join(err, bad)
	}
	f.o.Logger.Error("an entry cannot be given to any store as it is; it is in quarantine: see caddy audit quarantine",
		"store", f.name, "sequence", bad.sequence, "error", bad.err)
	if f.source.Advance(f.name, bad.sequence, 0, 0, 1) {
		f.state.took(0, 1)
	}
	return true, nil
}

// prepare lets the store do what comes before the first batch.
func (f *Forwarder) prepare(ctx context.Context, next uint64) error {
	p := f.store.(Preparer)
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	return guarded("preparing the store", func() error { return p.Prepare(ctx, next) })
}

// wait returns the head once there is something after the position, and with
// BatchWait set once there is a full batch or it has waited long enough. Without it that
// is so while many entries come: a batch costs a store, and the disk that calls wait for,
// much the same whatever it holds.
func (f *Forwarder) wait(ctx context.Context, position uint64) (uint64, error) {
	head, err := f.source.Wait(ctx, position)
	if err != nil {
		return 0, fmt.Errorf("waiting for entry %d: %w", position+1, err)
	}
	if head <= position {
		// Asking again at once would spin.
		return 0, fmt.Errorf("waiting for entry %d: the source returned with its head at %d", position+1, head)
	}
	full, wait := position+uint64(f.o.BatchEntries), f.o.BatchWait
	if f.busy {
		full, wait = position+uint64(f.o.gather()), busyWait
	}
	if wait <= 0 || head >= full {
		return head, nil
	}
	fill, cancel := context.WithTimeout(ctx, wait)
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

// deliver writes one batch until the store has all of it, or it is known which entries
// it refuses. It returns an error after ctx has ended, or one after which the batch is
// read again from where it is settled: there may be more by then to compare with.
func (f *Forwarder) deliver(ctx context.Context, b *batch) error {
	for len(b.records) > 0 {
		if f.source.Position(f.name) >= b.first() {
			return errMoved // a gap tells that the store does not get it
		}
		if f.suspicion.any() {
			return f.sift(ctx, b, nil)
		}
		err := f.write(ctx, b.records)
		if err == nil {
			break
		}
		if isRefused(err) {
			return f.sift(ctx, b, err)
		}
		if ctx.Err() != nil || len(b.records) > f.ceiling {
			return err
		}
		f.failed(err, b.first())
		if !f.pause(ctx, err) {
			return err
		}
	}
	return f.settle(b, len(b.records), 0)
}

// Retry writes one entry, which is in quarantine, once. The payload is as the source
// has it. It may be called from any goroutine and waits for the batch in hand.
func (f *Forwarder) Retry(ctx context.Context, instance string, sequence uint64, payload []byte) error {
	r, err := NewRecord(instance, sequence, payload)
	if err == nil && f.o.Stamper != nil {
		r.changed = f.o.Stamper.Changed()
		err = f.putStamp(&r, f.o.Stamper.Settled(r.Entry))
	}
	if err == nil {
		err = f.format(&r)
	}
	if err != nil {
		return err
	}
	_, err = f.attempt(ctx, []Record{r})
	return err
}

// write is Run's attempt, by which it learns how much the store can take.
func (f *Forwarder) write(ctx context.Context, records []Record) error {
	took, err := f.attempt(ctx, records)
	f.adapt(len(records), took, err)
	return err
}

// attempt writes once, when nobody else uses the store. It outlives ctx by
// FlushTimeout.
func (f *Forwarder) attempt(ctx context.Context, records []Record) (took time.Duration, err error) {
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

	select {
	case f.turn <- struct{}{}:
	case <-wctx.Done():
		return 0, wctx.Err()
	}
	defer func() { <-f.turn }()
	start := time.Now()
	err = guarded("writing a batch", func() error {
		f.stampAnew(records)
		err := f.store.Write(wctx, records)
		for err == nil {
			longer := f.stampAnew(records)
			if len(longer) == 0 {
				break
			}
			err = f.store.Write(wctx, longer)
		}
		return err
	})
	took = time.Since(start)
	if f.o.OnBatch != nil {
		size := 0
		for _, r := range records {
			size += len(r.JSON)
		}
		f.o.OnBatch(Batch{
			First: records[0].Sequence, Last: records[len(records)-1].Sequence, Entries: len(records), Bytes: size,
			Duration: took, Err: err,
		})
	}
	return took, err
}

// slowAttempt is when an attempt that fails has taken too long: a store that does not
// answer in its time may have been given more than it can take in it, and would be given
// the same again and again.
const slowAttempt = 3 * time.Second

// adapt halves batches that fail after a long time, and lets them grow again while they
// succeed: quickly where they are quick.
func (f *Forwarder) adapt(entries int, took time.Duration, err error) {
	switch {
	case err != nil && took > slowAttempt:
		f.ceiling = max(1, entries/2)
	case err == nil && entries >= f.ceiling && took < slowAttempt/2:
		f.ceiling = min(2*f.ceiling, f.o.MaxBatchEntries)
	case err == nil && entries >= f.ceiling:
		f.ceiling = min(f.ceiling+f.ceiling/8+1, f.o.MaxBatchEntries)
	}
}

// guarded turns a panic of a store, or of its format, into an error. The same entries
// would panic again after a restart, and no store may stop the traffic.
func guarded(doing string, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the store panicked: %v\n%s", doing, p, debug.Stack())
		}
	}()
	return do()
}

// format puts a record into the store's format.
func (f *Forwarder) format(r *Record) error {
	if f.o.Format == nil {
		return nil
	}
	return guarded("formatting an entry", func() (err error) {
		r.JSON, err = f.o.Format(r.JSON)
		return err
	})
}
