package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver of the store's file

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// sqliteStore is the shipped Caddyfile's own store. Its outage is a lock that
// another process, this one, holds on its file.
type sqliteStore struct {
	path string
	db   *sql.DB
	conn *sql.Conn
}

func (*sqliteStore) name() string  { return sqliteKind }
func (*sqliteStore) kind() string  { return sqliteKind }
func (*sqliteStore) once() bool    { return true }
func (*sqliteStore) block() string { return "" } // as it is shipped

func (s *sqliteStore) down(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("locking the store's file %s: %w", s.path, err)
		}
	}()
	if s.db, err = sql.Open("sqlite", s.path+"?_pragma=busy_timeout(30000)"); err != nil {
		return err
	}
	// A lock belongs to a connection, so it must always be the same one.
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return errors.Join(err, s.db.Close())
	}
	if _, err = s.conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		return errors.Join(err, s.up(ctx))
	}
	return nil
}

func (s *sqliteStore) up(context.Context) error {
	if s.conn == nil {
		return nil
	}
	// Closing the connection ends its transaction.
	err := errors.Join(s.conn.Close(), s.db.Close())
	s.conn = nil
	if err != nil {
		return fmt.Errorf("unlocking the store's file %s: %w", s.path, err)
	}
	return nil
}

func (s *sqliteStore) close() error { return s.up(context.Background()) }

// read opens the file beside the build.
func (s *sqliteStore) read() (*sql.DB, error) {
	db, err := sql.Open("sqlite", s.path+"?_pragma=busy_timeout(30000)&_pragma=query_only(1)")
	if err != nil {
		return nil, fmt.Errorf("opening the store's file %s: %w", s.path, err)
	}
	return db, nil
}

func (s *sqliteStore) arrivals(ctx context.Context) ([]rig.Entry, error) {
	db, err := s.read()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	entries, err := decode(func(yield func([]byte) error) error {
		return eachRow(ctx, db, `SELECT document FROM entry ORDER BY key`, yield)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the store's file %s: %w", s.path, err)
	}
	return entries, nil
}

func eachRow(ctx context.Context, db *sql.DB, query string, yield func([]byte) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var doc []byte
		if err := rows.Scan(&doc); err != nil {
			return err
		}
		if err := yield(doc); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *sqliteStore) ranges(ctx context.Context) (map[string][][2]uint64, error) {
	db, err := s.read()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT instance, first, last FROM received ORDER BY instance, first`)
	if err != nil {
		return nil, fmt.Errorf("reading what the store's file %s has received: %w", s.path, err)
	}
	defer rows.Close()
	found := map[string][][2]uint64{}
	for rows.Next() {
		var instance string
		var first, last uint64
		if err := rows.Scan(&instance, &first, &last); err != nil {
			return nil, err
		}
		found[instance] = append(found[instance], [2]uint64{first, last})
	}
	return found, rows.Err()
}
