package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Search finds entries in a store and in the buffer, which has those that no
// store has yet: in the query's order, each once and in its highest revision.
//
// Who acts may be learned by a later revision and is never forgotten: so one
// that is not selected by that is not looked at. What filters look at may change
// from one revision to the next, such as the outcome: so with filters each entry
// is looked at in the highest revision of the store and the buffer together.
//
// It holds up to Room bytes of the buffer's entries. When more are found there,
// it searches in several windows of arrival, reading the buffer once for each.
type Search struct {
	Query  forwarder.Query
	Store  forwarder.Reader // nil: none can be read
	Buffer *buffer.Buffer   // nil: it cannot be read, since the server is down
	Room   int
	Emit   func(doc []byte, by string) error

	// Failed is why a part of the buffer was not searched. What can be found all
	// the same is shown first.
	Failed error
	// More says that there are entries beyond the query's limit.
	More  bool
	shown int
}

// errEnough ends a search at its limit.
var errEnough = errors.New("the limit is reached")

// Run searches, and emits what it finds. It ends with ctx.
func (s *Search) Run(ctx context.Context) error {
	q := s.Query
	q.Limit = 0 // it counts what both have together
	for {
		// The buffer first: what leaves it meanwhile is in the store by then.
		w := newWindow(q, s.Room)
		if err := s.readBuffer(ctx, w); s.Failed == nil {
			s.Failed = err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch err := s.merge(ctx, w); {
		case errors.Is(err, errEnough):
			s.More = true
			return nil
		case err != nil:
			return err
		case !w.cut:
			return nil
		case q.NewestFirst:
			q.To = w.query.From
		default:
			q.From = w.query.To
		}
	}
}

// readBuffer goes on behind what cannot be read, and says the first of it.
func (s *Search) readBuffer(ctx context.Context, w *window) error {
	if s.Buffer == nil {
		return nil
	}
	var unreadable, harmed error
	err := s.Buffer.ReadPast(s.Buffer.Stats().Oldest, func(sequence uint64, payload []byte) bool {
		if w.mayMatch(payload) {
			if err := w.add(s.Buffer.Instance(sequence), sequence, payload); err != nil && unreadable == nil {
				unreadable = fmt.Errorf("reading entry %d: %w", sequence, err)
			}
		}
		return ctx.Err() == nil
	}, func(d *buffer.DamagedError) { harmed = d })
	if err = errors.Join(unreadable, err, harmed); err != nil {
		return fmt.Errorf("searching the buffer: %w", err)
	}
	return nil
}

// merge puts the window's entries among the store's, whose order is the same.
func (s *Search) merge(ctx context.Context, w *window) error {
	held := w.sorted()
	next := func() error {
		f := held[0]
		held = held[1:]
		if f.doc == nil {
			return nil
		}
		if old, err := s.isOld(ctx, f); old || err != nil {
			return err
		}
		return s.show(f)
	}
	if s.Store != nil {
		for doc, err := range s.Store.Read(ctx, w.query) {
			if err != nil {
				return err
			}
			f, err := found(doc, &s.Query)
			if err != nil {
				return err
			}
			for len(held) > 0 && w.compare(held[0], f) < 0 {
				if err := next(); err != nil {
					return err
				}
			}
			if len(held) > 0 && w.compare(held[0], f) == 0 {
				if held[0].revision > f.revision {
					f = held[0]
				}
				held = held[1:]
			}
			if f.doc == nil {
				continue
			}
			if err := s.show(f); err != nil {
				return err
			}
		}
	}
	for len(held) > 0 {
		if err := next(); err != nil {
			return err
		}
	}
	return nil
}

// isOld reports whether the store has a higher revision of an entry of the buffer, which
// it does not yield since the filters do not select it.
func (s *Search) isOld(ctx context.Context, f *foundEntry) (bool, error) {
	if s.Store == nil || !isFiltered(&s.Query) {
		return false, nil
	}
	at := time.UnixMicro(f.arrival)
	for doc, err := range s.Store.Read(ctx, forwarder.Query{From: at, To: at.Add(time.Microsecond)}) {
		if err != nil {
			return false, err
		}
		e, err := audit.Decode(doc)
		if err != nil {
			return false, err
		}
		if e.ID == f.id {
			return e.Revision > f.revision, nil
		}
	}
	return false, nil
}

// show emits an entry within the limit.
func (s *Search) show(f *foundEntry) error {
	if s.Query.Limit > 0 && s.shown == s.Query.Limit {
		return errEnough
	}
	s.shown++
	return s.Emit(f.doc, f.by)
}

// foundEntry is an entry that a search has found.
type foundEntry struct {
	arrival  int64
	id       string
	revision int
	by       string
	doc      []byte // nil: the filters do not select this revision, so no lower one counts
}

func found(doc []byte, q *forwarder.Query) (*foundEntry, error) {
	e, err := audit.Decode(doc)
	if err != nil {
		return nil, err
	}
	return foundIn(e, doc, q), nil
}

func foundIn(e *audit.Entry, doc []byte, q *forwarder.Query) *foundEntry {
	return &foundEntry{arrival: e.Timestamp, id: e.ID, revision: e.Revision, by: q.Trail.Names(e), doc: doc}
}

// compare gives the order of a store: by arrival and then id.
func (f *foundEntry) compare(o *foundEntry) int {
	return cmp.Or(cmp.Compare(f.arrival, o.arrival), cmp.Compare(f.id, o.id))
}
