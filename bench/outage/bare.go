package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// rewrite copies the schema as SQLite has it and inserts with a prepared statement,
// with the same settings for syncs that a store has.
func (s *sqliteStore) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	from, err := s.read()
	if err != nil {
		return 0, 0, err
	}
	defer from.Close()
	path := s.path + ".bare"
	to, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, to.Close(), os.Remove(path)) }()
	to.SetMaxOpenConns(1)
	var schema []string
	if err := eachRow(ctx, from, `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rootpage`, func(b []byte) error {
		schema = append(schema, string(b))
		return nil
	}); err != nil {
		return 0, 0, err
	}
	if _, err := to.ExecContext(ctx, strings.Join(schema, ";\n")); err != nil {
		return 0, 0, err
	}
	rows, columns, err := table(ctx, from, `SELECT * FROM entry ORDER BY key`)
	if err != nil {
		return 0, 0, err
	}
	insert := fmt.Sprintf(`INSERT INTO entry (%s) VALUES (?%s)`, strings.Join(columns, ", "), strings.Repeat(", ?", len(columns)-1))
	began := time.Now()
	for i := 0; i < len(rows); i += size {
		if err := insertAll(to, insert, rows[i:min(i+size, len(rows))]); err != nil {
			return 0, 0, err
		}
	}
	return len(rows), time.Since(began), nil
}

func insertAll(db *sql.DB, insert string, rows [][]any) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	stmt, err := tx.Prepare(insert)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, row := range rows {
		if _, err := stmt.Exec(row...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// table reads a table into memory.
func table(ctx context.Context, db *sql.DB, query string) (all [][]any, columns []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	if columns, err = rows.Columns(); err != nil {
		return nil, nil, err
	}
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, nil, err
		}
		all = append(all, row)
	}
	return all, columns, rows.Err()
}

// rewrite copies the table with all of its indexes, though not its partitions, and
// fills it by COPY, which is the fastest way in that there is.
func (s *postgresStore) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing was begun on it
	if _, err := conn.Exec(ctx, `CREATE SCHEMA bare; CREATE TABLE bare.entry (LIKE caddy_audit.entry INCLUDING ALL)`); err != nil {
		return 0, 0, err
	}
	read, err := conn.Query(ctx, `SELECT timestamp, revision, sequence, class, id, instance, organization_slug, project_ref, marks, document::text, raw
		FROM caddy_audit.entry ORDER BY instance, sequence`)
	if err != nil {
		return 0, 0, err
	}
	rows, err := pgx.CollectRows(read, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return 0, 0, err
	}
	var columns []string
	for _, f := range read.FieldDescriptions() {
		columns = append(columns, f.Name)
	}
	for _, row := range rows {
		row[9] = []byte(row[9].(string)) // a text would be quoted as one of JSON's
	}
	began := time.Now()
	for i := 0; i < len(rows); i += size {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{"bare", "entry"}, columns, pgx.CopyFromRows(rows[i:min(i+size, len(rows))])); err != nil {
			return 0, 0, err
		}
	}
	return len(rows), time.Since(began), nil
}
