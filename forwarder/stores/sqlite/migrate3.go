package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// schema3 is what version 3 adds: what a page of one organization's entries is made of.
//
// owner is Entry.Owner and the other columns are Entry.Brief, with the stamp on. The index
// has all of a Brief, so that entries are filtered and counted without a look at their
// rows, in which the columns stand behind the document. It is the one index whose entries
// are large. It takes the place of those by slug and by project: an insert into three of
// them costs more than one into the two before, and into this one alone less. So a project
// that hardly occurs is found among its owner's entries, at 0.4 µs for each. event is 1 for
// an event of the sidecar.
//
// named is which owners have had a slug, so that what is selected by slug is found among
// their entries. It may have a pair too many, since the slug is compared as well.
const schema3 = `
ALTER TABLE entry ADD COLUMN owner TEXT;
ALTER TABLE entry ADD COLUMN actor TEXT;
ALTER TABLE entry ADD COLUMN email TEXT;
ALTER TABLE entry ADD COLUMN token_type TEXT;
ALTER TABLE entry ADD COLUMN address BLOB;                      -- 16 bytes
ALTER TABLE entry ADD COLUMN action TEXT;
ALTER TABLE entry ADD COLUMN method TEXT;
ALTER TABLE entry ADD COLUMN target_type TEXT;
ALTER TABLE entry ADD COLUMN target TEXT;
ALTER TABLE entry ADD COLUMN outcome TEXT;
ALTER TABLE entry ADD COLUMN status INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN event INTEGER;                     -- 1, or NULL
CREATE TABLE named (
	slug  TEXT NOT NULL,
	owner TEXT NOT NULL,
	PRIMARY KEY (slug, owner)
) WITHOUT ROWID;
DROP INDEX entry_by_organization;
DROP INDEX entry_by_project;
`

// schema3Indexes are made when the columns are filled, which is faster.
const schema3Indexes = `
CREATE INDEX entry_by_owner ON entry (owner, timestamp, id, membership, actor, email, token_type, address, project_ref,
	action, method, target_type, target, outcome, status);
CREATE INDEX event_by_instance ON entry (instance, action, timestamp, id) WHERE event IS NOT NULL;
`

// migratePage is how many rows are read at a time.
const migratePage = 1000

// migrate3 makes version 3 of version 2. Each document is read, and its row written anew,
// once; the log takes as much room as the file until that is done.
func migrate3(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, schema3); err != nil {
		return err
	}
	if err := fillBriefs(ctx, tx); err != nil {
		return fmt.Errorf("filling its columns: %w", err)
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA user_version = %d;", schema3Indexes, 3))
	return err
}

func fillBriefs(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.PrepareContext(ctx, `SELECT key, ifnull(organization_slug, ''), document, `+tagColumns+` FROM entry WHERE key > ? ORDER BY key LIMIT ?`)
	if err != nil {
		return err
	}
	defer rows.Close()
	update, err := tx.PrepareContext(ctx, `UPDATE entry SET owner = ?, `+briefSets+` WHERE key = ?`)
	if err != nil {
		return err
	}
	defer update.Close()
	name, err := tx.PrepareContext(ctx, insertNamed)
	if err != nil {
		return err
	}
	defer name.Close()
	fill := filling{rows: rows, update: update, name: name, named: map[named]struct{}{}}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err = fill.page(); err != nil {
			return err
		}
	}
	return nil
}

// filling is where the filling of columns stands.
type filling struct {
	rows, update, name *sql.Stmt
	named              map[named]struct{} // that were written lately
	key                int64
	values             []any // of a page's updates, one after the other
}

// page fills the columns of some rows.
func (f *filling) page() (more bool, err error) {
	keys, err := f.read()
	if err != nil {
		return false, err
	}
	const each = briefArgs + 2
	for i := range keys {
		// Without a context: the driver would start a goroutine for each statement.
		if _, err := f.update.Exec(f.values[i*each : (i+1)*each]...); err != nil {
			return false, err
		}
	}
	return len(keys) == migratePage, nil
}

func (f *filling) read() (keys []int64, err error) {
	rows, err := f.rows.Query(f.key, migratePage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	f.values = f.values[:0]
	var found []named
	for rows.Next() {
		var slug string
		var doc sql.RawBytes
		var t tag
		if err := rows.Scan(t.into(&f.key, &slug, &doc)...); err != nil {
			return nil, err
		}
		// Of what nobody can decode is known what the columns say.
		captured := organization{}
		if t.stamped.slug == "" {
			captured.slug = slug
		}
		e, err := audit.Decode(doc)
		if err == nil {
			captured = organization{e.OrganizationID, e.OrganizationSlug}
		} else {
			e = new(audit.Entry)
		}
		owner := ownerOf(captured, t.stamped)
		found = append(found, named{slug, owner})
		f.values = append(briefValues(append(f.values, unknown(string(owner))), e), f.key)
		keys = append(keys, f.key)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if err := rows.Close(); err != nil {
		return nil, err
	}
	return keys, f.write(found)
}

func (f *filling) write(all []named) error {
	for _, n := range all {
		if _, known := f.named[n]; known || n.slug == "" || n.owner == audit.OwnerBySlug(n.slug) {
			continue
		}
		if len(f.named) >= maxNamed {
			clear(f.named)
		}
		f.named[n] = struct{}{}
		if _, err := f.name.Exec(n.slug, string(n.owner)); err != nil {
			return err
		}
	}
	return nil
}
