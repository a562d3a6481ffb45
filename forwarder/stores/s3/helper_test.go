package s3

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	testInstance  = "0198c0de-0000-7000-8000-000000000001"
	otherInstance = "0198c0de-0000-7000-8000-000000000002"
	// epoch is the arrival of entry 0, in microseconds.
	epoch = 1_760_000_000_000_000
)

// entry is what makes a record of a test.
type entry struct {
	n        int
	instance string
	class    string
	at       time.Time
	text     string
}

// make returns the record, as the forwarder gives it to a store.
func (x entry) make(t testing.TB) forwarder.Record {
	t.Helper()
	if x.at.IsZero() {
		x.at = time.UnixMicro(epoch + int64(x.n)*1000)
	}
	if x.instance == "" {
		x.instance = testInstance
	}
	e := &audit.Entry{
		ID: fmt.Sprintf("%s%012d", x.instance[:24], x.n), Revision: audit.RevisionAnswer, Timestamp: x.at.UnixMicro(),
		Action:        audit.Action{Code: "v1-update-function", Method: "PATCH", Path: "/v1/projects/" + x.text, Status: 200},
		Outcome:       audit.OutcomeSuccess,
		Policy:        audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		SchemaVersion: audit.SchemaVersion,
	}
	if x.class != "" {
		e.Retention = &audit.Retention{Class: x.class}
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := forwarder.NewRecord(x.instance, uint64(x.n), b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func records(t testing.TB, first, last int) (batch []forwarder.Record) {
	t.Helper()
	for n := first; n <= last; n++ {
		batch = append(batch, entry{n: n, text: strings.Repeat("x", 100)}.make(t))
	}
	return batch
}

var discard = slog.New(slog.DiscardHandler)

// memoryNotes are what a buffer keeps.
type memoryNotes struct{ note []byte }

func (n *memoryNotes) Note() []byte { return append([]byte(nil), n.note...) }

func (n *memoryNotes) SetNote(note []byte) error {
	if len(note) > forwarder.MaxNote {
		return fmt.Errorf("the note has %d bytes", len(note))
	}
	n.note = append([]byte(nil), note...)
	return nil
}

func isRefused(err error) bool {
	var refused *forwarder.RefusedError
	return errors.As(err, &refused)
}

func mentions(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not mention %q: %v", part, err)
		}
	}
}
