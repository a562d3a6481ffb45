//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

// The things that drain: the same buffer into one store after the other, and the rows that
// have come of it once more by the bare client of the store.
const (
	intoNothing       = "no store"
	intoSQLite        = "sqlite"
	intoManyRows      = "sqlite, many rows"
	bareSQLite        = "sqlite, bare client"
	intoPostgres      = "postgres"
	barePostgres      = "postgres, bare client"
	organizations     = 1000
	filling           = 4096 // appenders
	fillBatch         = 2000
	drainTime         = 30 * time.Minute
	batchOfTheBacklog = forwarder.DefaultMaxBatchEntries
)

// drained is what one of them managed in one round.
type drained struct {
	What  string  `json:"what"`
	Round int     `json:"round"`
	Rate  float64 `json:"entries_per_second"`
}

// drains is the part that measures delivery of a backlog, from a cold start on.
type drains struct {
	options
	dir     string
	figures []drained

	server *pgtest.Server
	many   string    // a database of many rows
	since  time.Time // the rows are from before, and each round's entries of an hour of their own after it
}

func (d *drains) run(ctx context.Context) (err error) {
	d.since = time.Now().Add(-time.Duration(d.Rounds+1) * time.Hour)
	if d.server, err = pgtest.Start(nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.server.Close()) }()
	if err := d.fillMany(ctx); err != nil {
		return err
	}
	bar := rig.NewProgress("drains")
	done := 0
	for round := 1; round <= d.Rounds; round++ {
		err := d.round(ctx, round, func(f drained) {
			f.Round = round
			d.figures = append(d.figures, f)
			done++
			bar.Step(done, d.Rounds*6, fmt.Sprintf("%s: %.0f/s", f.What, f.Rate))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fillMany makes a database as it is after years.
func (d *drains) fillMany(ctx context.Context) error {
	d.many = filepath.Join(d.dir, "many", "audit.db")
	s, err := sqlite.Open(ctx, sqlite.Config{Path: d.many}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	to := sample.Writer{Store: s, Instance: "0198c0de-0000-7000-8000-000000000004"}
	bar, n := rig.NewProgress("rows"), 0
	for e, stamp := range sample.Entries(sample.Options{Organizations: organizations, Entries: d.Rows, Until: d.since, Span: 30 * 24 * time.Hour, Seed: 1}) {
		if _, err := to.Add(ctx, e, stamp); err != nil {
			return errors.Join(err, s.Close())
		}
		if n++; n%1000 == 0 {
			bar.Step(n, d.Rows, "")
		}
	}
	return errors.Join(to.Flush(ctx), s.Summarize(ctx), s.Close())
}

func (d *drains) summarizeMany(ctx context.Context) error {
	s, err := sqlite.Open(ctx, sqlite.Config{Path: d.many}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(s.Summarize(ctx), s.Close())
}

// round fills a buffer with entries that nobody has seen yet, and drains it into everything.
func (d *drains) round(ctx context.Context, round int, did func(drained)) error {
	dir := filepath.Join(d.dir, "drains")
	if err := d.fill(ctx, filepath.Join(dir, "buffer"), organizations, d.since.Add(time.Duration(round)*time.Hour), uint64(round+1)); err != nil {
		return err
	}
	path := filepath.Join(dir, "audit.db")
	rate, err := d.drain(ctx, dir, intoNothing, round, func() (forwarder.Store, error) { return nothing{}, nil })
	if err != nil {
		return err
	}
	did(drained{What: intoNothing, Rate: rate})
	at := func(path string) func() (forwarder.Store, error) {
		return func() (forwarder.Store, error) {
			return sqlite.Open(ctx, sqlite.Config{Path: path}, slog.New(slog.DiscardHandler))
		}
	}
	if rate, err = d.drain(ctx, dir, intoSQLite, round, at(path)); err != nil {
		return err
	}
	did(drained{What: intoSQLite, Rate: rate})
	if rate, err = d.bareSQLite(ctx, path); err != nil {
		return fmt.Errorf("draining with SQLite alone: %w", err)
	}
	did(drained{What: bareSQLite, Rate: rate})
	if rate, err = d.drain(ctx, dir, intoManyRows, round, at(d.many)); err != nil {
		return err
	}
	did(drained{What: intoManyRows, Rate: rate})
	// What is left to do for these rows is not the next round's.
	if err := d.summarizeMany(ctx); err != nil {
		return err
	}
	rate, err = d.drain(ctx, dir, intoPostgres, round, func() (forwarder.Store, error) {
		return postgres.Open(ctx, postgres.Config{DSN: func() (string, error) { return d.server.DSN(nil), nil }}, slog.New(slog.DiscardHandler))
	})
	if err != nil {
		return err
	}
	did(drained{What: intoPostgres, Rate: rate})
	if rate, err = d.barePostgres(ctx); err != nil {
		return fmt.Errorf("draining with a PostgreSQL client alone: %w", err)
	}
	did(drained{What: barePostgres, Rate: rate})
	return os.RemoveAll(dir)
}

// fill makes a buffer of entries of so many organizations, from the hour before a time.
func (d *drains) fill(ctx context.Context, dir string, organizations int, until time.Time, seed uint64) (err error) {
	b, err := buffer.Open(dir, buffer.Options{MaxSize: 1 << 40, MaxWait: time.Minute})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close(ctx)) }()
	payloads := make(chan []byte, filling)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range filling {
		wg.Go(func() {
			for p := range payloads {
				if appendErr := b.Append(p); appendErr != nil {
					mu.Lock()
					err = errors.Join(err, appendErr)
					mu.Unlock()
				}
			}
		})
	}
	for e := range sample.Entries(sample.Options{Organizations: organizations, Entries: d.Entries, Until: until, Span: time.Hour, Seed: seed}) {
		p, encodeErr := e.Encode()
		if encodeErr != nil {
			err = errors.Join(err, encodeErr)
			break
		}
		payloads <- p
	}
	close(payloads)
	wg.Wait()
	return err
}

// source is a buffer as a forwarder sees it; see caddymodule.
type source struct{ *buffer.Buffer }

func (source) Quarantine(_ string, sequence uint64, reason string) error {
	return fmt.Errorf("entry %d was refused (%s), and none should be", sequence, reason)
}

// nothing is a store that costs nothing.
type nothing struct{}

func (nothing) Write(context.Context, []forwarder.Record) error { return nil }
func (nothing) Close() error                                    { return nil }
func (nothing) Describe() forwarder.Description {
	return forwarder.Description{Kind: "nothing", Location: "nowhere", Delivery: forwarder.DeliveryUnacknowledged}
}

// drain delivers all of the buffer as a server does, and returns how many entries a second.
func (d *drains) drain(ctx context.Context, dir, what string, round int, open func() (forwarder.Store, error)) (r float64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("draining into %s: %w", what, err)
		}
	}()
	store, err := open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := forget(filepath.Join(dir, "buffer", "seg-*.db")); err != nil {
		return 0, err
	}
	b, err := buffer.Open(filepath.Join(dir, "buffer"), buffer.Options{MaxSize: 1 << 40, MaxWait: time.Minute})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close(ctx)) }()
	for _, name := range []string{"who keeps it", what} {
		if err := b.Attach(name, buffer.Attachment{Destination: name, From: buffer.FromOldest}); err != nil {
			return 0, err
		}
	}
	keep := audit.Keep{Default: audit.Days(400)}
	directory, err := attribution.New(attribution.Options{Keep: &keep})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	_, keeps := store.(forwarder.Keeper)
	f := forwarder.New(what, source{b}, store, forwarder.Options{Stamper: directory, StampLater: keeps, StampApart: keeps})
	if d.Profiles != "" && round == d.Rounds {
		cpu, err := os.Create(filepath.Join(d.Profiles, "drain "+what+".cpu.pprof"))
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, cpu.Close()) }()
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return 0, err
		}
		defer pprof.StopCPUProfile()
	}
	head, from := b.Stats().Head, b.Position(what)
	running, stop := context.WithTimeout(ctx, drainTime)
	defer stop()
	ended := make(chan error, 1)
	start := time.Now()
	go func() { ended <- f.Run(running) }()
	for b.Position(what) < head && running.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	took, got := time.Since(start), b.Position(what)-from
	stop()
	if err := <-ended; err != nil {
		return 0, err
	}
	if b.Position(what) < head {
		return 0, fmt.Errorf("only %d of %d entries were delivered within %s", b.Position(what), head, drainTime)
	}
	return rate(got, took), nil
}

