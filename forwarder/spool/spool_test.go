package spool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source yields documents as they arrived.
type source struct {
	docs  [][]byte
	fails error
}

func (s *source) Scan(ctx context.Context, _ forwarder.Query, _ func(string, error)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var memory []byte // which is used again
		for _, doc := range s.docs {
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			memory = append(memory[:0], doc...)
			if !yield(memory, nil) {
				return
			}
		}
		if s.fails != nil {
			yield(nil, s.fails)
		}
	}
}

func document(t *testing.T, n, revision int, organization string) []byte {
	t.Helper()
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: revision, Timestamp: 1_760_000_000_000_000 + int64(n),
		Outcome: audit.OutcomeSuccess, OrganizationSlug: organization,
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := forwarder.NewRecord("0198c0de-0000-7000-8000-000000000001", uint64(10*n+revision), b)
	if err != nil {
		t.Fatal(err)
	}
	return r.JSON
}

func read(t *testing.T, s *source, q forwarder.Query) (docs []string, err error) {
	t.Helper()
	dir := t.TempDir()
	for doc, err := range New(s, dir).Read(t.Context(), q) {
		if err != nil {
			return docs, err
		}
		docs = append(docs, string(doc))
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return docs, nil
}

func TestARevisionThatWasReplacedIsNotSelected(t *testing.T) {
	s := &source{docs: [][]byte{document(t, 1, 1, "acme"), document(t, 1, 2, "beta"), document(t, 2, 1, "acme")}}
	docs, err := read(t, s, forwarder.Query{Organization: "acme"})
	if err != nil || len(docs) != 1 || docs[0] != string(s.docs[2]) {
		t.Errorf("%q, %v: the first entry is of beta now", docs, err)
	}
}

func TestManyEntriesComeInOrder(t *testing.T) {
	const n = batchEntries + 7
	s := new(source)
	for i := n; i > 0; i-- {
		s.docs = append(s.docs, document(t, i, 1, ""))
	}
	docs, err := read(t, s, forwarder.Query{From: time.UnixMicro(1_760_000_000_000_000 + 3)})
	if err != nil || len(docs) != n-2 || docs[0] != string(s.docs[n-3]) || docs[n-3] != string(s.docs[0]) {
		t.Errorf("%d entries, %v", len(docs), err)
	}
}

func TestAnErrorYieldsNothingAndADamagedEntryEndsIt(t *testing.T) {
	s := &source{docs: [][]byte{document(t, 1, 1, "")}, fails: errors.New("the network is gone")}
	if docs, err := read(t, s, forwarder.Query{}); !errors.Is(err, s.fails) || len(docs) != 0 {
		t.Errorf("%q, %v", docs, err)
	}
	s = &source{docs: [][]byte{[]byte("hello"), []byte(`{"id":"x"}`), document(t, 1, 1, "")}}
	docs, err := read(t, s, forwarder.Query{})
	if bad, is := errors.AsType[*DamagedError](err); !is || bad.Count != 2 || len(docs) != 1 {
		t.Errorf("%q, %v", docs, err)
	}
}

func TestStoppingHalfwayLeavesNothingBehind(t *testing.T) {
	s := &source{docs: [][]byte{document(t, 1, 1, ""), document(t, 2, 1, "")}}
	dir := t.TempDir()
	for range New(s, dir).Read(t.Context(), forwarder.Query{}) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range New(s, dir).Read(ctx, forwarder.Query{}) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAMemberLearnsNothingByAsking(t *testing.T) {
	doc := []byte(`{"id":"a","revision":1,"timestamp":7,"organization_id":"o-1","action":{"method":"POST","status":403},` +
		`"actor":{"token_type":"jwt","verification":"none","email":"ann@example.com","ip":"203.0.113.1"},"outcome":"denied",` +
		`"policy":{"rule":"","level":"","durability":""},"origin":{"instance":"i","sequence":1},"schema_version":1,"membership":"unproven"}`)
	s := &source{docs: [][]byte{doc, document(t, 2, 1, "acme"), document(t, 3, 1, "acme")}}
	of := forwarder.Query{Owners: []audit.Owner{audit.OwnerByID("o-1")}, AsMember: true}
	for want, change := range map[int][]func(q *forwarder.Query){
		0: {
			func(q *forwarder.Query) { q.Actors = []string{"ann@example.com"} },
			func(q *forwarder.Query) { q.TokenTypes = []string{"jwt"} },
			func(q *forwarder.Query) { q.IP = "203.0.113.1" },
			func(q *forwarder.Query) { q.Text = "ann" },
			func(q *forwarder.Query) { q.Events = true },
		},
		1: {
			func(*forwarder.Query) {},
			func(q *forwarder.Query) { q.TokenTypes = []string{"unknown"} },
			func(q *forwarder.Query) { q.AsMember, q.Actors = false, []string{"ann@example.com"} },
			func(q *forwarder.Query) { q.Owners, q.Limit = []audit.Owner{audit.OwnerBySlug("acme")}, 1 },
		},
	} {
		for i, change := range change {
			q := of
			change(&q)
			if docs, err := read(t, s, q); err != nil || len(docs) != want {
				t.Errorf("query %d yields %q, %v; want %d", i, docs, err, want)
			}
		}
	}
}
