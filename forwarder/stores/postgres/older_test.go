//go:build unix

package postgres

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// older is a sidecar of an earlier version, which writes by the functions of its time.
type older struct {
	version int
	schema  string
	conn    *pgx.Conn
}

// newOlder makes a schema of an earlier version, which a role reads.
func newOlder(t testing.TB, server *pgtest.Server, version int) *older {
	t.Helper()
	o := &older{version, newSchema(), superuser(t, server)}
	run(t, o.conn, o.schema, `CREATE SCHEMA {schema}`)
	for v := 1; v <= version; v++ {
		sql, err := migration(v, o.schema)
		if err != nil {
			t.Fatal(err)
		}
		run(t, o.conn, o.schema, sql)
	}
	role := "old_reader_of_" + o.schema
	run(t, o.conn, o.schema, `CREATE ROLE `+role+` LOGIN PASSWORD 'of the test'; GRANT USAGE ON SCHEMA {schema} TO `+role+`;
		GRANT SELECT ON {schema}.schema_version, {schema}.received, {schema}.entry TO `+role)
	if version > 2 {
		run(t, o.conn, o.schema, `GRANT SELECT ON {schema}.named TO `+role)
	}
	if version > 1 {
		run(t, o.conn, o.schema, `GRANT SELECT ON {schema}.gone, {schema}.total, {schema}.hold, {schema}.receipt, {schema}.pruned, {schema}.dropping TO `+role)
	}
	return o
}

