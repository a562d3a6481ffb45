//go:build unix

// Command size measures how many bytes an entry takes: in the buffer while it waits, and for
// good in the stores whose disk is the operator's. `caddy audit size` computes with what it
// prints, and docs/sizing.md shows it.
//
// The entries are those of internal/sample. What varies from site to site is how long they
// are, so that beside the bytes it prints what a store adds to an entry's own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/file"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

var (
	flagEntries       = flag.Int("entries", 200_000, "how many entries each store gets; the buffer gets a tenth")
	flagOrganizations = flag.Int("organizations", 1000, "of how many organizations")
	flagPostgres      = flag.Bool("postgres", true, "measure PostgreSQL too, which must be installed")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "size-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m := &measure{dir: dir}
	if err := m.plain(); err != nil {
		return err
	}
	fmt.Printf("%d entries of %d organizations\n\n%-28s %12s %12s\n", *flagEntries, *flagOrganizations, "", "bytes/entry", "beyond JSON")
	m.print("JSON, as it is stored", m.json)
	m.print("JSON, as it is captured", m.captured)
	fmt.Printf("%-28s %11.0f%%\n", "calls with an intent", 100*m.changing)
	for _, callers := range []int{1, 64} {
		if err := m.buffer(callers); err != nil {
			return err
		}
	}
	if err := m.sqlite(ctx); err != nil {
		return err
	}
	if err := m.file(ctx); err != nil {
		return err
	}
	if err := m.compressed(); err != nil {
		return err
	}
	if !*flagPostgres {
		return nil
	}
	return m.postgres(ctx)
}

// measure holds what the others are compared with: the mean of an entry's JSON, as stores
// get it, with its origin and its stamp. What the buffer has is without them.
type measure struct {
	dir                      string
	json, captured, changing float64
}

func (m *measure) print(what string, bytes float64) {
	fmt.Printf("%-28s %12.0f %+12.0f\n", what, bytes, bytes-m.json)
}

// entries are the same ones each time, as a month has them.
func entries(n int) iter.Seq2[*audit.Entry, *audit.Stamp] {
	until := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	return sample.Entries(sample.Options{Organizations: *flagOrganizations, Entries: n, Until: until, Span: 30 * 24 * time.Hour, Seed: 1})
}

const instance = "0198c0de-0000-7000-8000-000000000003"

func (m *measure) plain() error {
	n := float64(*flagEntries)
	for e := range entries(*flagEntries) {
		b, err := e.Encode()
		if err != nil {
			return err
		}
		m.captured += float64(len(b)) / n
		if e.Policy.Durability == audit.DurabilityStrict {
			m.changing += 1 / n
		}
	}
	return eachRecord(*flagEntries, func(r forwarder.Record) error {
		m.json += float64(len(r.JSON)) / n
		return nil
	})
}

// eachRecord yields records as a store that does not stamp apart gets them.
func eachRecord(entriesOf int, do func(forwarder.Record) error) error {
	sequence := uint64(0)
	for e, stamp := range entries(entriesOf) {
		b, err := e.Encode()
		if err != nil {
			return err
		}
		sequence++
		r, err := forwarder.NewRecord(instance, sequence, b)
		if err != nil {
			return err
		}
		stamp.On(r.Entry)
		if b, err = r.Entry.Encode(); err != nil {
			return err
		}
		r.JSON = b
		if err := do(r); err != nil {
			return err
		}
	}
	return nil
}

// buffer measures what an entry takes until every store has it, its call's intent
// included, where so many callers share a commit.
func (m *measure) buffer(callers int) (err error) {
	n := *flagEntries / 10
	b, err := buffer.Open(filepath.Join(m.dir, fmt.Sprintf("buffer-%d", callers)), buffer.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close(context.Background())) }()
	before := b.Stats()
	work := make(chan *audit.Entry)
	failed := make(chan error, callers)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for e := range work {
				if err := record(b, e); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	for e := range entries(n) {
		select {
		case work <- e:
		case err := <-failed:
			return err
		}
	}
	close(work)
	all.Wait()
	after := b.Stats()
	m.print(fmt.Sprintf("buffer, %d caller(s)", callers), float64(after.Bytes-before.Bytes)/float64(after.Head-before.Head))
	return nil
}

