package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// readConnections bounds how many reads there are at one time.
	readConnections = 4
	// A page of entries is fetched at a time: as many as make about pageBytes, by the
	// size of those before, and pageEntries at most. The first has firstEntries.
	firstEntries = 64
	pageEntries  = 512
	pageBytes    = 1 << 20
)

// Reader reads a store, also while others write it. Its methods may be called from any
// goroutine.
type Reader struct {
	at    *server
	pool  *pgxpool.Pool
	close sync.Once
}

var (
	_ forwarder.Browser = (*Reader)(nil)
	_ forwarder.Checker = (*Reader)(nil)
)

// OpenReader opens an existing store for reading. It makes and changes nothing, and a
// standby or a role that may only read will do.
func OpenReader(ctx context.Context, c Config) (*Reader, error) {
	at, err := newServer(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, at.timeout)
	defer cancel()
	r, err := newReader(ctx, at)
	if err != nil {
		return nil, at.failing("opening", err)
	}
	if err := check(ctx, r.pool, at.schema); err != nil {
		return nil, errors.Join(at.failing("opening", err), r.Close())
	}
	return r, nil
}

// newReader connects to nothing yet.
func newReader(ctx context.Context, at *server) (*Reader, error) {
	c, err := at.config()
	if err != nil {
		return nil, err
	}
	p, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, errors.New("the environment's variables that begin with PG cannot be read: check them") // its text may hold a password
	}
	p.ConnConfig = c
	p.MaxConns, p.MinConns, p.MinIdleConns = readConnections, 0, 0
	p.MaxConnIdleTime = time.Minute
	// A server that was restarted meanwhile is no error of who reads.
	p.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	p.BeforeConnect = func(_ context.Context, next *pgx.ConnConfig) error {
		now, err := at.config()
		if err != nil {
			return err
		}
		next.Password, next.TLSConfig, next.Fallbacks = now.Password, now.TLSConfig, now.Fallbacks
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, p)
	if err != nil {
		return nil, err
	}
	return &Reader{at: at, pool: pool}, nil
}

// Close ends reading, and waits for a Read that is fetching a page.
func (r *Reader) Close() error {
	r.close.Do(r.pool.Close)
	return nil
}

// Read yields what was stored when it began, in the order of arrival and id.
//
// It has one snapshot, so that nothing that comes meanwhile is seen, a higher revision
// neither. Entries are fetched in pages, and between them it holds no lock: each page's
// are given up with a savepoint. So however slowly the caller goes on, it delays neither
// a writer nor the making and dropping of partitions; but VACUUM keeps what the snapshot
// may see. Memory is about 2 MiB, or twice the largest entry.
//
// A query for who acts is answered in another way, see readMarked.
func (r *Reader) Read(ctx context.Context, q forwarder.Query) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		err := r.snapshot(ctx, isMarked(&q), func(tx *snapshot) error {
			if err := tx.readHolds(ctx); err != nil {
				return err
			}
			if isMarked(&q) {
				return tx.readMarked(ctx, &q, yield)
			}
			w, err := tx.newWalk(ctx, &q)
			if err != nil {
				return err
			}
			p := page{walk: w, left: q.Limit, check: q.Text != ""}
			for !p.done {
				if err := p.fetch(ctx, tx); err != nil {
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
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, r.at.failing("reading", err))
		}
	}
}

// errStopped says that the caller wants no more.
var errStopped = errors.New("reading was stopped")

// snapshot is a transaction that sees one moment.
type snapshot struct {
	conn    *pgxpool.Conn
	schema  string
	timeout time.Duration
	holds   []forwarder.Hold // in force, if readHolds was called
}

// readHolds reads the holds in force.
func (tx *snapshot) readHolds(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, tx.timeout)
	defer cancel()
	tx.holds, err = holdsOf(ctx, tx.conn, tx.schema)
	return err
}

// snapshot calls f with one, and ends it. What is found by marks needs to be collected
// and sorted, nothing else does.
func (r *Reader) snapshot(ctx context.Context, marked bool, f func(tx *snapshot) error) error {
	begin, cancel := context.WithTimeout(ctx, r.at.timeout)
	defer cancel()
	conn, err := r.pool.Acquire(begin)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx := &snapshot{conn: conn, schema: r.at.schema, timeout: r.at.timeout}
	var b pgx.Batch
	b.Queue(`BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`)
	// A caller may be slow. And the planner must walk the indexes in their order: where
	// it takes few rows to be there, it would collect and sort what is in fact a year.
	b.Queue(`SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', '0', true),
		set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', $2, true), set_config('enable_sort', $2, true),
		set_config('enable_incremental_sort', $2, true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
		set_config('jit', 'off', true)`,
		strconv.FormatInt(max(1, tx.timeout.Milliseconds()), 10), map[bool]string{true: "on", false: "off"}[marked])
	b.Queue(`SAVEPOINT page`)
	if err := conn.SendBatch(begin, &b).Close(); err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_, _ = conn.Exec(end, `ROLLBACK`) // if it fails, the connection is not used again
	}()
	return f(tx)
}

