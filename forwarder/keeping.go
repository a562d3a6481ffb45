package forwarder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// The pace of Keeping.
const (
	// DefaultPruneEvery is how often a store is asked what has expired.
	DefaultPruneEvery = time.Hour
	// DefaultLookEvery is how often stamps that are pending are looked at, and what is
	// said of changes of plans.
	DefaultLookEvery = time.Minute
	// maxRestamp bounds what one Restamp is given, and maxLooked what one look at pending
	// stamps goes through.
	maxRestamp = 200
	maxLooked  = 20_000
	// pruneRest is how long the store is left alone after a step, in steps: what pruning
	// writes, others wait for.
	pruneRest = 3
	// maxPruneRest bounds that: a step may also be one that nobody waits for.
	maxPruneRest = time.Second
)

// Change says that an organization has another plan: entries of it that arrived between
// two times, both inclusive, are stamped anew.
type Change struct {
	// Number grows with each change.
	Number uint64
	// OrganizationSlug is empty for an organization that is known by its id alone.
	OrganizationID, OrganizationSlug string
	From, To                         time.Time
}

// KeepingOptions say how a store is held to its retention.
type KeepingOptions struct {
	// Keep has the terms. Nil keeps everything, and tells of it.
	Keep *audit.Keep
	// Stamper stamps what is pending. Nil leaves it.
	Stamper Stamper
	// Changes are those after a number, in order; nil is none. Notes keep the number of
	// the last one that the store was told of, so that a restart goes on there.
	Changes func(after uint64) []Change
	Notes   Notes
	// Every is how often the store is asked what has expired. Zero is DefaultPruneEvery.
	Every time.Duration
	// LookEvery is how often it is looked whether there is something to do. Zero is
	// DefaultLookEvery.
	LookEvery time.Duration
	// LastSeen is when this sidecar was last seen at work before it started; see
	// trustedClock. Zero is unknown.
	LastSeen time.Time
	// Logger gets one line when keeping begins to fail and one when it has recovered, and
	// one when it does not believe the clock. Nil discards them.
	Logger *slog.Logger
	// OnPruned, if set, is told of each step. Run's goroutine calls it.
	OnPruned func(Pruned)
}

// Keeping holds one store to its retention, beside its Forwarder: what is pending is
// stamped when the answer is there, and what has expired is deleted, in small steps.
type Keeping struct {
	name string
	// use calls its argument with the store, if that is open, and keeps it open for so
	// long.
	use   func(func(Keeper) error) error
	o     KeepingOptions
	clock trustedClock

	mu     sync.Mutex
	status KeepingStatus
}

// KeepingStatus is a snapshot of one store's retention. It holds no secret.
type KeepingStatus struct {
	// Classes are what is there, by class; nil until it was counted.
	Classes []ClassTotal `json:"classes,omitempty"`
	// Pruned is when all that had expired was gone; zero until that was once so.
	Pruned time.Time `json:"pruned,omitzero"`
	// Held is how many entries the last pass found that have expired and are held.
	Held int64 `json:"held,omitempty"`
	// Distrusted is how far the clock is ahead of what is believed of it.
	Distrusted time.Duration `json:"clock_distrusted_ns,omitempty"`
	// Elsewhere is why this sidecar leaves it to another one, if it does.
	Elsewhere string `json:"elsewhere,omitempty"`
	// FailingSince and LastError are about the last attempt, if that failed.
	FailingSince time.Time `json:"failing_since,omitzero"`
	LastError    string    `json:"last_error,omitempty"`
}

// ErrElsewhere is what a Keeper's methods return, wrapped, where this sidecar may add
// entries and no more: then another one has to hold the store to its retention, which is
// no failure of this one.
var ErrElsewhere = errors.New("it is for another sidecar to do")

// ErrNotOpen is what use returns while the store is not open.
var ErrNotOpen = errors.New("the store is not open")

// NewKeeping returns the keeping of a store. use calls its argument with the store while
// that is open, and returns ErrNotOpen otherwise.
func NewKeeping(name string, use func(func(Keeper) error) error, o KeepingOptions) *Keeping {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = DefaultPruneEvery
	}
	if o.LookEvery <= 0 {
		o.LookEvery = DefaultLookEvery
	}
	return &Keeping{name: name, use: use, o: o}
}

// Status may be called at any time, from any goroutine.
func (k *Keeping) Status() KeepingStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Run works until ctx ends.
func (k *Keeping) Run(ctx context.Context) {
	k.clock = newTrustedClock(time.Now(), k.o.LastSeen)
	tick := time.NewTicker(k.o.LookEvery)
	defer tick.Stop()
	next := time.Now() // of pruning: soon after the start
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := k.restamp(ctx)
		if err == nil {
			err = k.changes(ctx)
		}
		if err == nil && !time.Now().Before(next) {
			if err = k.prune(ctx); err == nil {
				next = time.Now().Add(k.o.Every)
			}
		}
		if err == nil {
			err = k.count(ctx)
		}
		if ctx.Err() == nil && !errors.Is(err, ErrNotOpen) {
			k.ended(err)
		}
	}
}

