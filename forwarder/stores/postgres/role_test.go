//go:build unix

package postgres

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// manual returns the SQL blocks of docs/postgres.md under a heading.
func manual(t *testing.T, heading string) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile("../../../docs/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the manual has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for i, part := range strings.Split(section, "```") {
		if sql, ok := strings.CutPrefix(part, "sql\n"); ok && i%2 == 1 {
			blocks = append(blocks, sql)
		}
	}
	return blocks
}

// runManual runs statement after statement, as psql does.
func runManual(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	for statement := range strings.SplitSeq(sql, ";\n") {
		if strings.TrimSpace(statement) != "" {
			run(t, conn, "", statement)
		}
	}
}

func TestTheManualsRolesMayDoWhatItSays(t *testing.T) {
	server := pgtest.Run(t, nil)
	blocks := manual(t, "Roles")
	if len(blocks) != 2 {
		t.Fatalf("the manual has %d blocks of SQL for roles, want 2", len(blocks))
	}
	root := superuser(t, server)
	runManual(t, root, blocks[0])
	as := func(role string, noMigrate bool) Config {
		return Config{NoMigrate: noMigrate, DSN: literally(server.DSN(map[string]string{"user": role, "password": "of the test", "database": "audit"}))}
	}
	connect := func(role string) *pgx.Conn {
		t.Helper()
		dsn, _ := as(role, false).DSN()
		conn, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	for _, role := range []string{"audit_owner", "audit_writer", "audit_reader"} {
		run(t, root, "", "ALTER ROLE "+role+" PASSWORD 'of the test'")
	}
	_, err := Open(t.Context(), as("audit_writer", true), nil)
	if err == nil || !strings.Contains(err.Error(), "has no tables yet") {
		t.Errorf("writing before there are tables: %v", err)
	}
	openStore(t, as("audit_owner", false))
	runManual(t, connect("audit_owner"), blocks[1])

	// The role that may only write.
	s := openStore(t, as("audit_writer", true))
	write(t, s, records(t, 1, 20))
	write(t, s, records(t, 15, 30))
	write(t, s, []forwarder.Record{record(t, entry(7, 2), 31)})
	if highest, err := s.Highest(t.Context(), testInstance); err != nil || highest != 31 {
		t.Errorf("highest is %d, %v", highest, err)
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 31})
	for _, err := range s.Read(t.Context(), forwarder.Query{}) {
		if err == nil || !strings.Contains(err.Error(), "42501") || !strings.Contains(err.Error(), "docs/postgres.md") {
			t.Errorf("reading as the role that may only write: %v", err)
		}
	}
	// It may stamp, and neither prune nor look for what is pending nor set a hold.
	clockAt(s, 0)
	late := stampedRecord(t, 40, 0, terms{"security": 5}.tag("security", at(0)))
	write(t, s, []forwarder.Record{late})
	if err := s.Restamp(t.Context(), []forwarder.Restamp{{ID: late.Entry.ID, Timestamp: late.Entry.Timestamp, Stamp: *terms{"other": 6}.tag("other", at(0))}}); err != nil {
		t.Errorf("stamping anew as the role that may only write: %v", err)
	}
	ownersOnly := func(what string, err error) {
		t.Helper()
		if err == nil || refused(err) || !strings.Contains(err.Error(), "GRANT audit_owner TO audit_writer") {
			t.Errorf("%s as the role that may only write: %v", what, err)
		}
	}
	_, err = s.Prune(t.Context(), terms{"other": 6}.expiry(20))
	ownersOnly("pruning", err)
	ownersOnly("setting a hold", s.SetHold(t.Context(), forwarder.Hold{ID: "1", Organization: "acme"}))
	ownersOnly("releasing a hold", s.ReleaseHold(t.Context(), "1"))
	for _, err := range s.Pending(t.Context(), true) {
		ownersOnly("looking for what is pending", err)
	}
	write(t, s, []forwarder.Record{late}) // goes on
	if _, err := Open(t.Context(), as("audit_reader", false), nil); err == nil || refused(err) || !strings.Contains(err.Error(), "docs/postgres.md") {
		t.Errorf("writing as the role that may only read: %v", err)
	}

	// The role that may only read.
	r, err := OpenReader(t.Context(), as("audit_reader", false))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := entriesOf(t, r); got[""] != 30 || got["other"] != 1 {
		t.Errorf("classes %v", got)
	}
	// The owner detaches and drops while these two are at work.
	owner := openStore(t, as("audit_owner", false))
	expiry := terms{"other": 6}.expiry(80)
	if err := owner.SetHold(t.Context(), forwarder.Hold{ID: "1", Organization: "acme"}); err != nil {
		t.Error(err)
	}
	if err := owner.ReleaseHold(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	pruneDetached(t, owner, &step{Store: owner, expiry: &expiry, counts: totals{}})
	for range 2 {
		if got := entriesOf(t, r); got[""] != 30 || got["other"] != 0 {
			t.Errorf("classes %v", got)
		}
		if got := receiptsOf(t, r); len(got) != 1 || got[0].Class != "other" || got[0].Entries != 1 {
			t.Errorf("receipts %+v", got)
		}
		checkLost(t, r)
		if expiring, err := r.Expiring(t.Context(), time.Now()); err != nil || len(expiring) != 0 {
			t.Errorf("expiring %+v, %v", expiring, err)
		}
		if holds, err := r.Holds(t.Context()); err != nil || len(holds) != 0 {
			t.Errorf("holds %+v, %v", holds, err)
		}
		pruneAll(t, owner, expiry)
	}
	if got := len(documents(t, r, forwarder.Query{})); got != 30 {
		t.Errorf("%d entries, want 30", got)
	}
	if got := sequences(t, r, forwarder.Query{User: entry(7, 1).Actor.UserID}); len(got) != 1 || got[0] != 31 {
		t.Errorf("a search finds %v, want 31", got)
	}
	checkReceived(t, r, forwarder.Range{Instance: testInstance, First: 1, Last: 31}, forwarder.Range{Instance: testInstance, First: 40, Last: 40})

	neither := []string{
		"INSERT INTO caddy_audit.entry (timestamp, revision, sequence, id, instance, document) VALUES (1, 1, 1, 'x', 'x', '{}')",
		"UPDATE caddy_audit.entry SET document = '{}'", "DELETE FROM caddy_audit.entry", "TRUNCATE caddy_audit.entry",
		"DELETE FROM caddy_audit.entry_default_2025_10", "SELECT * FROM caddy_audit.entry_default_2025_10", "DROP TABLE caddy_audit.entry_default_2025_10",
		"ALTER TABLE caddy_audit.entry DISABLE TRIGGER ALL",
		"DELETE FROM caddy_audit.received", "INSERT INTO caddy_audit.received VALUES ('x', 1, 2)", "INSERT INTO caddy_audit.pruned VALUES ('default', 0, 9223372036854775807)",
		"UPDATE caddy_audit.entry SET keep_until = 0", "DELETE FROM caddy_audit.hold", "DELETE FROM caddy_audit.receipt", "DELETE FROM caddy_audit.gone",
		"UPDATE caddy_audit.pruning SET unmark = true", "SELECT caddy_audit.forget('{x}', '{1}', '{2}')",
		"UPDATE caddy_audit.schema_version SET version = 0", "CREATE TABLE caddy_audit.mine ()", "DROP FUNCTION caddy_audit.write_stamped", "DROP SCHEMA caddy_audit CASCADE",
		"ALTER FUNCTION caddy_audit.prepare_class(text, date[]) RESET search_path", "SET ROLE audit_owner",
	}
	for role, also := range map[string][]string{
		"audit_writer": {"SELECT * FROM caddy_audit.entry", "SELECT count(*) FROM caddy_audit.entry", "COPY caddy_audit.entry TO STDOUT", "SELECT * FROM caddy_audit.pruned", "SELECT * FROM caddy_audit.hold"},
		"audit_reader": {"SELECT caddy_audit.prepare_class('default', '{2024-01-01}')", "SELECT caddy_audit.restamp(null,null,null,null,null,null,null,null,null)", "SELECT caddy_audit.write(null,null,null,null,null,null,null,null,null,null,null,null,null)"},
	} {
		conn := connect(role)
		for _, sql := range append(also, neither...) {
			_, err := conn.Exec(context.Background(), sql)
			if sqlState(err) != "42501" {
				t.Errorf("%s: %s: got %v, want a refusal for want of rights", role, sql, err)
			}
		}
	}
	// A function runs as its owner, and takes nothing of the caller's for its own.
	conn := connect("audit_writer")
	run(t, conn, "", `CREATE FUNCTION pg_temp.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT 1/0::bigint $$;
		CREATE TEMP TABLE pg_class (); SET search_path = pg_temp, public; SELECT caddy_audit.prepare_class('default', '{2024-01-01}')`)
	if n := value[int](t, root, "", "SELECT count(*) FROM pg_roles WHERE rolname = 'audit_writer' AND rolsuper"); n != 0 {
		t.Error("the role that writes is a superuser")
	}
	if diff := cmp.Diff(30, len(documents(t, openStore(t, as("audit_owner", false)), forwarder.Query{}))); diff != "" {
		t.Errorf("entries at the end (-want +got):\n%s", diff)
	}
}

func TestTheManualsQueriesAreAnswered(t *testing.T) {
	server := pgtest.Run(t, nil)
	s := openStore(t, configAt(server, DefaultSchema))
	write(t, s, records(t, 1, 50))
	write(t, s, []forwarder.Record{payload(t, 51, `{"id":"hostile","revision":1,"timestamp":1760000001000001,"organization_slug":"a\u0000b","action":{"path":"\ud800"},"actor":{}}`)})
	blocks := manual(t, "Reading in SQL")
	if len(blocks) == 0 {
		t.Fatal("the manual has no queries")
	}
	for _, block := range blocks {
		for sql := range strings.SplitSeq(block, ";\n") {
			if strings.TrimSpace(sql) == "" {
				continue
			}
			rows, err := s.conn.Query(t.Context(), sql)
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			for rows.Next() {
			}
			if rows.Err() != nil {
				t.Errorf("%s: %v", sql, rows.Err())
			}
		}
	}
}
