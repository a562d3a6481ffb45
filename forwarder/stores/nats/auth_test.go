package natsstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// The keys in testdata were made for these tests and are in use nowhere.

// save writes a file of the test.
func save(t testing.TB, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func copied(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", from))
	if err != nil {
		t.Fatal(err)
	}
	save(t, to, b)
}

// configured serves with what a configuration file has.
func configured(t testing.TB, text string) *natsServer {
	t.Helper()
	return serve(t, func(o *natsd.Options) {
		read, err := natsd.ProcessConfigFile(save(t, filepath.Join(t.TempDir(), "server.conf"), []byte(text)))
		if err != nil {
			t.Fatal(err)
		}
		read.Host, read.Port, read.NoLog, read.NoSigs = o.Host, o.Port, true, true
		read.JetStream, read.StoreDir, read.DisableJetStreamBanner = true, o.StoreDir, true
		*o = *read
	})
}

func TestAUserThatWasRenewedIsFoundWhenTheStoreReconnects(t *testing.T) {
	s := serve(t, func(o *natsd.Options) { o.Username, o.Password = "audit", "planted-first" })
	p := placeholders{"{env.U}": "audit", "{file.p}": "planted-first\n"}
	c := s.config()
	c.User, c.Password, c.Resolve = "{env.U}", "{file.p}", p.resolve
	st := open(t, c, nil)
	write(t, st, records(t, 1, 5))
	s.stop()
	s.options.Password = "planted-second"
	s.start()
	deadline := time.Now().Add(time.Minute)
	for err := error(nil); err == nil || !strings.Contains(err.Error(), "check its credential"); time.Sleep(50 * time.Millisecond) {
		if err = st.Write(t.Context(), records(t, 6, 9)); err == nil || isRefused(err) || strings.Contains(err.Error(), "planted") {
			t.Fatalf("with the old password: %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not say that it is not let in: %v", err)
		}
	}
}

func TestATokenIsReadEachTime(t *testing.T) {
	s := serve(t, func(o *natsd.Options) { o.Authorization = "planted-token-1" })
	file := save(t, filepath.Join(t.TempDir(), "token"), []byte("planted-token-1\n"))
	m, err := unmarshal("nats nats://" + s.addr() + " {\n token {file." + file + "}\n replicas 1\n}")
	if err != nil {
		t.Fatal(err)
	}
	provision(t, m)
	st := open(t, m.config, nil)
	write(t, st, records(t, 1, 5))
	s.stop()
	s.options.Authorization = "planted-token-2"
	save(t, file, []byte("planted-token-2"))
	s.start()
	deliver(t, st, records(t, 6, 9))
}

func TestACredentialsFileIsReadEachTime(t *testing.T) {
	operator, err := os.ReadFile(filepath.Join("testdata", "operator.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s := configured(t, string(operator))
	file := filepath.Join(t.TempDir(), "user.creds")
	copied(t, "first.creds", file)
	c := s.config()
	c.Credentials = file
	st := open(t, c, nil)
	write(t, st, records(t, 1, 5))
	connected := func() string {
		conns, err := s.running.Connz(&natsd.ConnzOptions{Username: true})
		if err != nil || len(conns.Conns) != 1 {
			t.Fatalf("%+v, %v", conns, err)
		}
		return conns.Conns[0].AuthorizedUser
	}
	first := connected()
	s.stop()
	copied(t, "second.creds", file)
	s.start()
	deliver(t, st, records(t, 6, 9))
	if connected() == first {
		t.Error("it signs as the user from before")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), c, nil)
	mentions(t, err, "user.creds")
}

func TestAnNKeySigns(t *testing.T) {
	public, err := os.ReadFile(filepath.Join("testdata", "user.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s := configured(t, "authorization { users: [ { nkey: "+strings.TrimSpace(string(public))+" } ] }")
	file := filepath.Join(t.TempDir(), "user.nk")
	copied(t, "user.nk", file)
	m, err := unmarshal("nats nats://" + s.addr() + " {\n nkey {file." + file + "}\n replicas 1\n}")
	if err != nil {
		t.Fatal(err)
	}
	provision(t, m)
	write(t, open(t, m.config, nil), records(t, 1, 5))

	save(t, file, []byte("SUplanted"))
	_, err = Open(t.Context(), m.config, nil)
	mentions(t, err, "reading the nkey {file.", "begins with SU")
	if err != nil && strings.Contains(err.Error(), "planted") {
		t.Errorf("the error shows the seed: %v", err)
	}
}

func TestACredentialThatIsNotThereIsNamed(t *testing.T) {
	s := serve(t, nil)
	for _, c := range []Config{{User: "{env.U}", Password: "{env.P}"}, {Token: "{env.T}"}, {NKey: "{file.x}"}, {Token: "{env.EMPTY}"}} {
		c.Servers, c.Resolve = []string{s.url()}, placeholders{"{env.U}": "audit", "{env.EMPTY}": " \n"}.resolve
		_, err := Open(t.Context(), c, nil)
		mentions(t, err, "opening audit store", "reading {")
	}
}

const audited = `authorization { users: [
	{ user: audit, password: planted-password, permissions: {
		publish: { allow: [%s] }, subscribe: { allow: ["_INBOX.>"] }
	} }
] }`

// permissions are those that docs/nats.md names, for a store that creates streams.
const permissions = `"audit.>", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.STREAM.CREATE.*"`

func permitted(t testing.TB, allow string) (*natsServer, Config) {
	t.Helper()
	s := configured(t, strings.Replace(audited, "%s", allow, 1))
	c := s.config()
	c.User, c.Password = "{env.U}", "{env.P}"
	c.Resolve = placeholders{"{env.U}": "audit", "{env.P}": "planted-password"}.resolve
	return s, c
}

func TestTheDocumentedPermissionsAreEnough(t *testing.T) {
	_, c := permitted(t, permissions)
	st := open(t, c, nil)
	write(t, st, records(t, 1, 5))
	again := open(t, c, nil)
	if n, err := again.Highest(t.Context(), testInstance); err != nil || n != 5 {
		t.Errorf("highest is %d, %v", n, err)
	}
	docs, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "nats.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docs), "publish: { allow: ["+permissions+"] }") {
		t.Errorf("docs/nats.md does not name them: %s", permissions)
	}
}

// TestWhatIsNotAllowedIsSaidAtOnce has a timeout that no test waits for.
func TestWhatIsNotAllowedIsSaidAtOnce(t *testing.T) {
	for missing := range strings.SplitSeq(permissions, ", ") {
		t.Run(missing, func(t *testing.T) {
			var rest []string
			for p := range strings.SplitSeq(permissions, ", ") {
				if p != missing {
					rest = append(rest, p)
				}
			}
			_, c := permitted(t, strings.Join(rest, ", "))
			c.Timeout = 5 * time.Minute
			st, err := Open(t.Context(), c, nil)
			if err == nil {
				defer st.Close()
				err = st.Write(t.Context(), records(t, 1, 3))
			}
			if err == nil { // reading the last message is only asked of one that has some
				var again *Store
				if again, err = Open(t.Context(), c, nil); err == nil {
					defer again.Close()
					_, err = again.Highest(t.Context(), testInstance)
				}
			}
			mentions(t, err, "ermissions violation", "docs/nats.md")
			if isRefused(err) {
				t.Errorf("refused: %v", err)
			}
		})
	}
}
