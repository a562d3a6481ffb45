// Package sqlite is the audit store in a local SQLite file, for one instance.
//
// It needs neither cgo nor a server. Other processes may read the file while
// it is written, through OpenReader or any SQLite client.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Config of a Store.
type Config struct {
	// Path of the database file. It is created with mode 0600 if it does not
	// exist, and its directory with 0700. It must lie on a local disk: SQLite
	// cannot share a log over a network file system.
	//
	// A file of an earlier schema version is brought to the current one, which reads all
	// of it and writes most of it anew, so that the disk needs as much free space as the
	// file has. One of version 1 keeps its size: what is deleted from it makes room for
	// what comes. A new file gives space back.
	Path string
	// Now says what time it is when something is written, which decides whether it has
	// expired. Default: time.Now.
	Now func() time.Time
}

// Store keeps entries in one SQLite file. It is a forwarder.Keeper, with
// delivery once, a forwarder.Reader and a forwarder.Checker.
//
// What Write has returned from is synced to disk. Reading never delays it, and
// pruning and summaries by one step at most. All methods may be called from any goroutine.
type Store struct {
	*Reader // nil until open has come to its end
	path    string
	log     *slog.Logger

	now func() time.Time

	// turn is whose turn it is to use what follows. It also lets Close wait for a
	// Write, so that the file is free afterwards.
	turn     turn
	closed   bool
	db       *sql.DB              // one connection, which writes
	prepared map[string]*sql.Stmt // by their text, see statements
	file     os.FileInfo          // what Path named when it was opened
	vacuums  bool                 // the file can be made smaller
	pace     pace
	broken   error              // why nothing must be written any more
	named    map[named]struct{} // some of what is in the table

	summarized summarized

	mover      *mover      // nil until open has come to its end
	summarizer *summarizer // the same
}

var (
	_ forwarder.Store   = (*Store)(nil)
	_ forwarder.Reader  = (*Store)(nil)
	_ forwarder.Checker = (*Store)(nil)
	_ forwarder.Witness = (*Store)(nil)
	_ forwarder.Keeper  = (*Store)(nil)
)

// Open opens the file, or creates it. A nil logger discards.
//
// It refuses a file that another program made or a newer version of this one.
// Modes that let others than the owner in are narrowed, with a warning.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.Path == "" {
		return nil, errors.New("opening audit store: its path is empty: name a file, as in ./audit-data/audit.db")
	}
	s := &Store{log: log, now: c.Now, turn: make(turn, 1), prepared: map[string]*sql.Stmt{}, named: map[named]struct{}{}}
	s.summarized = summarized{fresh: map[audit.Owner]int{}, full: map[audit.Owner]struct{}{}, young: map[audit.Owner]struct{}{}, long: map[audit.Owner]struct{}{}, last: map[audit.Owner]int64{}, sweeping: true}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.open(ctx, c.Path); err != nil {
		_ = s.Close() // what it says is a consequence of err
		return nil, opening(c.Path, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	s.path = path
	if err := prepareFile(path, s.log); err != nil {
		return err
	}
	if s.db, err = sql.Open("sqlite", writerDSN(path)); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	if err := migrate(ctx, s.db, s.log.With("file", path)); err != nil {
		return err
	}
	if s.vacuums, err = canVacuum(ctx, s.db); err != nil {
		return err
	}
	for _, query := range statements {
		//nolint:sqlclosecheck // Close does
		if s.prepared[query], err = s.db.PrepareContext(ctx, query); err != nil {
			return err
		}
	}
	if s.file, err = os.Stat(path); err != nil {
		return err
	}
	// The log exists by now, so that a reader finds a complete file.
	if s.Reader, err = openReader(ctx, path); err != nil {
		return err
	}
	if err := s.openMover(); err != nil {
		return err
	}
	s.startSummarizer()
	return nil
}

// Describe says which file it is.
func (s *Store) Describe() forwarder.Description {
	return forwarder.Description{Kind: "sqlite", Location: s.path, Delivery: forwarder.DeliveryOnce}
}

// Close waits for a Write or a step of pruning that is under way and for the
// entries that a Read is fetching, then moves the log into the file and closes it.
func (s *Store) Close() error {
	s.turn <- struct{}{}
	closed := s.closed
	s.closed = true
	s.turn.give()
	if closed {
		return nil
	}
	var errs []error
	if s.summarizer != nil {
		s.summarizer.close()
	}
	if s.mover != nil {
		errs = append(errs, s.mover.close())
	}
	s.turn <- struct{}{} // for whoever came before
	defer s.turn.give()
	// The writer last: only a connection that may write can move the log.
	if s.Reader != nil {
		errs = append(errs, s.Reader.Close())
	}
	for _, stmt := range s.prepared {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing audit store %q: %w", s.path, err)
	}
	return nil
}
