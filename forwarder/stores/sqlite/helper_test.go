package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const testInstance = "0198c0de-0000-7000-8000-000000000001"

// epoch is the arrival of entry 0, in microseconds.
const epoch = 1_760_000_000_000_000

func openStore(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path}, nil)
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
	return openStore(t, filepath.Join(t.TempDir(), "audit.db"))
}

// entry returns entry n at a revision, of about 1000 bytes. Ten organizations
// have three projects each; each eleventh entry has neither. Who acts changes
// with each entry and comes back after thousands: that is the worst for an index.
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
	e.Origin = &audit.Origin{Instance: testInstance, Sequence: uint64(sequence)}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forwarder.Record{Sequence: e.Origin.Sequence, Entry: e, JSON: b}
}

// records returns entries first..last at revision 1, whose sequences are
// their numbers.
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
	if err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// documents reads everything that a query selects.
func documents(t testing.TB, r forwarder.Reader, q forwarder.Query) []string {
	t.Helper()
	var docs []string
	for b, err := range r.Read(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(b))
	}
	return docs
}

// sequences reads the sequences of what a query selects.
func sequences(t testing.TB, r forwarder.Reader, q forwarder.Query) []int {
	t.Helper()
	var got []int
	for b, err := range r.Read(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Origin audit.Origin }
		if err := json.Unmarshal(b, &e); err != nil {
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

func reversed(s []int) []int {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}
