package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// SchemaVersion is the version of the schema that this package reads and writes. Open brings
// earlier ones to it.
const SchemaVersion = schemaVersion

// schemaVersion is the newest of migrations.
const schemaVersion = 4

//go:embed migrations/*.sql
var migrations embed.FS

// migration is the SQL that brings a schema of the version before to this one. The
// schema's name needs no quotes, see schemaName.
func migration(version int, schema string) (string, error) {
	b, err := migrations.ReadFile(fmt.Sprintf("migrations/%d.sql", version))
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("{schema}", schema, "{literal}", "'"+schema+"'").Replace(string(b)), nil
}

// querier is a *pgx.Conn or a pgx.Tx.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version returns the schema's version, zero for one that is empty or not there. It
// refuses what another program made or a newer version of this one.
func version(ctx context.Context, q querier, schema string) (int, error) {
	var ours bool
	var tables int
	err := q.QueryRow(ctx, `SELECT coalesce(bool_or(c.relname = 'schema_version'), false), count(*)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1`, schema).Scan(&ours, &tables)
	switch {
	case err != nil:
		return 0, err
	case !ours && tables > 0:
		return 0, fmt.Errorf("its schema %s is another program's: it has %d tables or indexes, but no schema_version: name another by the option schema", schema, tables)
	case !ours:
		return 0, nil
	}
	var v int
	if err := q.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+schema+`.schema_version`).Scan(&v); err != nil {
		return 0, err
	}
	if v > schemaVersion {
		return 0, fmt.Errorf("its schema version %d is newer than this build's %d: use a newer build, or name another schema by the option schema", v, schemaVersion)
	}
	return v, nil
}

// check refuses a schema that is not of this version, for whoever must not make it so.
func check(ctx context.Context, q querier, schema string) error {
	switch v, err := version(ctx, q, schema); {
	case err != nil:
		return err
	case v == 0:
		return &unpreparedError{fmt.Sprintf("its schema %s has no tables yet: let a server start once without \"migrate off\", as the role that is to own them", schema)}
	case v < schemaVersion:
		return &unpreparedError{fmt.Sprintf("its schema version %d is older than this build's %d: let a server of this build start once without \"migrate off\", as the role that owns the tables", v, schemaVersion)}
	}
	return nil
}

// unpreparedError is a forwarder.ErrUnprepared in this store's words.
type unpreparedError struct{ text string }

func (e *unpreparedError) Error() string { return e.text }

func (*unpreparedError) Is(target error) bool { return target == forwarder.ErrUnprepared }

// migrate brings an absent, empty or older schema to the current version, in one
// transaction. A lock lets several sidecars start at once: the first does it, and the
// others find it done.
//
// Bringing a filled schema to another version takes as long as its rows are many, so that
// is not bounded by the store's timeout, as the first look is.
func migrate(first, ctx context.Context, conn *pgx.Conn, schema string, log *slog.Logger) (err error) {
	v, err := version(first, conn, schema)
	if err != nil || v == schemaVersion {
		return err
	}
	if v > 0 {
		began := time.Now()
		log = log.With("from", v, "to", schemaVersion)
		log.Info("bringing an audit store to another schema version; its entries wait until that is done")
		defer func() {
			if err == nil {
				log.Info("an audit store was brought to another schema version", "after", time.Since(began).Round(time.Millisecond))
			}
		}()
	}
	if v == 0 {
		ctx = first
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after Commit
	_, err = tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('caddy_audit ' || $1::text || ' schema', 0))`, schema)
	if err != nil {
		return fmt.Errorf("waiting for another sidecar that prepares it: %w", err)
	}
	if v, err = version(ctx, tx, schema); err != nil {
		return err
	}
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := tx.Exec(ctx, `CREATE SCHEMA `+schema); err != nil {
			return fmt.Errorf("creating schema %s: %w", schema, err)
		}
	}
	for v++; v <= schemaVersion; v++ {
		sql, err := migration(v, schema)
		if err != nil {
			return err
		}
		// Several statements at once take the simple protocol.
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("bringing its schema %s to version %d: %w", schema, v, err)
		}
	}
	return tx.Commit(ctx)
}

// schemaName refuses a name that would need quotes or that PostgreSQL keeps for
// itself.
func schemaName(name string) error {
	if name == "" || len(name) > 48 || strings.HasPrefix(name, "pg_") || name == "information_schema" {
		return errSchemaName
	}
	for i, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return errSchemaName
		}
	}
	return nil
}

var errSchemaName = errors.New("a schema's name has up to 48 letters from a to z, digits and underscores, begins with no digit, and not with pg_")
