//go:build unix

package postgres

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
)

// noContext is what Provision gets: it uses none of it.
var noContext caddy.Context

func TestTheCaddyfileSaysWhatIsWrong(t *testing.T) {
	const literal = "store postgres: its password stands in the configuration, which Caddy saves and shows: " +
		"give the whole DSN as {env.AUDIT_DSN} or {file./run/secrets/dsn}, or the password alone as password={env.PGPASS}, " +
		"or name a passfile or a client certificate"
	for input, want := range map[string]string{
		`postgres`:                                      "store postgres takes one argument, its DSN, as in: store postgres {env.AUDIT_DSN}",
		`postgres {env.A} {env.B}`:                      "store postgres takes one argument, its DSN, as in: store postgres {env.AUDIT_DSN}",
		`postgres postgres://u:planted@h/d`:             literal,
		`postgres postgres://u@h/d?password=planted`:    literal,
		`postgres postgres://u@h/d?sslpassword=planted`: literal,
		`postgres postgres://u:x{env.A}@h/d`:            literal,
		`postgres "host=h password=planted"`:            literal,
		`postgres "host=h password = 'planted'"`:        literal,
		`postgres "host=h password= user=planted"`:      literal, // which is what libpq makes of it
		`postgres "host=h password={env.A}planted"`:     literal,
		"postgres {env.A} {\n colour red\n}":            `unrecognized option "colour" of store postgres: it has schema, migrate and timeout`,
		"postgres {env.A} {\n schema\n}":                `option "schema" of store postgres takes one argument`,
		"postgres {env.A} {\n schema a b\n}":            `option "schema" of store postgres takes one argument`,
		"postgres {env.A} {\n schema a\n schema b\n}":   `option "schema" of store postgres is there twice: leave one out`,
		"postgres {env.A} {\n schema Audit\n}":          `schema "Audit" of store postgres: ` + errSchemaName.Error(),
		"postgres {env.A} {\n schema pg_audit\n}":       `schema "pg_audit" of store postgres: ` + errSchemaName.Error(),
		"postgres {env.A} {\n migrate maybe\n}":         `migrate "maybe" of store postgres: it is on or off`,
		"postgres {env.A} {\n timeout 0s\n}":            `timeout "0s" of store postgres: give a duration, as in 30s`,
		"postgres {env.A} {\n timeout soon\n}":          `timeout "soon" of store postgres: give a duration, as in 30s`,
	} {
		err := new(Module).UnmarshalCaddyfile(caddyfile.NewTestDispenser(input))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", input, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: the error holds the password: %v", input, err)
		}
	}
}

func TestTheCaddyfileIsRead(t *testing.T) {
	off, on := false, true
	for input, want := range map[string]Module{
		"postgres {env.A}": {DSN: "{env.A}"},
		"postgres {env.A} {\n schema audit_2\n migrate off\n timeout 5s\n}": {DSN: "{env.A}", Schema: "audit_2", Migrate: &off, Timeout: 5_000_000_000},
		"postgres postgres://u:{file./run/p}@h/d?x=y {\n migrate on\n}":     {DSN: "postgres://u:{file./run/p}@h/d?x=y", Migrate: &on},
		`postgres "host=h password='{env.A}' passfile=/p sslkey=/k user=u"`: {DSN: "host=h password='{env.A}' passfile=/p sslkey=/k user=u"},
	} {
		var m Module
		if err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(input)); err != nil {
			t.Errorf("%s: %v", input, err)
		}
		if diff := cmp.Diff(want, m, cmp.AllowUnexported(Module{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", input, diff)
		}
	}
}

func TestProvisionSaysWhereTheDSNLeads(t *testing.T) {
	t.Setenv("POSTGRES_TEST_DSN", "postgres://audit:planted@a.example.com,b.example.com:5433/log?sslmode=verify-full")
	t.Setenv("POSTGRES_TEST_BAD", "postgres://audit:plan:ted@[::1/log")
	t.Setenv("POSTGRES_TEST_PART", "plan ted'\\")
	for dsn, want := range map[string]string{
		"{env.POSTGRES_TEST_DSN}":                                       "a.example.com:5432,b.example.com:5433/log.caddy_audit",
		"postgres://u:{env.POSTGRES_TEST_PART}@127.0.0.1/d":             "127.0.0.1:5432/d.caddy_audit",
		"host=/run/postgresql user=u password={env.POSTGRES_TEST_PART}": "/run/postgresql:5432/u.caddy_audit",
		"":                            "error: store postgres: its DSN is empty: give one, as in {env.AUDIT_DSN}",
		"{env.POSTGRES_TEST_NONE}":    "error: store postgres: opening an audit store of PostgreSQL: reading {env.POSTGRES_TEST_NONE}: ",
		"{env.POSTGRES_TEST_BAD}":     "error: store postgres: opening an audit store of PostgreSQL: its DSN cannot be read: ",
		"postgres://u@h/d":            "error: store postgres: opening an audit store of PostgreSQL: its DSN does not say sslmode",
		"postgres://u@h/d?sslmode=no": "error: store postgres: opening an audit store of PostgreSQL: its DSN cannot be read: ",
		"postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.crt": `error: store postgres: opening an audit store of PostgreSQL: reading what its DSN names: open "/nowhere/ca.crt": no such file or directory`,
	} {
		m := Module{DSN: dsn}
		err := m.Provision(noContext)
		got := m.Describe().Location
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want && (err == nil || !strings.HasPrefix(got, want)) {
			t.Errorf("%s\n got %s\nwant %s", dsn, got, want)
		}
		if strings.Contains(got, "plan") && !strings.Contains(want, "plan") {
			t.Errorf("%s: the password shows: %s", dsn, got)
		}
	}
}
