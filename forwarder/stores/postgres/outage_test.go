//go:build unix

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

func TestAKilledServerLosesNothingAcknowledged(t *testing.T) {
	server := pgtest.Run(t, nil)
	c := configAt(server, "audit")
	s := openStore(t, c)
	const kills, perBatch = 3, 30
	var written, enough atomic.Int64
	enough.Store(1 << 40)
	done := make(chan error, 1)
	go func() {
		for n := int64(0); n < enough.Load(); n = written.Load() {
			batch := records(t, int(n)+1, int(n)+perBatch)
			for s.Write(context.Background(), batch) != nil {
				time.Sleep(20 * time.Millisecond)
			}
			written.Add(perBatch)
		}
		done <- nil
	}()
	for range kills {
		for before := written.Load(); written.Load() < before+10*perBatch; {
			time.Sleep(time.Millisecond)
		}
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Up(); err != nil {
			t.Fatal(err)
		}
	}
	enough.Store(written.Load() + 5*perBatch)
	<-done
	last := int(written.Load())
	if diff := cmp.Diff(numbers(1, last), sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: uint64(last)})
}

func TestAServerThatHangsHoldsNoWrite(t *testing.T) {
	server := pgtest.Run(t, nil)
	c := configAt(server, "audit")
	s := openStore(t, c)
	impatient := openStore(t, c)
	impatient.at.timeout = 500 * time.Millisecond
	write(t, s, records(t, 1, 5))
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for _, err := range []error{
		s.Write(ctx, records(t, 6, 10)),
		impatient.Write(t.Context(), records(t, 6, 10)), // by its own timeout
		impatient.Write(t.Context(), records(t, 6, 10)), // on a new connection
	} {
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it did not answer in time") {
			t.Errorf("writing to a server that hangs: %v", err)
		}
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, records(t, 6, 10))
	deliver(t, impatient, records(t, 11, 15))
	if diff := cmp.Diff(texts(records(t, 1, 15)), documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// Two servers that are no copies of each other show as well where the entries went.
func TestAFailoverIsFollowed(t *testing.T) {
	one, two := pgtest.Run(t, nil), pgtest.Run(t, nil)
	for _, server := range []*pgtest.Server{one, two} {
		openStore(t, configAt(server, "audit"))
	}
	readOnly := func(server *pgtest.Server, on bool) {
		t.Helper()
		conn := superuser(t, server)
		run(t, conn, "", "ALTER SYSTEM SET default_transaction_read_only = "+strconv.FormatBool(on))
		run(t, conn, "", "SELECT pg_reload_conf()")
		for value[string](t, superuser(t, server), "", "SHOW default_transaction_read_only") != map[bool]string{true: "on", false: "off"}[on] {
			time.Sleep(10 * time.Millisecond)
		}
	}
	readOnly(one, true)
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(pgtest.Password)
	s := openStore(t, Config{Schema: "audit", DSN: literally(fmt.Sprintf(
		"host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=postgres sslmode=disable password='%s'", one.Port, two.Port, quoted))})
	if got, want := s.Describe().Location, fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d/postgres.audit", one.Port, two.Port); got != want {
		t.Errorf("its location is %s, want %s", got, want)
	}
	count := func(server *pgtest.Server) int {
		return value[int](t, superuser(t, server), "audit", "SELECT count(*) FROM {schema}.entry")
	}
	write(t, s, records(t, 1, 10))
	if n := count(two); n != 10 {
		t.Errorf("the server that can write has %d entries, want 10", n)
	}

	// The roles change while the connection stays.
	readOnly(one, false)
	readOnly(two, true)
	err := s.Write(t.Context(), records(t, 11, 20))
	if err == nil || refused(err) || !strings.Contains(err.Error(), "25006") || !strings.Contains(err.Error(), "name the primary's host too") {
		t.Errorf("writing to what has become a standby: %v", err)
	}
	write(t, s, records(t, 11, 20))
	if n := count(one); n != 10 {
		t.Errorf("the new primary has %d entries, want 10", n)
	}

	// The primary stops, and the other one takes its place.
	if err := one.Down(); err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), records(t, 21, 30))
	if err == nil || refused(err) {
		t.Errorf("writing without a primary: %v", err)
	}
	err = s.Write(t.Context(), records(t, 21, 30))
	if err == nil || refused(err) {
		t.Errorf("writing without a primary: %v", err)
	}
	readOnly(two, false)
	deliver(t, s, records(t, 21, 30))
	if n := count(two); n != 20 {
		t.Errorf("the last primary has %d entries, want 20", n)
	}
}

