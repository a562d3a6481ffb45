// Package postgres is the audit store in PostgreSQL, for any number of instances.
//
// docs/postgres.md has its roles, its tables and how to read them in SQL.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Store keeps entries in one schema of a PostgreSQL database. It is a forwarder.Store,
// with delivery once, a forwarder.Browser, a forwarder.Checker, a forwarder.Witness and a
// forwarder.Keeper. Only the role that owns the tables can prune, see Prune.
//
// What Write has returned from is committed with synchronous_commit, on disk and on
// whatever standbys the server waits for. Reading never delays it: it has connections of
// its own, which exist while somebody reads; and so have Prune and Restamp, one that stays. All methods may be called from any
// goroutine.
type Store struct {
	*Reader
	log *slog.Logger

	// mu is held while the connection is in use.
	mu     sync.Mutex
	closed bool
	conn   *pgx.Conn // nil after an error: the next use makes another
	// partitions are those that were asked for: zero where they exist, else when they are
	// asked for again.
	partitions map[partition]time.Time
	// names are those that the connection has written.
	names names
	// now is the clock by which entries have expired before they came.
	now func() time.Time

	keeping keeping
}

var (
	_ forwarder.Store   = (*Store)(nil)
	_ forwarder.Browser = (*Store)(nil)
	_ forwarder.Checker = (*Store)(nil)
	_ forwarder.Witness = (*Store)(nil)
	_ forwarder.Keeper  = (*Store)(nil)
)

// Open connects and sees to the tables: it makes or changes them, or with NoMigrate
// only looks. It refuses a schema that another program made or a newer version of this
// one. A nil logger discards.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	at, err := newServer(c)
	if err != nil {
		return nil, err
	}
	reader, err := newReader(ctx, at)
	if err != nil {
		return nil, at.failing("opening", err)
	}
	s := &Store{Reader: reader, log: log, partitions: map[partition]time.Time{}, names: names{}, now: time.Now}
	if err := s.open(ctx, c.NoMigrate); err != nil {
		_ = s.Close() // what it says is a consequence of err
		return nil, at.failing("opening", err)
	}
	return s, nil
}

func (s *Store) open(unbounded context.Context, noMigrate bool) (err error) {
	ctx, cancel := context.WithTimeout(unbounded, s.at.timeout)
	defer cancel()
	if s.conn, err = s.at.connect(ctx); err != nil {
		return err
	}
	if noMigrate {
		err = check(ctx, s.conn, s.at.schema)
	} else {
		err = migrate(ctx, unbounded, s.conn, s.at.schema, s.log.With("store", s.at.location))
	}
	if err != nil {
		return err
	}
	// Migrating may have taken all of the time.
	ctx, cancel = context.WithTimeout(unbounded, s.at.timeout)
	defer cancel()
	return s.prepare(ctx, s.conn, nil)
}

// connected is the connection, which is made if there is none.
func (s *Store) connected(ctx context.Context) (*pgx.Conn, error) {
	if s.closed {
		return nil, errClosed
	}
	if s.conn == nil {
		conn, err := s.at.connect(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = conn
	}
	return s.conn, nil
}

// drop ends a connection after an error, so that the next one finds the server that
// can write now.
func (s *Store) drop() {
	if s.conn != nil {
		closeConn(s.conn)
		s.conn = nil
	}
	clear(s.names)
}

// Describe says which database it is.
func (s *Store) Describe() forwarder.Description { return describe(s.at.location) }

func describe(location string) forwarder.Description {
	return forwarder.Description{Kind: "postgres", Location: location, Delivery: forwarder.DeliveryOnce}
}

// Highest implements forwarder.Witness.
func (s *Store) Highest(ctx context.Context, instance string) (sequence uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.at.timeout)
	defer cancel()
	conn, err := s.connected(ctx)
	var last int64
	if err == nil {
		err = conn.QueryRow(ctx, fmt.Sprintf(`SELECT coalesce(max(last), 0) FROM %s.received WHERE instance = $1`, s.at.schema),
			column(instance)).Scan(&last)
	}
	if err != nil {
		s.drop()
		return 0, s.at.failing("reading how far it is from", err)
	}
	return uint64(last), nil
}

// Close waits for a Write that is under way, ends the reads, and disconnects.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.drop()
	s.keeping.close()
	return s.Reader.Close()
}
