//go:build unix

package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// epoch is the arrival of entry 0, in microseconds: 2025-10-09.
const epoch = 1_760_000_000_000_000

// shared is the server of all tests that do it no harm. Each has a schema of its own.
// Nobody kills it, so it need not wait for the disk, unless that is measured.
var shared = sync.OnceValues(func() (*pgtest.Server, error) {
	fsync := "off"
	if flag.Lookup("test.bench").Value.String() != "" {
		fsync = "on"
	}
	return pgtest.Start(map[string]string{"max_connections": "200", "fsync": fsync})
})

func TestMain(m *testing.M) {
	// What a developer's environment says must change no test.
	for _, name := range []string{"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSERVICE", "PGPASSFILE", "PGOPTIONS"} {
		os.Unsetenv(name)
	}
	code := m.Run()
	if started.Load() {
		if s, err := shared(); err == nil {
			if err := s.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

var (
	started atomic.Bool
	schemas atomic.Int64
)

func sharedServer(t testing.TB) *pgtest.Server {
	t.Helper()
	started.Store(true)
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newSchema is a name that no other test has.
func newSchema() string { return fmt.Sprintf("test_%d", schemas.Add(1)) }

func literally(dsn string) func() (string, error) {
	return func() (string, error) { return dsn, nil }
}

// configAt is a store's at a server.
func configAt(s *pgtest.Server, schema string) Config {
	return Config{DSN: literally(s.DSN(nil)), Schema: schema}
}

func openStore(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, configAt(sharedServer(t), newSchema()))
}

// superuser is a connection that may do everything.
func superuser(t testing.TB, s *pgtest.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), s.DSN(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// run executes SQL, with {schema} replaced.
func run(t testing.TB, conn *pgx.Conn, schema, sql string) {
	t.Helper()
	sql = replaceSchema(sql, schema)
	if _, err := conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value reads one value by SQL, with {schema} replaced.
func value[T any](t testing.TB, conn *pgx.Conn, schema, sql string) (v T) {
	t.Helper()
	sql = replaceSchema(sql, schema)
	if err := conn.QueryRow(context.Background(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// entry returns entry n at a revision, of about 1000 bytes. Ten organizations have three
// projects each; each eleventh entry has neither. Who acts changes with each entry and
// comes back after thousands.
func entry(n, revision int) *audit.Entry {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(epoch/1000+n)<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n)*0x9e3779b97f4a7c15)
	h := hex.EncodeToString(id[:])
	e := &audit.Entry{
		ID:       h[:8] + "-" + h[8:12] + "-7" + h[13:16] + "-8" + h[17:20] + "-" + h[20:],
		Revision: revision, Timestamp: epoch + int64(n)*1000, DurationUS: 1234,
		RequestID: h, TraceID: h,
		Action: audit.Action{
			Code: "v1-update-function", Name: "Update a function", Method: "PATCH",
			Route: "/v1/projects/{ref}/functions/{slug}", Path: fmt.Sprintf("/v1/projects/abcdefgh%d/functions/hello", n),
			Host: "api.example.com", Status: 200, StatusSource: audit.StatusWritten,
		},
		Actor: audit.Actor{
			TokenType: "jwt", TokenHash: tokenHash(n % 9973), Verification: audit.VerificationSignature,
			UserID: fmt.Sprintf("7b1c0000-0000-4000-8000-%012x", n%997), SessionID: fmt.Sprintf("5e550000-0000-4000-8000-%012x", n%4999),
			IP: fmt.Sprintf("203.0.113.%d", n%251), IPSource: audit.IPPeer, UserAgent: "curl/8.9.1",
		},
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		SchemaVersion: audit.SchemaVersion,
	}
	if n%11 != 0 {
		e.OrganizationSlug = fmt.Sprintf("org-%d", n%10)
		e.ProjectRef = fmt.Sprintf("ref-%d-%d", n%10, n%3)
	}
	return e
}

// tokenHash spreads as a hash does.
func tokenHash(n int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte{byte(n), byte(n >> 8)})) }

// record stamps an entry as the forwarder does.
func record(t testing.TB, e *audit.Entry, sequence int) forwarder.Record {
	t.Helper()
	return recordOf(t, testInstance, e, sequence)
}

func recordOf(t testing.TB, instance string, e *audit.Entry, sequence int) forwarder.Record {
	t.Helper()
	e.Origin = &audit.Origin{Instance: instance, Sequence: uint64(sequence)}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forwarder.Record{Sequence: e.Origin.Sequence, Entry: e, JSON: b}
}

// payload is a record of an entry as it lies in a buffer.
func payload(t testing.TB, sequence int, doc string) forwarder.Record {
	t.Helper()
	r, err := forwarder.NewRecord(testInstance, uint64(sequence), []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// records returns entries first..last at revision 1, whose sequences are their numbers.
func records(t testing.TB, first, last int) []forwarder.Record {
	t.Helper()
	var batch []forwarder.Record
	for n := first; n <= last; n++ {
		batch = append(batch, record(t, entry(n, audit.RevisionAnswer), n))
	}
	return batch
}

func write(t testing.TB, s *Store, batch []forwarder.Record) {
	t.Helper()
	if err := s.Write(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
}

// deliver writes until the store has it, as the forwarder does.
func deliver(t testing.TB, s forwarder.Store, batch []forwarder.Record) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := s.Write(context.Background(), batch)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// documents reads everything that a query selects.
func documents(t testing.TB, r forwarder.Reader, q forwarder.Query) []string {
	t.Helper()
	var docs []string
	for b, err := range r.Read(context.Background(), q) {
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(b))
	}
	return docs
}

// texts are the documents of a batch.
func texts(batch []forwarder.Record) (all []string) {
	for _, r := range batch {
		all = append(all, string(r.JSON))
	}
	return all
}

// sequences reads the sequences of what a query selects.
func sequences(t testing.TB, r forwarder.Reader, q forwarder.Query) []int {
	t.Helper()
	var got []int
	for _, doc := range documents(t, r, q) {
		var e struct{ Origin audit.Origin }
		if err := json.Unmarshal([]byte(doc), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, int(e.Origin.Sequence))
	}
	return got
}

func numbers(first, last int) []int {
	var n []int
	for i := first; i <= last; i++ {
		n = append(n, i)
	}
	return n
}

func reversed[T any](s []T) []T {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

// allArguments are those of a call for a batch that is sent in one part, to a server that knows no
// organization's name.
func allArguments(batch []forwarder.Record, now int64) []any {
	var fresh freshNames
	args := arguments(batch, now, names{}, &fresh)
	return append(args, fresh.slugs, fresh.owners)
}
