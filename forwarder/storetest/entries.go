package storetest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The buffers that entries come from.
const (
	instance      = "0198c0de-0000-7000-8000-000000000001"
	otherInstance = "0198c0de-0000-7000-8000-000000000002"
)

// epoch is the arrival of entry 0, in microseconds.
const epoch = 1_760_000_000_000_000

// entry returns entry n at a revision. Entries arrive a millisecond apart; they
// share organizations, actors and addresses, so that a query finds several.
func entry(n, revision int) *audit.Entry {
	e := &audit.Entry{
		ID: id(n), Revision: revision, Timestamp: epoch + int64(n)*1000, RecordedAt: epoch + int64(n)*1000 + 700, DurationUS: 654,
		RequestID: fmt.Sprintf("request-%d", n),
		Action: audit.Action{
			Code: "v1-update-function", Name: "Update a function", Method: "PATCH",
			Route: "/v1/projects/{ref}/functions/{slug}", Path: fmt.Sprintf("/v1/projects/ref-%d/functions/hello", n%3),
			Host: "api.example.com", Status: 200, StatusSource: audit.StatusWritten,
		},
		Actor: audit.Actor{
			TokenType: "jwt", TokenHash: hash(n % 7), Verification: audit.VerificationSignature,
			UserID: fmt.Sprintf("user-%d", n%4), SessionID: fmt.Sprintf("session-%d", n%6),
			IP: fmt.Sprintf("203.0.113.%d", n%3), IPSource: audit.IPPeer, UserAgent: fmt.Sprintf("agent/%d.%d", n, revision),
		},
		Target:        &audit.Target{Type: "edge_function", ID: "hello", Parent: fmt.Sprintf("ref-%d", n%3)},
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		SchemaVersion: audit.SchemaVersion,
	}
	if n%5 != 0 {
		e.OrganizationSlug, e.ProjectRef = fmt.Sprintf("org-%d", n%5), fmt.Sprintf("ref-%d", n%3)
	}
	if n%4 == 0 {
		e.Actor.OtherTokenHashes = []string{hash(100), hash((n + 1) % 7)}
	}
	return e
}

// id is a UUIDv7 for entry n. Its order is that of arrival.
func id(n int) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(epoch/1000+n)<<16)
	binary.BigEndian.PutUint64(b[8:], uint64(n)*0x9e3779b97f4a7c15)
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-7" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

func hash(n int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte{byte(n)})) }

// payload makes a record of an entry as it lies in a buffer.
func payload(t testing.TB, from string, sequence int, b []byte) forwarder.Record {
	t.Helper()
	r, err := forwarder.NewRecord(from, uint64(sequence), b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// record makes a record of an entry.
func record(t testing.TB, e *audit.Entry, sequence int) forwarder.Record {
	t.Helper()
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return payload(t, instance, sequence, b)
}

// records returns entries first to last at revision 1, whose sequences are their
// numbers.
func records(t testing.TB, first, last int) []forwarder.Record {
	t.Helper()
	var batch []forwarder.Record
	for n := first; n <= last; n++ {
		batch = append(batch, record(t, entry(n, audit.RevisionAnswer), n))
	}
	return batch
}

// bare returns entries first to last with next to nothing in them, for a batch whose
// size is in their number.
func bare(t testing.TB, first, last int) []forwarder.Record {
	t.Helper()
	var batch []forwarder.Record
	for n := first; n <= last; n++ {
		batch = append(batch, record(t, &audit.Entry{ID: id(n), Revision: audit.RevisionAnswer, Timestamp: epoch + int64(n)*1000}, n))
	}
	return batch
}

// decode reads an entry that the suite has written itself.
func decode(t testing.TB, doc []byte) *audit.Entry {
	t.Helper()
	e, err := audit.Decode(doc)
	if err != nil {
		t.Errorf("reading an entry: %v", err)
		return new(audit.Entry)
	}
	return e
}

// random draws the same numbers each time, so that a failure can be had again.
func random(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // nothing is secret here
}