// query calls row for each row of the answer, and then gives up the locks.
func (tx *snapshot) query(ctx context.Context, sql string, args []any, row func(values [][]byte)) error {
	ctx, cancel := context.WithTimeout(ctx, tx.timeout)
	defer cancel()
	rows, err := tx.conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row(rows.RawValues())
	}
	if rows.Close(); rows.Err() != nil {
		return rows.Err()
	}
	_, err = tx.conn.Exec(ctx, `ROLLBACK TO SAVEPOINT page`)
	return err
}

// page is where a Read stands: the entries in hand.
type page struct {
	*walk
	check bool // whether the entry itself must be asked
	left  int  // of the query's Limit, if that is set
	done  bool

	documents []byte // one after the other
	lengths   []int
	average   int // of a document, in bytes, in the last page
}

// want is how many entries the next page has.
func (p *page) want() int {
	want := firstEntries
	if p.average > 0 {
		want = min(max(pageBytes/p.average, 1), pageEntries)
	}
	if p.query.Limit > 0 && !p.check {
		want = min(want, p.left)
	}
	return want
}

// fetch reads the next page.
func (p *page) fetch(ctx context.Context, tx *snapshot) error {
	want := p.want()
	sql, args := p.sql(want)
	return p.read(ctx, tx, sql, args, want)
}

// read reads a page by a query for rowColumns. What is beyond pageBytes, and what is beyond
// the query's Limit, it leaves.
func (p *page) read(ctx context.Context, tx *snapshot, sql string, args []any, want int) error {
	p.documents, p.lengths = p.documents[:0], p.lengths[:0]
	if cap(p.documents) > 4*pageBytes {
		p.documents = nil
	}
	full, seen := false, 0
	var wrong error
	err := tx.query(ctx, sql, args, func(v [][]byte) {
		if full || wrong != nil {
			return
		}
		var r row
		if wrong = r.scan(v); wrong == nil {
			wrong = r.hold(tx.holds)
		}
		if wrong != nil {
			return
		}
		seen++
		p.timestamp, p.id = r.timestamp, r.id
		before := len(p.documents)
		if p.documents, wrong = r.appendTo(p.documents); wrong != nil {
			return
		}
		if p.check && !isSelected(p.query, p.documents[before:]) {
			p.documents = p.documents[:before]
			return
		}
		p.lengths = append(p.lengths, len(p.documents)-before)
		full = len(p.documents) >= pageBytes || p.query.Limit > 0 && len(p.lengths) == p.left
	})
	if err = errors.Join(err, wrong); err != nil {
		return err
	}
	p.begun = p.begun || seen > 0
	if n := len(p.lengths); n > 0 {
		p.average = max(1, len(p.documents)/n)
		p.left -= n
	}
	p.done = seen < want && !full || p.query.Limit > 0 && p.left <= 0
	return nil
}

// isSelected asks an entry itself. One that nobody can decode is in no selection.
func isSelected(q *forwarder.Query, doc []byte) bool {
	e, err := audit.Decode(doc)
	return err == nil && q.Matches(e)
}

var errBytea = errors.New("its bytea_output is not hex: set it to hex")

// raw reads a bytea as text.
func raw(text []byte) ([]byte, error) {
	digits, ok := strings.CutPrefix(string(text), `\x`)
	if !ok {
		return nil, errBytea
	}
	return hex.DecodeString(digits)
}

// Received returns the sequences that ever arrived, by instance. See
// forwarder.Checker.
func (r *Reader) Received(ctx context.Context) ([]forwarder.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, r.at.timeout)
	defer cancel()
	rows, err := r.pool.Query(ctx, fmt.Sprintf(`SELECT instance, first, last FROM %s.received ORDER BY instance, first`, r.at.schema))
	if err != nil {
		return nil, r.at.failing("reading", err)
	}
	received, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g forwarder.Range, err error) {
		return g, row.Scan(&g.Instance, &g.First, &g.Last)
	})
	if err != nil {
		return nil, r.at.failing("reading", err)
	}
	return received, nil
}

// Missing returns the sequences that did not arrive before a higher one did. See
// forwarder.Checker.
func (r *Reader) Missing(ctx context.Context) ([]forwarder.Range, error) {
	received, err := r.Received(ctx)
	return forwarder.Holes(received), err
}
