package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// postgresStore is a real server in a directory of its own. Its outage is that
// it is stopped.
type postgresStore struct {
	server *pgtest.Server
	// env is the variable that holds the DSN which the build gets.
	env string
}

// newPostgres starts a server. Settings are those of a server as it is
// installed.
func newPostgres() (*postgresStore, error) {
	server, err := pgtest.Start(nil)
	if err != nil {
		return nil, err
	}
	return &postgresStore{server, "OUTAGE_DSN"}, nil
}

func (*postgresStore) name() string { return postgresKind }
func (*postgresStore) kind() string { return postgresKind }
func (*postgresStore) once() bool   { return true }

// block has a timeout, so that a server that answers nothing is noticed within
// a short trial.
func (s *postgresStore) block() string {
	return "store postgres {env." + s.env + "} {\n\ttimeout 5s\n}"
}

// dsn leads to the server, or to another port that leads there.
func (s *postgresStore) dsn(port string) string {
	options := map[string]string{}
	if port != "" {
		options["port"] = port
	}
	return s.server.DSN(options)
}

func (s *postgresStore) down(context.Context) error { return s.server.Down() }
func (s *postgresStore) up(context.Context) error   { return s.server.Up() }
func (s *postgresStore) close() error               { return s.server.Close() }

func (s *postgresStore) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.dsn(""))
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	return conn, nil
}

func (s *postgresStore) arrivals(ctx context.Context) ([]rig.Entry, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing was begun on it
	entries, err := decode(func(yield func([]byte) error) error {
		rows, err := conn.Query(ctx, `SELECT coalesce(raw, convert_to(document::text, 'UTF8')) FROM caddy_audit.entry ORDER BY instance, sequence`)
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
	})
	if err != nil {
		return nil, fmt.Errorf("reading what PostgreSQL has: %w", err)
	}
	return entries, nil
}

func (s *postgresStore) ranges(ctx context.Context) (map[string][][2]uint64, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing was begun on it
	rows, err := conn.Query(ctx, `SELECT instance, first, last FROM caddy_audit.received ORDER BY instance, first`)
	if err != nil {
		return nil, fmt.Errorf("reading what PostgreSQL has received: %w", err)
	}
	found := map[string][][2]uint64{}
	var instance string
	var first, last int64
	if _, err := pgx.ForEachRow(rows, []any{&instance, &first, &last}, func() error {
		found[instance] = append(found[instance], [2]uint64{uint64(first), uint64(last)})
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading what PostgreSQL has received: %w", err)
	}
	return found, nil
}