// record does what a call does.
func record(b *buffer.Buffer, e *audit.Entry) error {
	c, err := b.Admit(16<<10, buffer.Caller{Known: true})
	if err != nil {
		return err
	}
	defer c.Release()
	if e.Policy.Durability == audit.DurabilityStrict {
		intent := *e
		intent.Revision, intent.Outcome = audit.RevisionUnknown, audit.OutcomeUnknown
		intent.Action.Status, intent.Action.StatusSource, intent.DurationUS = 0, "", 0
		payload, err := intent.Encode()
		if err != nil {
			return err
		}
		if err := c.Begin(payload); err != nil {
			return err
		}
	}
	payload, err := e.Encode()
	if err != nil {
		return err
	}
	return c.Append(payload)
}

// fill writes all entries as their buffer's deliveries do.
func fill(ctx context.Context, s forwarder.Store) error {
	to := sample.Writer{Store: s, Instance: instance}
	for e, stamp := range entries(*flagEntries) {
		if _, err := to.Add(ctx, e, stamp); err != nil {
			return err
		}
	}
	return to.Flush(ctx)
}

func (m *measure) sqlite(ctx context.Context) error {
	path := filepath.Join(m.dir, "audit.db")
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := errors.Join(fill(ctx, s), s.Close()); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	m.print("sqlite", float64(info.Size())/float64(*flagEntries))
	return os.Remove(path)
}

func (m *measure) file(ctx context.Context) error {
	path := filepath.Join(m.dir, "audit.ndjson")
	s, err := file.Open(ctx, file.Config{Path: path, MaxSize: 1 << 40}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	err = eachBatch(func(batch []forwarder.Record) error { return s.Write(ctx, batch) })
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	m.print("file", float64(info.Size())/float64(*flagEntries))
	return os.Remove(path)
}

// batchSize is what an object of s3 has while there is no backlog, at about a hundred
// entries a second.
const batchSize = 1000

func eachBatch(do func([]forwarder.Record) error) error {
	var batch []forwarder.Record
	err := eachRecord(*flagEntries, func(r forwarder.Record) error {
		if batch = append(batch, r); len(batch) < batchSize {
			return nil
		}
		err := do(batch)
		batch = nil
		return err
	})
	if err != nil || len(batch) == 0 {
		return err
	}
	return do(batch)
}

// compressed measures objects as s3 makes them, without what the service adds.
func (m *measure) compressed() error {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	defer func() { _ = encoder.Close() }()
	var bytes int
	err = eachBatch(func(batch []forwarder.Record) error {
		var plain []byte
		for _, r := range batch {
			plain = append(append(plain, r.JSON...), '\n')
		}
		bytes += len(encoder.EncodeAll(plain, nil))
		return nil
	})
	m.print("s3, objects of 1000", float64(bytes)/float64(*flagEntries))
	return err
}

// postgres counts tables, their indexes and what is moved out of their rows, but not the
// server's log.
func (m *measure) postgres(ctx context.Context) (err error) {
	server, err := pgtest.Start(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	s, err := postgres.Open(ctx, postgres.Config{DSN: func() (string, error) { return server.DSN(nil), nil }}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := errors.Join(fill(ctx, s), s.Close()); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, server.DSN(nil))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var bytes int64
	err = conn.QueryRow(ctx, `SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'r'`, postgres.DefaultSchema).Scan(&bytes)
	if err != nil {
		return err
	}
	m.print("postgres", float64(bytes)/float64(*flagEntries))
	return nil
}
