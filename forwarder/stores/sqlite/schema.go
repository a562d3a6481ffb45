package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	// applicationID marks the file as ours, "CAUD". SQLite keeps it in the
	// file's header.
	applicationID = 0x43415544
	// schemaVersion is the file's user_version.
	schemaVersion = 1
)

// schema is version 1.
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
// Columns that are not captured (retention, hold, redactions) will stand in
// columns of their own, added by a later version. insertEntry names each
// column that a higher revision may change, so it cannot touch those; and
// Read will set them into the document.
//
// received holds the sequences that ever arrived, as merged ranges, because
// the sequence of a replaced revision is in no row. Pruning leaves it alone.
const schema = `
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

// querier is a *sql.DB or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
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
func migrate(ctx context.Context, db *sql.DB) error {
	v, err := version(ctx, db)
	if err != nil {
		return err
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
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if v, err = version(ctx, tx); err != nil {
		return err
	}
	if v == 0 {
		// A pragma takes no parameters, but these are constants.
		_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;",
			schema, applicationID, schemaVersion))
		if err != nil {
			return fmt.Errorf("creating its tables: %w", err)
		}
	}
	return tx.Commit()
}
