package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	// logPages is how large SQLite's log may become, in pages, before it is moved into
	// the file: 16 MiB, so that pages collect changes.
	logPages = 4096
	// firstPagesPerRow is how many pages of the log a row that changes is thought to take,
	// until it was measured.
	firstPagesPerRow = 4.0
)

// mover moves SQLite's log into the file on a connection of its own, while writing goes
// on. If the writer did that, as SQLite does by itself, a write would now and then wait
// until 16 MiB are on the disk; and with pruning beside it more often.
type mover struct {
	db   *sql.DB // one connection
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}

	// What follows belongs to whose turn it is.

	// rows are those that were changed since the log was moved.
	rows int
	// pagesPerRow is what one of them takes of the log, as the last moves have shown.
	pagesPerRow float64
}

// openMover begins to move the log of a store that is open for writing.
func (s *Store) openMover() error {
	db, err := sql.Open("sqlite", writerDSN(s.path))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithCancel(context.Background())
	s.mover = &mover{db: db, wake: make(chan struct{}, 1), stop: cancel, done: make(chan struct{}), pagesPerRow: firstPagesPerRow}
	go s.moveLogs(ctx)
	return nil
}

// close ends it. The store's turn must not be held.
func (m *mover) close() error {
	m.stop()
	<-m.done
	return m.db.Close()
}

// changed notes what was committed. It is called in the store's turn.
func (m *mover) changed(rows int) {
	m.rows += rows
	if float64(m.rows)*m.pagesPerRow < logPages {
		return
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// moveLogs moves the log each time that it has become large.
func (s *Store) moveLogs(ctx context.Context) {
	defer close(s.mover.done)
	failing := false
	for {
		select {
		case <-s.mover.wake:
		case <-ctx.Done():
			return
		}
		err := s.moveLog(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.log.Warn("moving SQLite's log into the file; until it succeeds, the log grows", "file", s.path, "error", err)
		} else if err == nil && failing {
			s.log.Info("SQLite's log is moved into the file again", "file", s.path)
		}
		failing = err != nil
	}
}

// moveLog moves all that is there while others write, and then, in the store's turn, the
// little that has come since: a log that is moved whole is begun anew, and else it would
// grow for as long as somebody writes.
func (s *Store) moveLog(ctx context.Context) error {
	if _, err := s.mover.checkpoint(ctx); err != nil {
		return err
	}
	if err := s.turn.take(ctx); err != nil {
		return err
	}
	defer s.turn.give()
	m := s.mover
	pages, err := m.checkpoint(ctx)
	if err == nil && m.rows > 0 && pages > 0 {
		m.pagesPerRow = (3*m.pagesPerRow + float64(pages)/float64(m.rows)) / 4
	}
	m.rows = 0
	return err
}

// checkpoint moves what nobody is reading, and returns how many pages the log has.
func (m *mover) checkpoint(ctx context.Context) (pages int, err error) {
	var busy, moved int
	if err := m.db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &moved); err != nil {
		return 0, fmt.Errorf("checkpoint: %w%s", err, cure(err))
	}
	return pages, nil
}
