//go:build unix

package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

func TestEachStateIsRefusedOrTriedAgain(t *testing.T) {
	for code, want := range map[string]bool{
		"22001": true, "22P02": true, "22021": true, "22P05": true, "23502": true, "23514": true, "54000": true, "54001": true,
		"08006": false, "25006": false, "28P01": false, "28000": false, "40001": false, "40P01": false, "42P01": false, "42501": false,
		"42883": false, "53100": false, "53300": false, "55P03": false, "57014": false, "57P01": false, "57P03": false, "XX000": false, "3D000": false,
	} {
		if got := refused(&pgconn.PgError{Code: code}); got != want {
			t.Errorf("%s: refused is %v, want %v", code, got, want)
		}
	}
	if refused(errors.New("anything")) || refused(io.EOF) {
		t.Error("an error of the connection is no refusal")
	}
}

// planted is in no text by chance.
const planted = "pLaNtEd secret:'\\@/%41"

func TestNoErrorShowsAPassword(t *testing.T) {
	server := sharedServer(t)
	other := newSchema()
	run(t, superuser(t, server), other, `CREATE SCHEMA {schema}; CREATE TABLE {schema}.theirs (); CREATE SCHEMA {schema}_new;
		CREATE TABLE {schema}_new.schema_version (version int); INSERT INTO {schema}_new.schema_version VALUES (99)`)
	run(t, superuser(t, server), "", `CREATE ROLE planted_nobody LOGIN PASSWORD 'pLaNtEd secret:''\@/%41'`)
	closed := newProxy(t, 1) // accepts, and ends at once
	dsn := func(options map[string]string) string {
		if _, ok := options["password"]; !ok {
			options["password"] = planted
		}
		return server.DSN(options)
	}
	for name, c := range map[string]struct {
		Config
		want string
	}{
		"no such port":      {Config{DSN: literally("postgres://u:pLaNtEd:x@h:pLaNtEd/d")}, "its DSN cannot be read"},
		"half a URL":        {Config{DSN: literally("postgres://u:pLaNtEd@[::1")}, "its DSN cannot be read"},
		"a percent":         {Config{DSN: literally("postgres://u:pLaNtEd%@h/d")}, "its DSN cannot be read"},
		"half a quote":      {Config{DSN: literally("host=h password='pLaNtEd")}, "its DSN cannot be read"},
		"no equals":         {Config{DSN: literally("host=h pLaNtEd")}, "its DSN cannot be read"},
		"a wrong quote":     {Config{DSN: literally("host=localhost sslmode=verify-full sslrootcert='/x password=pLaNtEd'")}, "its DSN cannot be read"},
		"a wrong option":    {Config{DSN: literally("host=localhost password=pLaNtEd target_session_attrs=pLaNtEd")}, "its DSN cannot be read"},
		"an absent file":    {Config{DSN: literally("host=h password=pLaNtEd sslmode=verify-full sslrootcert=/nowhere/ca")}, `"/nowhere/ca"`},
		"a wrong password":  {Config{DSN: literally(dsn(map[string]string{}))}, "check the user and password that the DSN's placeholder gives"},
		"a wrong user":      {Config{DSN: literally(dsn(map[string]string{"user": "strange"}))}, "check the user and password"},
		"no database":       {Config{DSN: literally(dsn(map[string]string{"database": "absent", "password": pgtest.Password}))}, "create the database"},
		"no server":         {Config{DSN: literally(dsn(map[string]string{"port": "1"}))}, "check that it runs"},
		"no host":           {Config{DSN: literally(dsn(map[string]string{"host": "no-such-host.invalid", "sslmode": "require"}))}, "check the host in the DSN"},
		"an end":            {Config{DSN: literally(dsn(map[string]string{"port": strconv.Itoa(closed.port)}))}, "the connection broke"},
		"a hostile server":  {Config{DSN: literally(dsn(map[string]string{"port": strconv.Itoa(echo(t))}))}, "you said ***"},
		"no right to make":  {Config{DSN: literally(dsn(map[string]string{"user": "planted_nobody"}))}, "give the DSN's role what docs/postgres.md grants to it"},
		"no tables":         {Config{DSN: literally(dsn(map[string]string{"user": "planted_nobody"})), NoMigrate: true, Schema: "absent"}, "has no tables yet"},
		"another's schema":  {Config{DSN: literally(server.DSN(nil)), Schema: other}, "is another program's"},
		"a newer version":   {Config{DSN: literally(server.DSN(nil)), Schema: other + "_new"}, "is newer than this build's"},
		"a schema's name":   {Config{DSN: literally(server.DSN(nil)), Schema: "No"}, errSchemaName.Error()},
		"a DSN that is not": {Config{DSN: func() (string, error) { return "", errors.New("reading {env.X}: it is not set") }}, "reading {env.X}"},
	} {
		check := func(doing string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s: got %v, want %q", name, doing, err, c.want)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				for _, secret := range []string{"pLaNtEd", pgtest.Password, "planted/pass"} {
					if strings.Contains(e.Error(), secret) {
						t.Errorf("%s: %s: the error holds the password: %v", name, doing, e)
					}
				}
			}
			if refused(err) {
				t.Errorf("%s: %s: it is taken for a refusal: %v", name, doing, err)
			}
		}
		_, err := Open(context.Background(), c.Config, nil)
		check("opening", err)
		if name == "no right to make" {
			continue // a reader makes nothing
		}
		_, err = OpenReader(context.Background(), c.Config)
		check("opening to read", err)
		if unprepared := errors.Is(err, forwarder.ErrUnprepared); unprepared != (name == "no tables") {
			t.Errorf("%s: unprepared is %t: %v", name, unprepared, err)
		}
	}
}

