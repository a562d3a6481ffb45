package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// rewrite appends the same lines to another file, and syncs it after each batch.
func (s *fileStore) rewrite(_ context.Context, size int) (n int, took time.Duration, err error) {
	names, err := s.files()
	if err != nil {
		return 0, 0, err
	}
	lines, err := linesOf(names)
	if err != nil {
		return 0, 0, err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(s.dir), "bare.ndjson"), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	began := time.Now()
	for i := 0; i < len(lines); i += size {
		_, err := f.Write(bytes.Join(lines[i:min(i+size, len(lines))], nil))
		if err := errors.Join(err, f.Sync()); err != nil {
			return 0, 0, err
		}
	}
	return len(lines), time.Since(began), nil
}

// linesOf are the lines of files, those that are not there left out.
func linesOf(names []string) (lines [][]byte, err error) {
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for line := range bytes.Lines(b) {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// rewrite posts the same documents to another receiver of the same kind, compressed and signed
// as it wants them.
func (s *httpStore) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	lines, err := linesOf([]string{s.file.Name()})
	if err != nil {
		return 0, 0, err
	}
	second, err := newReceiver(s.file.Name()+".bare", httpKind, "")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, second.close()) }()
	size = min(size, httpclient.MaxBatchEntries)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	began := time.Now()
	for i := 0; i < len(lines); i += size {
		var body bytes.Buffer
		z := gzip.NewWriter(&body)
		for n, line := range lines[i:min(i+size, len(lines))] {
			_, _ = z.Write([]byte{"[,"[min(n, 1)]}) // to memory: never fails
			_, _ = z.Write(bytes.TrimSuffix(line, []byte("\n")))
		}
		_, _ = z.Write([]byte("]"))
		_ = z.Close()
		if err := second.post(ctx, client, strconv.Itoa(i), body.Bytes()); err != nil {
			return 0, 0, err
		}
	}
	return len(lines), time.Since(began), nil
}

// post sends one request that is compressed.
func (s *httpStore) post(ctx context.Context, client *http.Client, id string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/ingest", bytes.NewReader(body))
	if err != nil {
		return err
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Content-Encoding": "gzip", "Webhook-Id": id, "Webhook-Timestamp": stamp,
		"Webhook-Signature": signature(id, stamp, body),
	} {
		r.Header.Set(name, value)
	}
	return exchange(client, r)
}

// exchange sends a request whose answer must be 200.
func exchange(client *http.Client, r *http.Request) error {
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if said, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("posting: %s: %s: %w", answer.Status, said, err)
	}
	return nil
}

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