func TestAStandbyAloneIsRefusedAndReadable(t *testing.T) {
	server := pgtest.Run(t, nil)
	write(t, openStore(t, configAt(server, "audit")), records(t, 1, 10))
	run(t, superuser(t, server), "", "ALTER SYSTEM SET default_transaction_read_only = on")
	run(t, superuser(t, server), "", "SELECT pg_reload_conf()")
	for value[string](t, superuser(t, server), "", "SHOW default_transaction_read_only") != "on" {
		time.Sleep(10 * time.Millisecond)
	}
	_, err := Open(t.Context(), configAt(server, "audit"), nil)
	if err == nil || !strings.Contains(err.Error(), "name the primary's host too") {
		t.Errorf("opening what can only be read: %v", err)
	}
	r, err := OpenReader(t.Context(), configAt(server, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if diff := cmp.Diff(numbers(1, 10), sequences(t, r, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestACredentialThatHasChangedIsFound(t *testing.T) {
	server := pgtest.Run(t, nil)
	var password atomic.Value
	password.Store(pgtest.Password)
	s := openStore(t, Config{Schema: "audit", DSN: func() (string, error) {
		return server.DSN(map[string]string{"password": password.Load().(string)}), nil
	}})
	write(t, s, records(t, 1, 5))
	if n := len(documents(t, s, forwarder.Query{})); n != 5 {
		t.Errorf("%d entries, want 5", n)
	}
	conn := superuser(t, server)
	run(t, conn, "", "ALTER ROLE postgres PASSWORD 'the next one'")
	run(t, conn, "", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'caddy-audit-log'")
	for _, doing := range []error{s.Write(t.Context(), records(t, 6, 10)), s.Write(t.Context(), records(t, 6, 10))} {
		if doing == nil || refused(doing) || strings.Contains(doing.Error(), pgtest.Password) {
			t.Errorf("writing with the old password: %v", doing)
		}
	}
	password.Store("the next one")
	deliver(t, s, records(t, 6, 10))
	if n := len(documents(t, s, forwarder.Query{})); n != 10 {
		t.Errorf("%d entries, want 10", n)
	}
}

func TestACertificateIsChecked(t *testing.T) {
	server := sharedServer(t)
	schema := newSchema()
	with := func(options map[string]string) (*Store, error) {
		return Open(t.Context(), Config{DSN: literally(server.DSN(options)), Schema: schema}, nil)
	}
	s, err := with(map[string]string{"host": "localhost", "sslmode": "verify-full", "sslrootcert": server.CA})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write(t, s, records(t, 1, 5))
	if !value[bool](t, s.conn, "", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") {
		t.Error("the connection has no TLS")
	}
	if got := len(documents(t, s, forwarder.Query{})); got != 5 {
		t.Errorf("%d entries, want 5", got)
	}
	_, err = with(map[string]string{"host": "localhost", "sslmode": "verify-full"})
	if err == nil || !strings.Contains(err.Error(), "name the file of its authority's certificate by sslrootcert in the DSN") {
		t.Errorf("an unknown authority: %v", err)
	}
	_, err = with(map[string]string{"host": "127.0.0.2", "sslmode": "verify-full", "sslrootcert": server.CA})
	if err == nil {
		t.Error("another host's certificate was taken")
	}
}