// ended notes how a round ended, and logs when that is another end than before.
func (k *Keeping) ended(err error) {
	k.mu.Lock()
	elsewhere := ""
	if errors.Is(err, ErrElsewhere) {
		elsewhere, err = err.Error(), nil
	}
	news := elsewhere != "" && k.status.Elsewhere == ""
	here := elsewhere == "" && k.status.Elsewhere != "" && err == nil
	k.status.Elsewhere = elsewhere
	defer func() {
		if news {
			k.o.Logger.Info("this sidecar does not hold the store to its retention: see that another one does", "store", k.name, "why", elsewhere)
		}
		if here {
			k.o.Logger.Info("this sidecar holds the store to its retention now", "store", k.name)
		}
	}()
	since := k.status.FailingSince
	if err != nil {
		if k.status.LastError = err.Error(); since.IsZero() {
			k.status.FailingSince = time.Now()
		}
	} else {
		k.status.FailingSince, k.status.LastError = time.Time{}, ""
	}
	k.mu.Unlock()
	switch {
	case err != nil && since.IsZero():
		k.o.Logger.Warn("a store is not held to its retention: nothing expires in it; it is tried again each minute", "store", k.name, "error", err)
	case err == nil && !since.IsZero():
		k.o.Logger.Info("a store is held to its retention again", "store", k.name, "after", time.Since(since).Round(time.Second))
	}
}

// restamp stamps what is pending and has its answer.
func (k *Keeping) restamp(ctx context.Context) error {
	if k.o.Stamper == nil {
		return nil
	}
	return k.use(func(store Keeper) error {
		stamps := restamps{store: store}
		looked := 0
		for r, err := range store.Pending(ctx, k.o.Keep != nil) {
			if err != nil {
				return fmt.Errorf("looking for pending stamps: %w", err)
			}
			if looked++; looked > maxLooked {
				break
			}
			isTagged := r.Stamp != nil && (r.Stamp.Retention != nil || k.o.Keep == nil)
			if s := k.o.Stamper.Stamp(r.Entry); !s.Pending || !isTagged {
				if err := stamps.add(ctx, r.Entry, s); err != nil {
					return err
				}
			}
		}
		return stamps.flush(ctx)
	})
}

// restamps are collected, and given to the store a few hundred at a time.
type restamps struct {
	store Keeper
	list  []Restamp
}

func (r *restamps) add(ctx context.Context, e *audit.Entry, s audit.Stamp) error {
	if r.list = append(r.list, Restamp{e.ID, e.Timestamp, s}); len(r.list) < maxRestamp {
		return nil
	}
	return r.flush(ctx)
}

func (r *restamps) flush(ctx context.Context) error {
	if len(r.list) == 0 {
		return nil
	}
	err := r.store.Restamp(ctx, r.list)
	if r.list = r.list[:0]; err != nil {
		return fmt.Errorf("stamping entries anew: %w", err)
	}
	return nil
}

// keepingNote is what a Keeper's note holds.
type keepingNote struct {
	// Changes is the number of the last change that the store was told of.
	Changes uint64 `json:"changes"`
}

// changes tells the store of plans that have changed.
func (k *Keeping) changes(ctx context.Context) error {
	if k.o.Changes == nil || k.o.Notes == nil || k.o.Stamper == nil {
		return nil
	}
	var note keepingNote
	_ = json.Unmarshal(k.o.Notes.Note(), &note) // what cannot be read is done once more
	for _, c := range k.o.Changes(note.Changes) {
		err := k.use(func(store Keeper) error { return k.change(ctx, store, c) })
		if err != nil {
			return err
		}
		note.Changes = c.Number
		b, err := json.Marshal(note)
		if err == nil {
			err = k.o.Notes.SetNote(b)
		}
		if err != nil {
			return fmt.Errorf("noting that a change of plan is done: %w", err)
		}
	}
	return nil
}

func (k *Keeping) change(ctx context.Context, store Keeper, c Change) error {
	reader, ok := store.(Reader)
	if !ok {
		return nil
	}
	stamps := restamps{store: store}
	// By id alone there is no index.
	q := Query{Organization: c.OrganizationSlug, From: c.From, To: c.To.Add(time.Microsecond)}
	for doc, err := range reader.Read(ctx, q) {
		if err != nil {
			return fmt.Errorf("reading entries whose organization has another plan: %w", err)
		}
		e, err := audit.Decode(doc)
		if err != nil {
			return err
		}
		if c.OrganizationSlug == "" && c.OrganizationID != e.OrganizationID {
			continue
		}
		if err := stamps.add(ctx, e, k.o.Stamper.Stamp(e)); err != nil {
			return err
		}
	}
	return stamps.flush(ctx)
}

// prune deletes all that has expired, step by step.
func (k *Keeping) prune(ctx context.Context) error {
	if k.o.Keep == nil {
		return nil
	}
	now, distrusted := k.clock.now(time.Now())
	k.mu.Lock()
	before := k.status.Distrusted
	k.status.Distrusted = distrusted
	k.mu.Unlock()
	if distrusted == 0 && before > 0 {
		k.o.Logger.Info("the clock is believed again", "store", k.name)
	}
	if distrusted > 0 && before == 0 {
		k.o.Logger.Warn("the clock has jumped ahead; for a day nothing expires by what it says beyond that. If it is wrong, set it",
			"store", k.name, "ahead", distrusted.Round(time.Second), "expires_by", now.UTC().Format(time.RFC3339))
	}
	var held int64
	for {
		var p Pruned
		began := time.Now()
		err := k.use(func(store Keeper) (err error) {
			p, err = store.Prune(ctx, Expiry{
				Now: now, Until: k.o.Keep.Until,
				Rule: func(class string) string { return k.o.Keep.Term(class).String() },
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("deleting what has expired: %w", err)
		}
		if k.o.OnPruned != nil {
			k.o.OnPruned(p)
		}
		if held += p.Held; !p.More {
			break
		}
		select {
		case <-time.After(min(pruneRest*time.Since(began), maxPruneRest)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.Pruned, k.status.Held = time.Now(), held
	return nil
}

// count asks what is there.
func (k *Keeping) count(ctx context.Context) error {
	var classes []ClassTotal
	err := k.use(func(store Keeper) (err error) {
		classes, err = store.Classes(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("counting the entries of each class: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.Classes = classes
	return nil
}
