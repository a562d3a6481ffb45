package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver of the store that is kept from writing
)

// squeeze takes the buffer's room away.
type squeeze interface {
	press(ctx context.Context) error
	// release gives it back. It may be called again.
	release() error
}

// hold keeps the store from taking anything: it writes to a SQLite file that
// somebody else holds, so that entries stay in the buffer until it has its
// max_size.
type hold struct {
	path string
	db   *sql.DB
	conn *sql.Conn
}

func (h *hold) press(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("locking the store's file %s: %w", h.path, err)
		}
	}()
	if h.db, err = sql.Open("sqlite", h.path+"?_pragma=busy_timeout(30000)"); err != nil {
		return err
	}
	// A lock belongs to a connection, so it must always be the same one.
	if h.conn, err = h.db.Conn(ctx); err != nil {
		return errors.Join(err, h.db.Close())
	}
	if _, err = h.conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		return errors.Join(err, h.release())
	}
	return nil
}

func (h *hold) release() error {
	if h.conn == nil {
		return nil
	}
	// Closing the connection ends its transaction.
	err := errors.Join(h.conn.Close(), h.db.Close())
	h.conn = nil
	if err != nil {
		return fmt.Errorf("unlocking the store's file %s: %w", h.path, err)
	}
	return nil
}
