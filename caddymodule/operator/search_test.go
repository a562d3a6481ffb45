package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// fakeStore has documents, in order.
type fakeStore []*audit.Entry

func (s fakeStore) Read(_ context.Context, q forwarder.Query) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, e := range s {
			if b, err := e.Encode(); q.Matches(e) && !yield(b, err) {
				return
			}
		}
	}
}

func TestASearchShowsEachEntryOnceInItsHighestRevisionAndInOrder(t *testing.T) {
	b, err := buffer.Open(filepath.Join(t.TempDir(), "b"), buffer.Options{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	made := func(n, revision int) *audit.Entry {
		return &audit.Entry{
			ID: fmt.Sprintf("e-%03d", n), Revision: revision, Timestamp: int64(1000 + n/2),
			Actor: audit.Actor{UserID: "u", TokenHash: fmt.Sprint("h", n%3), SessionID: fmt.Sprint("s", n%2)},
		}
	}
	buffered := func(e *audit.Entry) {
		doc, err := e.Encode()
		if err == nil {
			err = b.Append(doc)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var store fakeStore
	const total = 200
	want := map[string]int{}
	for n := range total {
		e := made(n, 1)
		want[e.ID] = 1
		if n < 150 {
			store = append(store, e)
		}
		if n >= 100 || n%10 == 0 {
			buffered(e) // some are in both
		}
		if n%7 == 0 {
			want[e.ID] = 2
			buffered(made(n, 2))
		}
		if n%14 == 0 {
			buffered(made(n, 0))
		}
	}
	buffered(&audit.Entry{ID: "other", Timestamp: 1000, Actor: audit.Actor{Claimed: &audit.Claimed{SessionID: "s0"}}})
	for _, room := range []int{1 << 20, 4000, 300, 1} {
		for _, q := range []forwarder.Query{{User: "u"}, {Trail: audit.Trail{Hashes: []string{"h1", "x"}, Session: "s0"}}, {Session: "s1"}} {
			var got, order []string
			s := Search{Query: q, Store: store, Buffer: b, Room: room, Emit: func(doc []byte, by string) error {
				e, err := audit.Decode(doc)
				if err != nil {
					return err
				}
				if e.Revision != want[e.ID] || by != q.Trail.Names(e) {
					t.Errorf("room %d: entry %s by %q", room, doc, by)
				}
				got = append(got, e.ID)
				return nil
			}}
			if err := s.Run(t.Context()); err != nil || s.Failed != nil {
				t.Fatal(err, s.Failed)
			}
			for n := range total {
				if e := made(n, 1); q.Matches(e) {
					order = append(order, e.ID)
				}
			}
			if !slices.Equal(got, order) {
				t.Errorf("room %d, %+v: %d entries, want %d: %v", room, q, len(got), len(order), got)
			}
		}
	}
}

func TestAnEntryThatCannotBeReadDoesNotHideTheOthers(t *testing.T) {
	b, err := buffer.Open(filepath.Join(t.TempDir(), "b"), buffer.Options{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	if err := b.Append([]byte(`{"user_id":"u"`)); err != nil {
		t.Fatal(err)
	}
	n := 0
	s := Search{
		Query: forwarder.Query{User: "u"}, Buffer: b, Room: 1 << 20, Store: fakeStore{{ID: "e", Actor: audit.Actor{UserID: "u"}}},
		Emit: func([]byte, string) error { n++; return nil },
	}
	if err := s.Run(t.Context()); err != nil || n != 1 || s.Failed == nil {
		t.Errorf("%d entries, %v, %v", n, err, s.Failed)
	}
}

// Whatever an entry holds, the cheap look never keeps back one that matches.
func TestTheCheapLookKeepsNothingBack(t *testing.T) {
	for _, text := range []string{"s", `a"b\c`, "<&>", "ü\u2028", "\x00\n", `","token_hash":"x`} {
		e := &audit.Entry{ID: text, Actor: audit.Actor{TokenHash: text, SessionID: text, UserID: text, IP: text, Claimed: &audit.Claimed{SessionID: "x"}}}
		doc, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []forwarder.Query{{Session: text}, {User: text}, {IP: text}, {Trail: audit.Trail{Session: text}}} {
			if !q.Matches(e) || !mayMatch(&q)(doc) {
				t.Errorf("%q is kept back: %+v", text, q)
			}
		}
	}
	hash := tokenHash("x")
	q := forwarder.Query{Trail: audit.Trail{Hashes: []string{hash}}}
	if !mayMatch(&q)([]byte(`{"a":{"token_hash":"y"},"token_hash":"`+hash+`"}`)) || mayMatch(&q)([]byte(`{"token_hash":"`)) {
		t.Error("a hash is not seen")
	}
}

func TestASearchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := Search{Query: forwarder.Query{User: "u"}, Store: fakeStore{}, Room: 1}
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func tokenHash(token string) string { return new(audit.TokenKey).Hash(token, true) }
