//go:build unix

package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A DSN that passes has no password but a placeholder's, by the reading of the client
// that will use it.
func FuzzADSNWithAPasswordIsRefused(f *testing.F) {
	for _, dsn := range []string{
		"postgres://u:p@h/d", "postgres://u:{env.A}@h:1,i:2/d?sslmode=require#x", "postgres://u@h/d?password=p", "postgres://u@h/d?pass%77ord=p&a=b",
		"postgres://u:{env.A}@x@h/d", "postgresql://h/?password={file./a/b?c#d@e:f}", "postgres://u@h/d?a=b#?password=p", "postgres://u:%7Benv.A%7D@h/",
		"host=h password=p", "host=h password = 'p q' user=u", "password={env.A}", "password='{env.A}' host=h", `password='{env.A}\' x' host=h`,
		"host='a password=p' user=u", `password\=x=1`, "PASSWORD=p", "password=\n p", "user={env.A} password=", "sslpassword=p host=h",
		"host=h password={env.A}{env.B}", "postgres://{env.A}:p@h/d", "postgres:///d?user=u&password=", `host=h pass\word=p`, "password='' host=h",
	} {
		f.Add(dsn)
	}
	const token = `tok'en\ @:/?#&=%41+`
	f.Fuzz(func(t *testing.T, dsn string) {
		if strings.Contains(dsn, "service") || strings.Contains(dsn, "passfile") || checkDSN(dsn) != nil {
			return
		}
		whole := variable.FindString(dsn) == dsn
		expanded, err := expand(dsn, func(string) (string, error) { return token, nil })
		if err != nil || whole {
			return
		}
		c, err := pgx.ParseConfig(expanded)
		if err != nil {
			return
		}
		if c.Password != "" && c.Password != token {
			t.Errorf("%q passes, and its password is %q", dsn, c.Password)
		}
	})
}

// Any password arrives as it is, from any place that it can stand in, and shows in no
// error.
func FuzzAPasswordArrivesAndShowsNowhere(f *testing.F) {
	for _, password := range []string{"simple", "a b'c\\d", "@:/?#[]%41+&=", "\t\n\r", "ünïcödé", "'", `\`, "{env.A}", "password", "dbname"} {
		f.Add(password)
	}
	f.Fuzz(func(t *testing.T, password string) {
		if password == "" || strings.ContainsRune(password, 0) {
			return // libpq has neither
		}
		for _, dsn := range []string{
			"postgres://u:{env.P}@127.0.0.1/d", "postgres://u@127.0.0.1/d?password={env.P}&sslmode=disable",
			"host=127.0.0.1 password={env.P} user=u", "host=127.0.0.1 user=u password='{env.P}'",
		} {
			if err := checkDSN(dsn); err != nil {
				t.Fatal(err)
			}
			expanded, err := expand(dsn, func(string) (string, error) { return password, nil })
			if err != nil {
				t.Fatal(err)
			}
			c, err := parse(expanded)
			if err != nil {
				t.Fatalf("%s: %v", dsn, err)
			}
			if c.Password != password || c.User != "u" || c.Host != "127.0.0.1" {
				t.Errorf("%s: user %q, host %q, password %q, want %q", dsn, c.User, c.Host, c.Password, password)
			}
			s := &server{location: "there"}
			s.remember(password)
			text := s.scrub("it was " + password + " or " + expanded)
			if len(password) > 3 && !strings.Contains("***", password) && strings.Contains(text, password) && !strings.Contains(dsn, password) {
				t.Errorf("%q shows in %q", password, text)
			}
			if strings.Contains(location(c, "s"), password) && len(password) > 3 && !strings.Contains("127.0.0.1:5432/d.s", password) {
				t.Errorf("%q shows in the location", password)
			}
		}
	})
}

func TestTheRestOfAPasswordIsNoHost(t *testing.T) {
	for _, password := range []string{"pLa@pLaNtEd", "1/pLaNtEd", "p/pLaNtEd", "a@b/pLaNtEd", "a:b@pLaNtEd:1", "a,1/pLaNtEd", "a#pLa@pLaNtEd"} {
		c, err := parse("postgres://u:" + password + "@db.example.com/audit?sslmode=require")
		if err == nil {
			t.Errorf("%q: the location is %s", password, location(c, "s"))
		} else if strings.Contains(err.Error(), "pLa") {
			t.Errorf("%q: %v", password, err)
		}
	}
	for dsn, want := range map[string]string{
		"postgres://u:{p}@h_1.example-2.com/d?sslmode=require":    "h_1.example-2.com:5432/d.s",
		"postgres://u@[::1]:1,[fe80::1%25eth0]/d?sslmode=require": "[::1]:1,[fe80::1%eth0]:5432/d.s",
		"host=/var/run/postgresql dbname=my-db":                   "/var/run/postgresql:5432/my-db.s",
		"host=@abstract dbname=d":                                 "@abstract:5432/d.s",
	} {
		c, err := parse(dsn)
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
		} else if got := location(c, "s"); got != want {
			t.Errorf("%s: the location is %s, want %s", dsn, got, want)
		}
	}
}

// What a DSN is made of never shows when it cannot be read.
func FuzzADSNThatCannotBeReadShowsNowhere(f *testing.F) {
	for _, dsn := range []string{"postgres://u:%@h:x/d", "host=h port=%", "password='%", "postgres://%", "%", "sslrootcert='/x password=%'", "sslmode=%", "target_session_attrs=%"} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		dsn = strings.ReplaceAll(dsn, "%", "pLaNtEd")
		if strings.Contains(dsn, "sslrootcert=/") || strings.Contains(dsn, "ssl") && !strings.Contains(dsn, "password") {
			return // a file's name is shown
		}
		if _, err := parse(dsn); err != nil && strings.Contains(err.Error(), "pLaNtEd") {
			t.Errorf("%q: %v", dsn, err)
		}
	})
}
