// Package spool reads what a store has that can only be read as it arrived. It puts what
// a query may select into a SQLite file in a temporary directory, which is what finds the
// highest revision of each entry and puts them in order, in constant memory, and removes
// it afterwards.
package spool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
)

// The bounds of a batch.
const (
	batchEntries = 5000
	batchBytes   = 4 << 20
)

// maxNamed is how many damaged parts an error names.
const maxNamed = 10

// Reader reads a store. Each Read fills a spool of its own, so that it takes as long as
// reading all of the store that may be selected, and as much room in the directory for
// temporary files as that has.
type Reader struct {
	from forwarder.ScanOpener
	dir  string
}

// New makes a reader. It asks for nothing yet. An empty dir is the system's for
// temporary files.
func New(from forwarder.ScanOpener, dir string) *Reader { return &Reader{from, dir} }

// Close implements forwarder.ReadCloser.
func (*Reader) Close() error { return nil }

// DamagedError says that what was read is not all. What there is was yielded before it.
type DamagedError struct {
	// Named are the first of the damaged parts, with why, and Count is how many there are.
	Named []error
	Count int
}

// Error implements error.
func (e *DamagedError) Error() string {
	text := fmt.Sprintf("%d objects are damaged, foreign or not complete, so that this is not all, or not all of it is ours: %v", e.Count, errors.Join(e.Named...))
	if more := e.Count - len(e.Named); more > 0 {
		text += fmt.Sprintf("\nand %d more", more)
	}
	return text
}

// Unwrap returns the damaged parts that are named.
func (e *DamagedError) Unwrap() []error { return e.Named }

// Read implements forwarder.Reader. What is damaged does not keep the rest back: a
// *DamagedError names it when all else was yielded, so that whoever reads it has both,
// and never takes a part for the whole.
func (r *Reader) Read(ctx context.Context, q forwarder.Query) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := r.read(ctx, q, yield); err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

var errStopped = errors.New("stopped")

func (r *Reader) read(ctx context.Context, q forwarder.Query, yield func([]byte, error) bool) (err error) {
	dir, err := os.MkdirTemp(r.dir, "caddy-audit-spool-")
	if err != nil {
		return fmt.Errorf("making a directory to spool in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "spool.db")}, nil)
	if err != nil {
		return fmt.Errorf("spooling: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	bad := new(DamagedError)
	if err := r.fill(ctx, s, q, bad); err != nil {
		return err
	}
	if err := matching(ctx, s, q, yield); err != nil {
		return err
	}
	if bad.Count > 0 {
		return bad
	}
	return nil
}

// matching yields what a query selects of the spool. The stamp is within these documents
// and not beside them, as in a store's own file: so the whole entry is asked.
func matching(ctx context.Context, s *sqlite.Store, q forwarder.Query, yield func([]byte, error) bool) error {
	wide := q
	wide.Owners, wide.AsMember, wide.Events, wide.Filters, wide.Limit = nil, false, false, forwarder.Filters{}, 0
	n := 0
	for doc, err := range s.Read(ctx, wide) {
		if err != nil {
			return err
		}
		e, err := audit.Decode(doc)
		if err != nil || !q.Matches(e) {
			continue
		}
		if !yield(doc, nil) {
			return errStopped
		}
		if n++; n == q.Limit {
			return nil
		}
	}
	return nil
}

// fill writes all that may be selected.
func (r *Reader) fill(ctx context.Context, s *sqlite.Store, q forwarder.Query, bad *DamagedError) error {
	var batch []forwarder.Record
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := s.Write(ctx, batch)
		clear(batch)
		batch, size = batch[:0], 0
		if err != nil {
			return fmt.Errorf("spooling: %w", err)
		}
		return nil
	}
	damaged := func(name string, err error) {
		if bad.Count++; len(bad.Named) < maxNamed {
			bad.Named = append(bad.Named, fmt.Errorf("%s: %w", name, err))
		}
	}
	for doc, err := range r.from.Scan(ctx, q, damaged) {
		if err != nil {
			return err
		}
		e, err := audit.Decode(doc)
		if err != nil || e.Origin == nil {
			damaged("an entry", errors.Join(err, errNoEntry))
			continue
		}
		batch = append(batch, forwarder.Record{Sequence: e.Origin.Sequence, Entry: e, JSON: append([]byte(nil), doc...)})
		if size += len(doc); len(batch) >= batchEntries || size >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

var errNoEntry = errors.New("it is no entry with an origin in the native format")
