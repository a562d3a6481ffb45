package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// readConnections bounds how many reads fetch at one time.
	readConnections = 4
	// A page of entries is fetched at a time: this many, or fewer once their
	// documents reach pageBytes. One document may be larger than that.
	pageEntries = 512
	pageBytes   = 1 << 20
)

// Reader reads a store's file, also while another process writes it. Its
// methods may be called from any goroutine.
type Reader struct {
	path string
	db   *sql.DB
	// old says that the file was of an earlier version when it was opened: in the first
	// nothing has a stamp, and in the second there is no column for what pages are made
	// of. Whoever opens the store to write brings it to the current one.
	old bool
}

var (
	_ forwarder.Browser = (*Reader)(nil)
	_ forwarder.Checker = (*Reader)(nil)
	_ forwarder.Ledger  = (*Reader)(nil)
)

// OpenReader opens an existing store for reading. It neither creates the file
// nor changes it, but needs to write to the directory if no server is running,
// since SQLite shares its log's index there.
func OpenReader(ctx context.Context, path string) (*Reader, error) {
	if path == "" {
		return nil, errors.New("opening audit store: its path is empty: name the file of a store")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, opening(path, err)
	}
	r, err := openReader(ctx, abs)
	if err != nil {
		return nil, opening(path, err)
	}
	return r, nil
}

func openReader(ctx context.Context, path string) (*Reader, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: a store's file is created when the server starts; check the path", fs.ErrNotExist)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file: name another")
	}
	db, err := sql.Open("sqlite", readerDSN(path))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readConnections)
	db.SetMaxIdleConns(readConnections)
	db.SetConnMaxIdleTime(time.Minute)
	v, err := version(ctx, db)
	switch {
	case err != nil:
		return nil, errors.Join(err, db.Close())
	case v == 0:
		db.Close()
		return nil, errors.New("it is empty: a store's tables are created when the server starts; check the path")
	}
	return &Reader{path: path, db: db, old: v < schemaVersion}, nil
}

// Close ends reading. A Read that is under way gets an error.
func (r *Reader) Close() error { return r.db.Close() }

// Read yields what was stored when it began, in the order of arrival and id,
// with the stamp behind what was captured, where there is one. Whether a hold
// keeps an entry is asked of the holds that were in force when it began. An entry
// that gets a higher revision meanwhile shows it or the one before.
//
// Entries are fetched in pages, each in a short transaction of its own, and
// nothing is held between them: however slowly the caller goes on, it delays
// neither the writer nor other readers, nor does it keep the log from being
// moved into the file. Memory is about 2 MiB, or twice the largest entry.
//
// A query for who acts is answered in another way, see readMarked.
func (r *Reader) Read(ctx context.Context, q forwarder.Query) iter.Seq2[[]byte, error] {
	if isMarked(&q) {
		return r.readMarked(ctx, q)
	}
	return func(yield func([]byte, error) bool) {
		if err := r.read(ctx, &q, yield); err != nil && !errors.Is(err, errStopped) {
			yield(nil, r.reading(err))
		}
	}
}

// errStopped says that the caller wants no more.
var errStopped = errors.New("reading was stopped")

func (r *Reader) read(ctx context.Context, q *forwarder.Query, yield func([]byte, error) bool) error {
	w, err := r.newWalk(ctx, q)
	if err != nil {
		return err
	}
	p := page{walk: w, left: limitOf(q), check: checked(q)}
	if w.version < 3 {
		p.check = "0"
		if isNarrowed(q) {
			p.check = "1"
		}
	}
	if p.holds, p.columns, err = r.stamps(ctx); err != nil {
		return err
	}
	for !p.done {
		if err := p.fetch(ctx, r.db); err != nil {
			return err
		}
		rest := p.documents
		for _, n := range p.lengths {
			if !yield(rest[:n:n], nil) {
				return errStopped
			}
			rest = rest[n:]
		}
	}
	return nil
}

// stamps returns the holds that are in force, and the columns that have the stamp.
func (r *Reader) stamps(ctx context.Context) (holds []forwarder.Hold, columns string, err error) {
	if old, err := r.isOld(ctx); err != nil || old {
		return nil, noTagColumns, err
	}
	holds, err = r.holds(ctx)
	return holds, tagColumns, err
}

// isOld reports whether the file is still of version 1.
func (r *Reader) isOld(ctx context.Context) (bool, error) {
	v, err := r.version(ctx)
	return v < 2, err
}

// version is the file's, which may have been brought to the current one meanwhile.
func (r *Reader) version(ctx context.Context) (int, error) {
	if !r.old {
		return schemaVersion, nil
	}
	return version(ctx, r.db)
}

func (r *Reader) reading(err error) error {
	return fmt.Errorf("reading audit store %q: %w%s", r.path, err, cure(err))
}

// page is where a Read stands: the entries in hand.
type page struct {
	*walk
	holds   []forwarder.Hold
	columns string // of the stamp
	check   string // whether the entry itself must be asked
	left    int    // of the query's Limit
	done    bool

	documents []byte // one after the other
	lengths   []int
}

// fetch reads the next page.
func (p *page) fetch(ctx context.Context, db *sql.DB) error {
	p.documents, p.lengths = p.documents[:0], p.lengths[:0]
	if cap(p.documents) > 4*pageBytes {
		p.documents = nil
	}
	want := pageEntries
	if p.check == "0" {
		want = min(want, p.left)
	}
	var document sql.RawBytes
	var t tag
	var check bool
	into := append(t.into(&p.timestamp, &p.id, &document), &check)
	seen := 0
	err := p.rows(ctx, db, "timestamp, id, document, "+p.columns+", "+p.check, want, func(rows *sql.Rows) (err error) {
		for len(p.lengths) < p.left && len(p.documents) < pageBytes && rows.Next() {
			if err := rows.Scan(into...); err != nil {
				return err
			}
			seen++
			at := len(p.documents)
			p.documents = append(p.documents, document...)
			if p.documents, err = t.splice(p.documents, at, p.holds); err != nil {
				return err
			}
			if check && !isSelected(p.query, p.documents[at:]) {
				p.documents = p.documents[:at]
				continue
			}
			p.lengths = append(p.lengths, len(p.documents)-at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.begun = p.begun || seen > 0
	p.left -= len(p.lengths)
	if seen < want && len(p.documents) < pageBytes && p.left > 0 {
		p.ended()
		p.done = p.last
	}
	p.done = p.done || p.left <= 0
	return nil
}

// isSelected asks an entry itself. One that nobody can decode is in no selection.
func isSelected(q *forwarder.Query, doc []byte) bool {
	e, err := audit.Decode(doc)
	return err == nil && q.Matches(e)
}

// microseconds rounds up, which is right for both bounds of whole numbers.
func microseconds(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }

// Received returns the sequences that ever arrived, by instance. See
// forwarder.Checker.
func (r *Reader) Received(ctx context.Context) ([]forwarder.Range, error) {
	received, err := r.received(ctx)
	if err != nil {
		return nil, r.reading(err)
	}
	return received, nil
}

// Missing returns the sequences that did not arrive before a higher one did.
// See forwarder.Checker.
func (r *Reader) Missing(ctx context.Context) ([]forwarder.Range, error) {
	received, err := r.Received(ctx)
	return forwarder.Holes(received), err
}

func (r *Reader) received(ctx context.Context) ([]forwarder.Range, error) {
	return ranges(ctx, r.db, "received")
}
