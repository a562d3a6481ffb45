package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// delivery is one store's forwarder at work.
type delivery struct {
	forwarder *forwarder.Forwarder
	// keeping holds the store to its retention; nil where the store cannot do that.
	keeping *forwarder.Keeping
	store   *lateStore
	done    chan struct{} // closed when it has ended and its store is closed
}

// deliverTo starts a store's forwarder, at the place where the buffer has it for its
// destination.
func (a *App) deliverTo(ctx context.Context, s *shared, n *stores.Store, log *slog.Logger) *delivery {
	return startDelivery(ctx, s, n, a.retention(s), log, func() error { return s.buf.Attach(n.Name, n.Attachment(a.Buffer.MaxSize)) })
}

// startDelivery starts a store's forwarder, which begins as soon as the one of
// the configuration before has ended, and ends with ctx.
// Where attach is set, it is asked then, and an error means that the store must not be
// delivered to.
func startDelivery(ctx context.Context, s *shared, n *stores.Store, r retention, log *slog.Logger, attach func() error) *delivery {
	batchFailures.WithLabelValues(n.Name) // zero shows, too
	late := newLateStore(n.Opener, n.Name, s.buf, log.With("store", n.Name))
	o := n.Options()
	o.Logger, o.OnBatch, o.Stamper = log, func(b forwarder.Batch) { observeBatch(n.Name, b) }, r.stamper
	d := &delivery{forwarder: forwarder.New(n.Name, source{s.buf, s}, late, o), store: late, done: make(chan struct{})}
	if n.Keeps() {
		d.keeping = forwarder.NewKeeping(n.Name, late.keep, r.options(n.Name, log))
	}
	lease := s.lease(n.Name)
	go func() {
		defer close(d.done)
		select {
		case lease <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-lease }()
		if attach != nil {
			late.attach, late.unattached = attach, attach()
		}
		var keeping sync.WaitGroup
		if d.keeping != nil {
			keeping.Go(func() { d.keeping.Run(ctx) })
		}
		if err := d.forwarder.Run(ctx); err != nil {
			log.Warn("stopping delivery", "store", n.Name, "error", err)
		}
		keeping.Wait()
		if err := late.Close(); err != nil {
			log.Error("closing audit store", "store", n.Name, "error", err)
		}
	}()
	return d
}

// lateStore opens its store before the first batch, so that a store that cannot
// be opened is a failing store and not a server that does not start. The forwarder
// sees to it that it is used by one goroutine at a time, but for Describe.
type lateStore struct {
	forwarder.Opener
	name string
	// attach asks the buffer to let the store go on where it is for its destination, and
	// unattached is why that does not.
	attach     func() error
	unattached error
	buf        *buffer.Buffer
	log        *slog.Logger

	// A retry that an operator has ordered may outlive the forwarder.
	mu sync.Mutex // held by who writes to the store, or opens or closes it
	// inUse is held by who uses the store beside that, so that it is not closed meanwhile.
	inUse  sync.RWMutex
	store  forwarder.Store
	ending context.Context
	end    context.CancelFunc
}

func newLateStore(open forwarder.Opener, name string, buf *buffer.Buffer, log *slog.Logger) *lateStore {
	l := &lateStore{Opener: open, name: name, buf: buf, log: log}
	l.ending, l.end = context.WithCancel(context.Background())
	return l
}

var errEnded = errors.New("writing to the store: its configuration has been replaced")

// Prepare implements forwarder.Preparer. It asks the store how far it has got with
// this buffer before any entry is given its origin: a store that is ahead has seen
// entries that the buffer has not, which was put back to a time before.
func (l *lateStore) Prepare(ctx context.Context, next uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unattached != nil {
		// What it asks for may have been done.
		if l.unattached = l.attach(); l.unattached != nil {
			return l.unattached
		}
	}
	store, err := l.Open(ctx, l.log)
	if err != nil {
		return err
	}
	if w, ok := store.(forwarder.Witness); ok {
		highest, err := w.Highest(ctx, l.buf.Instance(next))
		if err != nil {
			return errors.Join(err, store.Close())
		}
		l.buf.Witness(l.name, highest)
	}
	if k, ok := store.(forwarder.NoteKeeper); ok {
		k.KeepNotes(notes{l.buf, l.name})
	}
	l.inUse.Lock()
	defer l.inUse.Unlock()
	l.store = store
	return nil
}

// keep calls do with the store, if that is open and a Keeper.
func (l *lateStore) keep(do func(forwarder.Keeper) error) error {
	l.inUse.RLock()
	defer l.inUse.RUnlock()
	k, ok := l.store.(forwarder.Keeper)
	if !ok {
		return forwarder.ErrNotOpen
	}
	return do(k)
}

// notes are a store's, beside its position.
type notes struct {
	buf  *buffer.Buffer
	name string
}

// Note implements forwarder.Notes.
func (n notes) Note() []byte { return n.buf.Note(n.name) }

// SetNote implements forwarder.Notes.
func (n notes) SetNote(note []byte) error { return n.buf.SetNote(n.name, note) }

func (l *lateStore) Write(ctx context.Context, batch []forwarder.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ending.Err() != nil:
		return errEnded
	case l.store == nil:
		return errors.New("writing to the store: it is not open yet")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ending, cancel)()
	return l.store.Write(ctx, batch)
}

// Close breaks off a retry that is under way, and waits for it.
func (l *lateStore) Close() error {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inUse.Lock()
	defer l.inUse.Unlock()
	if l.store == nil {
		return nil
	}
	store := l.store
	l.store = nil
	return store.Close()
}

// source is a buffer as a forwarder sees it.
type source struct {
	*buffer.Buffer
	shared *shared
}

// Quarantine implements forwarder.Source.
func (s source) Quarantine(store string, sequence uint64, reason string) error {
	var payload []byte
	err := s.Read(sequence, func(n uint64, p []byte) bool {
		if n == sequence {
			payload = slices.Clone(p)
		}
		return false
	})
	if err == nil && payload == nil {
		err = fmt.Errorf("reading entry %d: the buffer does not hold it any more", sequence)
	}
	if err != nil {
		return err
	}
	return s.shared.quarantine(store, sequence, reason, payload)
}