func (o *older) write(t testing.TB, batch []forwarder.Record) {
	t.Helper()
	args := allArguments(batch, time.Now().UnixMicro())
	if o.version > 2 {
		if _, err := o.conn.Exec(t.Context(), writeSQL(o.schema), args...); err != nil {
			t.Fatal(err)
		}
		return
	}
	projects := args[6].([]*string)
	if len(projects) != len(batch) {
		t.Fatal("an earlier version's batch has each entry once here")
	}
	for i, r := range batch {
		projects[i] = unknown(r.Entry.ProjectRef) // which was not shortened
	}
	sql, args := call(o.schema, "write_stamped", 24), args[:24]
	if o.version == 1 {
		sql, args = call(o.schema, "write", 13), append(args[:10:10], args[20:23]...)
	}
	if _, err := o.conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// oddEntry is one with hostile texts in some of its fields, or an event.
func oddEntry(rng *rand.Rand, n, revision int) *audit.Entry {
	text := func(usual string) string {
		switch rng.IntN(4) {
		case 0:
			return hostileTexts[rng.IntN(len(hostileTexts))]
		case 1:
			return ""
		}
		return usual
	}
	e := entry(n, revision)
	if rng.IntN(8) == 0 {
		e = audit.Event(audit.EventHeartbeat, time.UnixMicro(e.Timestamp), nil)
		e.ID, e.Revision = entry(n, 1).ID, revision
		return e
	}
	e.OrganizationID, e.OrganizationSlug, e.ProjectRef = text(""), text("org-1"), text("ref")
	e.Actor.UserID, e.Actor.OAuthAppID, e.Actor.JWTSubject, e.Actor.TokenHash = text(""), text(""), text("subject"), text("hash")
	e.Actor.Email, e.Actor.TokenType, e.Actor.IP = text("a@example.com"), audit.TokenType(text("jwt")), text([]string{"203.0.113.7", "2001:db8::1", "fe80::1%eth0"}[n%3])
	e.Action.Code, e.Action.Method, e.Action.Route, e.Action.Path = text("code"), text("PUT"), text("/{x}"), text("/x")
	e.Action.Status, e.Outcome = []int{0, 200, 403, -1, 999_999_999}[rng.IntN(5)], audit.Outcome(text("success"))
	if rng.IntN(3) > 0 {
		e.Target = &audit.Target{Type: text("secret"), ID: text("a/b")}
	}
	return e
}

// batch are odd entries, with stamps where the version has some.
func (o *older) batch(t testing.TB, rng *rand.Rand, first, last, revision, sequence int) (all []forwarder.Record) {
	for n := first; n <= last; n++ {
		r := record(t, oddEntry(rng, n, revision), sequence+n-first)
		if o.version > 1 && rng.IntN(3) > 0 {
			r.Stamp = &audit.Stamp{
				OrganizationID: []string{"", "id-1", "a\x00b", `\0`, long + "id"}[rng.IntN(5)], OrganizationSlug: []string{"", "org-1", "org-2"}[rng.IntN(3)],
				Membership: []audit.Membership{"", audit.MembershipProven, audit.MembershipUnproven}[rng.IntN(3)],
				Retention:  &audit.Retention{Class: defaultClass, Plan: "team", KeepUntil: audit.Days(4000).KeepMicros(r.Entry.Timestamp)},
			}
			r.Stamp.On(r.Entry)
		}
		all = append(all, r)
	}
	return all
}

// What was there is browsed as what comes, and so is what a sidecar of an earlier version
// goes on writing.
func TestWhatEarlierVersionsWriteIsBrowsed(t *testing.T) {
	t.Parallel()
	server := sharedServer(t)
	for version := 1; version < schemaVersion; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(version), 3))
			old := newOlder(t, server, version)
			c := configAt(server, old.schema)
			c.NoMigrate = true
			old.write(t, old.batch(t, rng, 1, 40, 1, 1))
			if _, err := OpenReader(t.Context(), c); err == nil || !strings.Contains(err.Error(), "let a server of this build start once") {
				t.Errorf("a reader of an earlier version's schema is told %v", err)
			}
			s := openStore(t, configAt(server, old.schema))
			if n := len(documents(t, s, forwarder.Query{})); n != 40 {
				t.Errorf("%d entries, want 40", n)
			}
			checkColumns(t, s)
			checkBrowsed(t, "after", s)

			old.write(t, old.batch(t, rng, 31, 50, 2, 41)) // ten of them are there
			write(t, s, old.batch(t, rng, 45, 60, 3, 61))
			old.write(t, old.batch(t, rng, 55, 60, 4, 77))
			old.write(t, old.batch(t, rng, 41, 46, 1, 83)) // which are not the highest
			e, stamp := largest(100)
			e.Actor.Email = strings.ReplaceAll(e.Actor.Email, "\x00", "x")
			r := record(t, e, 89)
			if version > 1 {
				r.Stamp = stamp
			}
			old.write(t, []forwarder.Record{r})
			run(t, old.conn, old.schema, `DELETE FROM {schema}.entry WHERE sequence = 89`) // has U+0000, see below
			if n := len(documents(t, s, forwarder.Query{})); n != 60 {
				t.Errorf("%d entries, want 60", n)
			}
			checkColumns(t, s)
			password := map[string]string{"user": "old_reader_of_" + old.schema, "password": "of the test"}
			reader, err := OpenReader(t.Context(), Config{DSN: literally(server.DSN(password)), Schema: old.schema})
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			checkBrowsed(t, "later, by a role from before", reader)
			beats, err := reader.Beats(t.Context())
			if err != nil || len(beats) != 1 {
				t.Errorf("signs of life %v, %v", beats, err)
			}

			if version > 2 {
				return
			}
			// Of U+0000 in a document they make U+FFFD in the columns, and no more.
			e = entry(200, 1)
			e.OrganizationSlug, e.Actor.UserID = "acme", "a\x00b"
			old.write(t, []forwarder.Record{record(t, e, 90)})
			q := forwarder.Query{Owners: []audit.Owner{audit.OwnerBySlug("acme")}, Filters: forwarder.Filters{Actors: []string{"a\ufffdb"}}}
			if diff := cmp.Diff(1, len(documents(t, s, q))); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

// A schema that was brought to this version is as a new one.
func TestAMigratedSchemaIsAsANewOne(t *testing.T) {
	server := sharedServer(t)
	described := func(s *Store) string {
		all := value[string](t, s.conn, s.at.schema, `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
			SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = '{schema}'::regnamespace
			UNION ALL SELECT format('%s.%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'p')
			UNION ALL SELECT format('%s %s', p.oid::regprocedure, p.proacl) FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace
			UNION ALL SELECT format('%s %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = '{schema}'::regnamespace
		) AS d(line)`)
		return strings.ReplaceAll(all, s.at.schema, "schema")
	}
	old := newOlder(t, server, 2)
	run(t, old.conn, old.schema, `SELECT {schema}.prepare_class('default', ARRAY[date_trunc('month', now()), date_trunc('month', now() + interval '1 month'), date_trunc('month', now() + interval '2 months')]::date[])`)
	if diff := cmp.Diff(described(newStore(t)), described(openStore(t, configAt(server, old.schema)))); diff != "" {
		t.Errorf("(-new +migrated):\n%s", diff)
	}
}
