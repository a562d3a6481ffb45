package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// SchemaVersion is the version of the file that this package writes. It reads the earlier
// ones, and Open brings them to this one.
const SchemaVersion = schemaVersion

const (
	// applicationID marks the file as ours, "CAUD". SQLite keeps it in the
	// file's header.
	applicationID = 0x43415544
	// schemaVersion is the file's user_version.
	schemaVersion = 4
)

// schema1 is version 1. A new file gets it and then schema2 to schema4, so that a new file and a
// migrated one are the same but for their free pages, see migrate.
//
// An entry's row is unique by id, and the highest revision has it. The columns
// beside the document exist to find it; the document is what readers get.
// Unknown is NULL, so that the partial indexes hold only what can be asked for.
//
// Who acts has many values, and an index by them alone would take each of a
// batch's entries to a page of its own: that made an insert with these four
// indexes two to three times as dear, and dearer with each million. So they are
// marks of 64 bits instead of texts, and the indexes begin with the block, 4096
// rows in the order of insertion: all inserts go to the few pages of the newest
// block, and a search looks once into each. See mark and findMarked.
//
// other_token has what a call presented beside the credential that counts, where
// it did. Those are few values, such as one project's API key, so it needs no
// blocks. A row whose entry is gone finds nothing.
//
// received holds the sequences that ever arrived, as merged ranges, because
// the sequence of a replaced revision is in no row. Pruning leaves it alone.
const schema1 = `
CREATE TABLE entry (
	key               INTEGER PRIMARY KEY,
	id                TEXT    NOT NULL UNIQUE,
	revision          INTEGER NOT NULL,
	timestamp         INTEGER NOT NULL, -- arrival, microseconds since epoch
	organization_slug TEXT,
	project_ref       TEXT,
	token             INTEGER,          -- marks of who acts, see mark
	session           INTEGER,
	user              INTEGER,
	ip                INTEGER,
	instance          TEXT    NOT NULL, -- the buffer that this revision came from
	sequence          INTEGER NOT NULL, -- and its number there
	document          TEXT    NOT NULL  -- the whole entry, JSON
);
CREATE INDEX entry_by_time ON entry (timestamp, id);
CREATE INDEX entry_by_organization ON entry (organization_slug, timestamp, id) WHERE organization_slug IS NOT NULL;
CREATE INDEX entry_by_project ON entry (project_ref, timestamp, id) WHERE project_ref IS NOT NULL;
CREATE INDEX entry_by_token ON entry (key >> 12, token) WHERE token IS NOT NULL;
CREATE INDEX entry_by_session ON entry (key >> 12, session) WHERE session IS NOT NULL;
CREATE INDEX entry_by_user ON entry (key >> 12, user) WHERE user IS NOT NULL;
CREATE INDEX entry_by_ip ON entry (key >> 12, ip) WHERE ip IS NOT NULL;
CREATE TABLE other_token (
	token INTEGER NOT NULL, -- mark of a further credential of a call
	key   INTEGER NOT NULL, -- of its entry
	PRIMARY KEY (token, key)
) WITHOUT ROWID;
CREATE TABLE received (
	instance TEXT    NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	PRIMARY KEY (instance, first)
) WITHOUT ROWID;
`

