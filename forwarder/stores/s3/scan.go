package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Probe says whether the bucket would take entries. Opening the store shows that: the
// marker is written, or refused because it is there, with all that an entry's object is
// written with. An entry would lie in a locked bucket for the term, so none is written.
func Probe(ctx context.Context, c Config, _ forwarder.Record) (err error) {
	s, err := Open(ctx, c, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, err := range s.bucket.prefixes(ctx, s.key(entriesDir)) {
		return err // one page is enough
	}
	return nil
}

// Scan yields what the bucket has and a query may select, object after object, as
// forwarder.ScanOpener wants it. It writes nothing, and needs to list and to read.
func Scan(ctx context.Context, c Config, q forwarder.Query, damaged func(name string, err error)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		c := c.withDefaults()
		t, err := c.check()
		var b *client
		if err == nil {
			b, err = newClient(c, t)
		}
		if err != nil {
			yield(nil, fmt.Errorf("reading audit store %q: %w", t.location(), err))
			return
		}
		defer b.close()
		s := newStore(c, t, b, slog.New(slog.DiscardHandler))
		defer s.stop()
		if err := s.scan(ctx, q, damaged, func(doc []byte) bool { return yield(doc, nil) }); err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("reading audit store %q: %w", t.location(), err))
		}
	}
}

func (s *Store) scan(ctx context.Context, q forwarder.Query, damaged func(string, error), yield func([]byte) bool) error {
	listed := inventory{}
	if err := s.scanObjects(ctx, q, listed, damaged, yield); err != nil {
		return err
	}
	return s.holdAgainstManifests(ctx, q, listed, damaged)
}

func (s *Store) scanObjects(ctx context.Context, q forwarder.Query, listed inventory, damaged func(string, error), yield func([]byte) bool) error {
	dir := s.key(entriesDir)
	for i, err := range s.bucket.list(ctx, dir, "") {
		if err != nil {
			return err
		}
		o, ok := parseName(strings.TrimPrefix(i.key, dir))
		switch {
		case !ok:
			damaged(quote(i.key), errors.New("its name is none that this store gives"))
			continue
		case i.size == 0:
			continue // void
		}
		listed.add(o)
		if !mayHave(q, o) {
			continue
		}
		err = readObject(ctx, s.bucket, i.key, o, func(doc []byte) error {
			e, err := audit.Decode(doc)
			if err != nil {
				return &damagedError{err}
			}
			if at := time.UnixMicro(e.Timestamp); !q.From.IsZero() && at.Before(q.From) || !q.To.IsZero() && !at.Before(q.To) {
				return nil
			}
			if !yield(doc) {
				return errStopped
			}
			return nil
		})
		var bad *damagedError
		switch {
		case errors.As(err, &bad):
			damaged(quote(i.key), bad.err)
		case errors.Is(err, errArchived):
			damaged(quote(i.key), err)
		case errors.Is(err, errNotFound): // a lifecycle rule was quicker
		case err != nil:
			return err
		}
	}
	return nil
}

// mayHave reports whether an object may have what a query selects, by its name.
func mayHave(q forwarder.Query, o object) bool {
	return (q.From.IsZero() || !o.to.Add(time.Second).Before(q.From)) && (q.To.IsZero() || o.from.Before(q.To))
}
