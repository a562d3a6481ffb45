package sqlite

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// version1 makes a store as schema version 1 left it: entries, of which the one of
// sequence 31 has taken the place of the one of sequence 7.
func version1(t testing.TB, path string, batch []forwarder.Record, received ...forwarder.Range) {
	t.Helper()
	schema, err := os.ReadFile("testdata/schema-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA journal_mode = WAL; BEGIN; " + string(schema)); err != nil {
		t.Fatal(err)
	}
	insert, err := db.Prepare(`INSERT INTO entry (id, revision, timestamp, organization_slug, project_ref, token, session, user, ip, instance, sequence, document)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		t.Fatal(err)
	}
	defer insert.Close()
	for _, r := range batch {
		e, a := r.Entry, &r.Entry.Actor
		_, err := insert.Exec(e.ID, e.Revision, e.Timestamp, unknown(e.OrganizationSlug), unknown(e.ProjectRef),
			mark(a.TokenHash), mark(a.SessionID), mark(a.UserID), mark(a.IP), e.Origin.Instance, int64(e.Origin.Sequence), string(r.JSON))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range received {
		if _, err := db.Exec(`INSERT INTO received VALUES (?, ?, ?)`, r.Instance, r.First, r.Last); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec("COMMIT"); err != nil {
		t.Fatal(err)
	}
}

func TestAnEarlierVersionIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	batch := records(t, 1, 30)
	batch[6] = record(t, entry(7, 2), 31)
	received := []forwarder.Range{{Instance: testInstance, First: 1, Last: 31}, {Instance: testInstance, First: 40, Last: 41}}
	version1(t, path, batch, received...)

	// A reader does not migrate, and reads it all the same; also when it is migrated meanwhile.
	r, err := OpenReader(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []string
	size := 0
	for _, record := range batch {
		want = append(want, string(record.JSON))
		size += len(record.JSON)
	}
	check := func(when string, r interface {
		forwarder.Reader
		forwarder.Ledger
	},
	) {
		t.Helper()
		if diff := cmp.Diff(want, documents(t, r, forwarder.Query{})); diff != "" {
			t.Errorf("entries %s (-want +got):\n%s", when, diff)
		}
		if n := len(documents(t, r, forwarder.Query{User: batch[0].Entry.Actor.UserID})); n != 1 {
			t.Errorf("%d entries of a user %s, want 1", n, when)
		}
		got, err := r.Classes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]forwarder.ClassTotal{{Entries: 30, Bytes: int64(size)}}, got); diff != "" {
			t.Errorf("classes %s (-want +got):\n%s", when, diff)
		}
		expiring, err := r.Expiring(t.Context(), inDays(100_000).Now)
		if err != nil || len(expiring) != 0 {
			t.Errorf("expiring %v, %v %s", expiring, err, when)
		}
		holds, err := r.Holds(t.Context())
		if err != nil || len(holds) != 0 {
			t.Errorf("holds %v, %v %s", holds, err, when)
		}
		if got := lost(t, r); got != nil {
			t.Errorf("lost %v %s: of what version 1 has replaced nobody knows", got, when)
		}
		if got := receipts(t, r); got != nil {
			t.Errorf("receipts %v %s", got, when)
		}
	}
	check("before", r)
	s := openStore(t, path)
	check("after", s)
	check("after, to a reader from before", r)
	checkReceived(t, s, received...)
	checkBooks(t, s)
	if s.vacuums {
		t.Error("a file of version 1 says that it can be made smaller")
	}
	outside(t, path, `DELETE FROM entry WHERE sequence IN (31, 12)`)
	deleted := []forwarder.Range{{Instance: testInstance, First: 12, Last: 12}, {Instance: testInstance, First: 31, Last: 31}}
	if diff := cmp.Diff(deleted, lost(t, s)); diff != "" {
		t.Errorf("lost after deleting by hand (-want +got):\n%s", diff)
	}

	// Nothing of it expires before it is stamped, once.
	pruneAll(t, s, inDays(100_000))
	var stamps []forwarder.Restamp
	for r, err := range s.Pending(t.Context(), true) {
		if err != nil || r.Stamp != nil {
			t.Fatalf("stamp %+v, %v", r.Stamp, err)
		}
		stamps = append(stamps, forwarder.Restamp{ID: r.Entry.ID, Timestamp: r.Entry.Timestamp, Stamp: audit.Stamp{
			Retention: &audit.Retention{Class: "short", KeepUntil: audit.Days(10).KeepMicros(r.Entry.Timestamp)},
		}})
	}
	if len(stamps) != 28 {
		t.Errorf("%d entries without a stamp, want 28", len(stamps))
	}
	for len(stamps) > 0 {
		n := min(len(stamps), 9)
		if err := s.Restamp(t.Context(), stamps[:n]); err != nil {
			t.Fatal(err)
		}
		stamps = stamps[n:]
		left := 0
		for range s.Pending(t.Context(), true) {
			left++
		}
		if left != len(stamps) {
			t.Errorf("%d entries without a stamp, want %d", left, len(stamps))
		}
	}
	pruneAll(t, s, inDays(20))
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	if diff := cmp.Diff(deleted, lost(t, s)); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

// A new file and a migrated one have the same tables.
func TestAMigratedFileIsAsANewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	version1(t, path, nil)
	tables := func(s *Store) (all []string) {
		err := each(t.Context(), s.db, `SELECT type || ' ' || name || ' ' || ifnull(sql, '') FROM sqlite_schema ORDER BY 1`, func(rows *sql.Rows) error {
			var line string
			err := rows.Scan(&line)
			all = append(all, line)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	fresh := newStore(t)
	if diff := cmp.Diff(tables(fresh), tables(openStore(t, path))); diff != "" {
		t.Errorf("schema (-new +migrated):\n%s", diff)
	}
	if !fresh.vacuums {
		t.Error("a new file cannot be made smaller")
	}
}