// schema2 is what version 2 adds: how long entries are kept, and whose they are.
//
// The columns of the stamp stand beside what was captured. A higher revision changes
// what was captured, and the stamp only as tag.add says. organization_slug is now that
// which was captured, or else the stamped one: one index finds both.
//
// keep_until is NULL for what has no stamp; the greatest integer is for ever. held is the
// number of holds that had ended when one was found that keeps the row; once another one
// has ended it is asked again. It says nothing to anybody else: what a hold keeps is
// asked of the hold.
//
// No index has the new columns. An index costs each insert a tenth, and making it reads
// all of a large table. Instead there are expiring, pending and held, which are written
// together with the rows that they are about, see change.enter: expiring has one row for
// all entries of a block of 256 keys that are kept until one time, which is midnight, and
// are neither pending nor held. It may have one too many, for entries that are not so any
// more, and never one too few.
//
// gone has the sequences that have arrived and are in no row for a good reason: replaced
// by a higher revision, ignored because of one, deleted with a receipt, or expired before
// they came. So what was received, is in no row and not gone is lost.
//
// receipt has one row for what is deleted of a class and a buffer in one day (UTC).
// class_total has, beside the totals, the latest arrival and retention of all receipts of
// the class, so that Write sees at once that none of them covers what is new.
const schema2 = `
ALTER TABLE entry ADD COLUMN class TEXT;
ALTER TABLE entry ADD COLUMN keep_until INTEGER;                -- microseconds since epoch
ALTER TABLE entry ADD COLUMN plan TEXT;
ALTER TABLE entry ADD COLUMN membership TEXT;
ALTER TABLE entry ADD COLUMN stamped_organization_id TEXT;
ALTER TABLE entry ADD COLUMN stamped_organization_slug TEXT;
ALTER TABLE entry ADD COLUMN pending INTEGER;                   -- 1, or NULL
ALTER TABLE entry ADD COLUMN held INTEGER;
CREATE TABLE expiring (
	keep_until INTEGER NOT NULL,
	block      INTEGER NOT NULL, -- key >> 8
	PRIMARY KEY (keep_until, block)
) WITHOUT ROWID;
CREATE TABLE pending (
	timestamp INTEGER NOT NULL,
	key       INTEGER NOT NULL,
	PRIMARY KEY (timestamp, key)
) WITHOUT ROWID;
CREATE TABLE held (
	mark INTEGER NOT NULL, -- entry.held
	key  INTEGER NOT NULL,
	PRIMARY KEY (mark, key)
) WITHOUT ROWID;
CREATE INDEX other_token_by_key ON other_token (key);
CREATE TABLE gone (
	instance TEXT    NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	PRIMARY KEY (instance, first)
) WITHOUT ROWID;
CREATE TABLE receipt (
	day            INTEGER NOT NULL, -- of the deletion, since epoch
	class          TEXT    NOT NULL, -- empty for what had no stamp
	instance       TEXT    NOT NULL,
	rule           TEXT    NOT NULL,
	first_sequence INTEGER NOT NULL,
	last_sequence  INTEGER NOT NULL,
	first_arrival  INTEGER NOT NULL, -- microseconds since epoch, as all that follow
	last_arrival   INTEGER NOT NULL,
	kept_until     INTEGER NOT NULL,
	entries        INTEGER NOT NULL,
	late           INTEGER NOT NULL,
	deleted_from   INTEGER NOT NULL,
	deleted_to     INTEGER NOT NULL,
	PRIMARY KEY (day, class, instance)
) WITHOUT ROWID;
CREATE INDEX receipt_by_class ON receipt (class, last_arrival);
CREATE TABLE hold (
	id    TEXT    PRIMARY KEY,
	since INTEGER NOT NULL, -- microseconds since epoch
	hold  TEXT    NOT NULL  -- all of it, JSON
) WITHOUT ROWID;
CREATE TABLE class_total (
	class           TEXT    PRIMARY KEY, -- empty for what has no stamp
	entries         INTEGER NOT NULL DEFAULT 0,
	bytes           INTEGER NOT NULL DEFAULT 0, -- of their documents
	held            INTEGER NOT NULL DEFAULT 0, -- how many of them are marked as held
	pending         INTEGER NOT NULL DEFAULT 0,
	deleted_arrival INTEGER, -- the latest arrival that a receipt is for
	deleted_until   INTEGER  -- and the latest end of a retention
) WITHOUT ROWID;
CREATE TABLE state (
	name  TEXT    PRIMARY KEY, -- see the constants of that name
	value INTEGER NOT NULL
) WITHOUT ROWID;
`

// The names of state.
const (
	// stateReleased is how many holds have ended.
	stateReleased = "released"
	// stateUntagged and stateUntaggedLast are between which keys, both included, there
	// may be entries without a stamp. What an earlier version has written is found so
	// without an index of it, which would take long to make.
	stateUntagged     = "untagged"
	stateUntaggedLast = "untagged_last"
	// stateSummaries is how often a summary was made. Another process that writes sees by
	// it that it does not know all of them.
	stateSummaries = "summaries"
)

