package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// insertEntry puts a revision in its entry's row, unless that one is as high
// or higher. It sets only what was captured; the origin is that of the revision
// which is stored.
const insertEntry = `
INSERT INTO entry (id, revision, timestamp, organization_slug, project_ref, token, session, user, ip, instance, sequence, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
	revision          = excluded.revision,
	timestamp         = excluded.timestamp,
	organization_slug = excluded.organization_slug,
	project_ref       = excluded.project_ref,
	token             = excluded.token,
	session           = excluded.session,
	user              = excluded.user,
	ip                = excluded.ip,
	instance          = excluded.instance,
	sequence          = excluded.sequence,
	document          = excluded.document
WHERE excluded.revision > entry.revision`

// Write stores the batch in one transaction: all of it or nothing. Writing it
// again changes nothing. The context is looked at between entries; what delays
// the end beyond that is the sync, or up to a second for another writer. Only
// what refusal names is a forwarder.RefusedError.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(ctx, batch); err != nil {
		return fmt.Errorf("writing to audit store %q: %w%s", s.path, err, cure(err))
	}
	return nil
}

func (s *Store) write(ctx context.Context, batch []forwarder.Record) error {
	if s.closed {
		return errors.New("it is closed")
	}
	for _, r := range batch {
		if o := r.Entry.Origin; o == nil || o.Sequence == 0 || o.Sequence > math.MaxInt64 {
			return &forwarder.RefusedError{Err: fmt.Errorf("entry %q has no origin with a sequence from 1 to 2^63-1", r.Entry.ID)}
		}
	}
	// Without ctx: the driver would start a goroutine for each statement.
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	insert := tx.Stmt(s.insert)
	for _, r := range batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, a := r.Entry, &r.Entry.Actor
		_, err := insert.Exec(e.ID, e.Revision, e.Timestamp, unknown(e.OrganizationSlug), unknown(e.ProjectRef),
			mark(a.TokenHash), mark(a.SessionID), mark(a.UserID), mark(a.IP), e.Origin.Instance, int64(e.Origin.Sequence), string(r.JSON))
		if err != nil {
			return fmt.Errorf("inserting entry %q: %w", e.ID, refusal(err))
		}
		for _, hash := range a.OtherTokenHashes {
			if _, err := tx.Exec(`INSERT OR IGNORE INTO other_token (token, key) SELECT ?, key FROM entry WHERE id = ?`, mark(hash), e.ID); err != nil {
				return fmt.Errorf("inserting a further token of entry %q: %w", e.ID, err)
			}
		}
	}
	for _, r := range forwarder.Ranges(batch) {
		if err := receive(tx, r); err != nil {
			return fmt.Errorf("noting sequences %d to %d as received: %w", r.First, r.Last, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return s.inPlace()
}

// refusal is what an entry's own content makes SQLite say, as a
// forwarder.RefusedError: it is longer than SQLite's limit, or against a
// constraint, of which the schema has none that it could meet but an operator
// may have added some. Every other error stays as it is.
func refusal(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH:
		return &forwarder.RefusedError{Err: err}
	}
	return err
}

// Highest implements forwarder.Witness.
func (s *Store) Highest(ctx context.Context, instance string) (sequence uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last int64
	err = s.db.QueryRowContext(ctx, `SELECT coalesce(max(last), 0) FROM received WHERE instance = ?`, instance).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("reading how far audit store %q is: %w%s", s.path, err, cure(err))
	}
	return uint64(last), nil
}

// unknown is NULL for the empty string.
func unknown(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// mark stands for a text in an index: the first 64 bits of its SHA-256, NULL for
// the empty string. Two texts may share one, so it only finds candidates.
func mark(s string) any {
	if s == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(s))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// inPlace says whether the path still names the file that was written to.
// SQLite would go on writing to one that was removed, and the position with
// it, until a restart finds nothing.
func (s *Store) inPlace() error {
	now, err := os.Stat(s.path)
	if err == nil && os.SameFile(now, s.file) {
		return nil
	}
	return errors.Join(errors.New("the file was removed or replaced while in use: put it back, or reload to begin a new one"), err)
}

// receive merges a range into those that it overlaps or touches. Ranges in the
// table neither overlap nor touch, so only the one that begins at or before it
// and those that begin inside it or right behind can be concerned.
func receive(tx *sql.Tx, r forwarder.Range) error {
	first, last := int64(r.First), int64(r.Last)
	var f, l int64
	err := tx.QueryRow(`SELECT first, last FROM received WHERE instance = ? AND first <= ? ORDER BY first DESC LIMIT 1`,
		r.Instance, first).Scan(&f, &l)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case l >= last:
		return nil // all of it was received before
	case l >= first-1:
		first = f
	}
	beyond := last
	if beyond < math.MaxInt64 {
		beyond++
	}
	err = tx.QueryRow(`SELECT coalesce(max(last), 0) FROM received WHERE instance = ? AND first BETWEEN ? AND ?`,
		r.Instance, first, beyond).Scan(&l)
	if err != nil {
		return err
	}
	last = max(last, l)
	_, err = tx.Exec(`DELETE FROM received WHERE instance = ? AND first > ? AND first <= ?`, r.Instance, first, last)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO received (instance, first, last) VALUES (?, ?, ?)
		ON CONFLICT (instance, first) DO UPDATE SET last = excluded.last`, r.Instance, first, last)
	return err
}