// bareSQLite writes the rows of a database into another one of the same schema, in batches
// of the same size, with the same driver and settings.
func (d *drains) bareSQLite(ctx context.Context, path string) (r float64, err error) {
	settings := "?_pragma=busy_timeout(1000)&_txlock=immediate"
	from, err := sql.Open("sqlite", "file:"+path+settings)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := sql.Open("sqlite", "file:"+filepath.Join(filepath.Dir(path), "bare.db")+settings)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	to.SetMaxOpenConns(1)
	if _, err := to.ExecContext(ctx, "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384"); err != nil {
		return 0, err
	}
	var tables []table
	rows, err := from.QueryContext(ctx, `SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type <> 'table'`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var kind, name, text string
		if err := rows.Scan(&kind, &name, &text); err != nil {
			return 0, err
		}
		if _, err := to.ExecContext(ctx, text); err != nil {
			return 0, err
		}
		if kind == "table" && name != "summary" { // that is made later, from what is there
			tables = append(tables, table{name: name})
		}
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	entries := 0
	for i := range tables {
		if err := tables[i].read(ctx, from); err != nil {
			return 0, err
		}
		if tables[i].name == "entry" {
			entries = len(tables[i].rows)
		}
	}
	batches := (entries + batchOfTheBacklog - 1) / batchOfTheBacklog
	start := time.Now()
	for n := range batches {
		tx, err := to.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		for _, t := range tables {
			if err := t.write(ctx, tx, len(t.rows)*n/batches, len(t.rows)*(n+1)/batches); err != nil {
				return 0, errors.Join(err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, err
		}
	}
	return rate(entries, time.Since(start)), nil
}

// table is a table with all of its rows.
type table struct {
	name, insert string
	rows         [][]any
}

func (t *table) read(ctx context.Context, from *sql.DB) error {
	rows, err := from.QueryContext(ctx, "SELECT * FROM "+t.name)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	t.insert = "INSERT INTO " + t.name + " VALUES (?"
	for range len(names) - 1 {
		t.insert += ", ?"
	}
	t.insert += ")"
	for rows.Next() {
		values := make([]any, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		t.rows = append(t.rows, values)
	}
	return rows.Err()
}

func (t *table) write(ctx context.Context, tx *sql.Tx, from, to int) error {
	if from == to {
		return nil
	}
	s, err := tx.PrepareContext(ctx, t.insert)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, values := range t.rows[from:to] {
		if _, err := s.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return nil
}

// barePostgres copies the rows of the newest drain into a table of the same columns and
// indexes, in batches of the same size: to a temporary table, and from there with ON
// CONFLICT, which is the fastest way that a client has to write what may be there.
func (d *drains) barePostgres(ctx context.Context) (r float64, err error) {
	conn, err := pgx.Connect(ctx, d.server.DSN(nil))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	entry := postgres.DefaultSchema + ".entry"
	rows, err := conn.Query(ctx, "SELECT * FROM "+entry)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, f := range rows.FieldDescriptions() {
		names = append(names, f.Name)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]any, error) { return r.Values() })
	if err != nil {
		return 0, err
	}
	for i, f := range rows.FieldDescriptions() {
		if f.DataTypeOID != 114 { // json, which is decoded unless it is asked for as text
			continue
		}
		texts, err := conn.Query(ctx, "SELECT "+pgx.Identifier{names[i]}.Sanitize()+"::text FROM "+entry)
		if err != nil {
			return 0, err
		}
		column, err := pgx.CollectRows(texts, pgx.RowTo[*string])
		if err != nil {
			return 0, err
		}
		for n := range all {
			all[n][i] = column[n]
		}
	}
	_, err = conn.Exec(ctx, "DROP TABLE IF EXISTS bare; CREATE TABLE bare (LIKE "+entry+" INCLUDING ALL); CREATE TEMPORARY TABLE batch (LIKE "+entry+")")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for from := 0; from < len(all); from += batchOfTheBacklog {
		batch := all[from:min(from+batchOfTheBacklog, len(all))]
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"batch"}, names, pgx.CopyFromRows(batch)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO bare SELECT * FROM batch ON CONFLICT DO NOTHING; TRUNCATE batch")
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	// The next round's entries come into an empty table, as these have.
	_, err = conn.Exec(ctx, "DROP SCHEMA "+postgres.DefaultSchema+" CASCADE")
	return rate(len(all), took), err
}

func (d *drains) of(what string) (rates []float64) {
	for _, f := range d.figures {
		if f.What == what {
			rates = append(rates, f.Rate)
		}
	}
	return rates
}

func (d *drains) ofBare(store string) spread { return ratios(d.of(store), d.of(store+", bare client")) }
func (d *drains) ofEmpty() spread            { return ratios(d.of(intoManyRows), d.of(intoSQLite)) }
func (d *drains) cold() spread               { return spreadOf(d.of(intoNothing)) }

// drainLine is one line of the part's table.
type drainLine struct {
	What string `json:"what"`
	Rate spread `json:"entries_per_second"`
}

func (d *drains) lines() (lines []drainLine) {
	for _, what := range []string{intoNothing, intoSQLite, bareSQLite, intoManyRows, intoPostgres, barePostgres} {
		lines = append(lines, drainLine{what, spreadOf(d.of(what))})
	}
	return lines
}

func (d *drains) print(w io.Writer, lines []drainLine) {
	fmt.Fprintf(w, "\n%d entries that wait, delivered from a cold start on; many rows are %d\n", d.Entries, d.Rows)
	for _, l := range lines {
		fmt.Fprintf(w, "%-24s %s entries/s\n", l.What, l.Rate.text("%.0f"))
	}
}