// querier is a *sql.DB or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls f for each row of a query.
func each(ctx context.Context, q querier, query string, f func(*sql.Rows) error, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// version returns the file's schema version, zero for an empty file. It
// refuses what is not an audit store of this version or an older one.
func version(ctx context.Context, q querier) (int, error) {
	var app, v, tables int
	err := q.QueryRowContext(ctx, `SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id a, pragma_user_version v`).Scan(&app, &v, &tables)
	switch {
	case err != nil:
		return 0, err
	case app == 0 && v == 0 && tables == 0:
		return 0, nil
	case app != applicationID:
		return 0, fmt.Errorf("it is the database of another program (application id %#x, %d tables): name another file", app, tables)
	case v > schemaVersion:
		return 0, fmt.Errorf("its schema version %d is newer than this build's %d: use a newer build, or name another file", v, schemaVersion)
	}
	return v, nil
}

// migrate brings an empty or older file to the current schema, in one
// transaction, which also keeps two processes from doing it at once.
//
// New files give space back (auto_vacuum = INCREMENTAL), which SQLite can only
// be told before the first table is made. Those of version 1 cannot: the pages
// of what is deleted stay in them and are used again.
func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) (err error) {
	v, err := version(ctx, db)
	if err != nil {
		return err
	}
	if v == 0 {
		if err := vacuumIncrementally(ctx, db); err != nil {
			return err
		}
	}
	// Not before the file is known to be ours: this changes it.
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("its journal mode stays %q instead of \"wal\": put it on a local disk", mode)
	}
	if v == schemaVersion {
		return nil
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
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if v, err = version(ctx, tx); err != nil {
		return err
	}
	if v == 0 {
		// A pragma takes no parameters, but this is a constant.
		_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d;", schema1, applicationID))
		if err != nil {
			return fmt.Errorf("creating its tables: %w", err)
		}
	}
	for i, step := range []func(context.Context, *sql.Tx) error{migrate2, migrate3, migrate4} {
		if to := i + 2; v < to {
			if err := step(ctx, tx); err != nil {
				return fmt.Errorf("bringing it from schema version %d to %d: %w", v, to, err)
			}
		}
	}
	return tx.Commit()
}

// vacuumIncrementally sees to it that an empty file can be made smaller later.
func vacuumIncrementally(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, `PRAGMA auto_vacuum = INCREMENTAL`); err != nil {
		return err
	}
	vacuums, err := canVacuum(ctx, db)
	if err != nil || vacuums {
		return err
	}
	// A file that has its first page already is written anew: it has no other.
	_, err = db.ExecContext(ctx, `VACUUM`)
	return err
}

// canVacuum reports whether the file can be made smaller in steps.
func canVacuum(ctx context.Context, q querier) (bool, error) {
	var mode int
	err := q.QueryRowContext(ctx, `PRAGMA auto_vacuum`).Scan(&mode)
	return mode == 2, err
}

// migrate2 makes version 2 of version 1. New columns cost nothing. The entries are read
// through once, to count them, and to take the sequences that are in none as gone: of what
// was replaced before this version nobody has kept a record.
func migrate2(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA user_version = %d;", schema2, 2))
	if err != nil {
		return err
	}
	var rows runs
	var total forwarder.ClassTotal
	var first, last int64
	err = each(ctx, tx, `SELECT key, instance, sequence, octet_length(document) FROM entry ORDER BY key`, func(r *sql.Rows) error {
		var instance sql.RawBytes
		var sequence uint64
		var size int64
		if err := r.Scan(&last, &instance, &sequence, &size); err != nil {
			return err
		}
		if total.Entries == 0 {
			first = last
		}
		rows.add(instance, sequence)
		total.Entries++
		total.Bytes += size
		return nil
	})
	if err != nil || total.Entries == 0 {
		return err
	}
	received, err := ranges(ctx, tx, "received")
	if err != nil {
		return err
	}
	for _, r := range without(received, rows.merged()) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO gone (instance, first, last) VALUES (?, ?, ?)`, r.Instance, int64(r.First), int64(r.Last)); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO class_total (class, entries, bytes) VALUES ('', ?, ?)`, total.Entries, total.Bytes)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO state (name, value) VALUES (?, ?), (?, ?)`, stateUntagged, first, stateUntaggedLast, last)
	return err
}