// echo is a server that repeats the password which it was given. No real one does.
func echo(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			read := func(head int) []byte {
				h := make([]byte, head)
				if _, err := io.ReadFull(c, h); err != nil {
					return nil
				}
				body := make([]byte, min(binary.BigEndian.Uint32(h[head-4:])-4, 1<<16))
				io.ReadFull(c, body)
				return body
			}
			read(4)
			c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}) // a password in clear text, please
			password := strings.TrimRight(string(read(5)), "\x00")
			fields := "SFATAL\x00VFATAL\x00C28P01\x00Myou said " + password + "\x00\x00"
			c.Write(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(len(fields)+4)))
			io.WriteString(c, fields)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestWhatAnEntryCannotBeIsRefused(t *testing.T) {
	s := newStore(t)
	for name, r := range map[string]forwarder.Record{
		"no JSON":     {Sequence: 1, Entry: record(t, entry(1, 1), 1).Entry, JSON: []byte(`{"id":`)},
		"no origin":   {Sequence: 1, Entry: entry(1, 1), JSON: []byte(`{}`)},
		"no sequence": recordOf(t, testInstance, entry(1, 1), 0),
		"too deep":    {Sequence: 1, Entry: record(t, entry(1, 1), 1).Entry, JSON: []byte(strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20))},
	} {
		err := s.Write(t.Context(), []forwarder.Record{record(t, entry(2, 1), 2), r})
		if _, ok := errors.AsType[*forwarder.RefusedError](err); !ok {
			t.Errorf("%s: %v is no refusal", name, err)
		}
	}
	write(t, s, records(t, 1, 5)) // and goes on
	if n := len(documents(t, s, forwarder.Query{})); n != 5 {
		t.Errorf("%d entries, want 5", n)
	}
}

func TestAStoreThatIsClosedSaysSo(t *testing.T) {
	s := newStore(t)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), records(t, 1, 1)); !errors.Is(err, errClosed) {
		t.Errorf("writing: %v", err)
	}
	if _, err := s.Highest(t.Context(), testInstance); !errors.Is(err, errClosed) {
		t.Errorf("asking: %v", err)
	}
	for _, err := range s.Read(t.Context(), forwarder.Query{}) {
		if err == nil {
			t.Error("reading a closed store works")
		}
	}
}
