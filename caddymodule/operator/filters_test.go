package operator

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
)

// randomEntry is entry n at a revision, in which all may be otherwise than in another, but
// that who acts is never forgotten.
func randomEntry(rng *rand.Rand, n, revision int) *audit.Entry {
	of := func(values ...string) string { return values[rng.IntN(len(values))] }
	e := &audit.Entry{
		ID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n), Revision: revision, Timestamp: 1_760_000_000_000_000 + int64(n/3)*1000,
		OrganizationSlug: fmt.Sprint("org-", n%3), ProjectRef: fmt.Sprint("ref-", n%4),
		Action: audit.Action{
			Code: of("", "v1-pause", "v1-delete"), Method: of("GET", "POST", "DELETE"), Route: "/v1/projects/{ref}", Path: fmt.Sprint("/v1/projects/ref-", n%4),
			Status: []int{0, 200, 201, 404, 503}[rng.IntN(5)],
		},
		Actor:   audit.Actor{TokenType: audit.TokenType(of("jwt", "none", "v0")), TokenHash: tokenHash(fmt.Sprint(n % 5)), IP: of("203.0.113.7", "203.0.113.90", "2001:db8::7", "")},
		Outcome: audit.Outcome(of("success", "failure", "denied", "unknown", "pending")),
	}
	if revision >= n%3 {
		e.Actor.UserID, e.Actor.Email = fmt.Sprint("user-", n%6), fmt.Sprintf("Ada%d@example.com", n%6)
	}
	if rng.IntN(3) > 0 {
		e.Target = &audit.Target{Type: of("project", "secret"), ID: of("a", "b/c")}
	}
	return e
}

// randomSearch asks for what some entry has, as a person would write it.
func randomSearch(rng *rand.Rand, e *audit.Entry) *SearchRequest {
	r := &SearchRequest{NewestFirst: rng.IntN(2) == 0, SearchFilters: SearchFilters{Filters: map[forwarder.Facet][]string{}}}
	b := e.Brief()
	for by, values := range map[forwarder.Facet][]string{
		forwarder.FacetActor: {b.Actor, b.Email, e.Actor.TokenHash}, forwarder.FacetProject: {b.Project}, forwarder.FacetAction: {b.Action},
		forwarder.FacetMethod: {b.Method, strings.ToLower(b.Method)}, forwarder.FacetTarget: {b.TargetType, b.Target, b.TargetType + "/" + b.Target},
		forwarder.FacetTokenType: {string(b.TokenType)}, forwarder.FacetOutcome: {string(b.Outcome), "denied"},
		forwarder.FacetStatus: {fmt.Sprint(b.Status), "2xx", "400-599", "0-999"}, forwarder.FacetNetwork: {e.Actor.IP, "203.0.113.0/26", "::/0", "2001:db8::/32"},
	} {
		for rng.IntN(6) == 0 {
			if value := values[rng.IntN(len(values))]; value != "" {
				r.Filters[by] = append(r.Filters[by], value)
			}
		}
	}
	some := func(target *string, value string, oneIn int) {
		if rng.IntN(oneIn) == 0 {
			*target = value
		}
	}
	some(&r.Text, []string{"ADA", "v1-", "ref-1", "no such text", "{REF}"}[rng.IntN(5)], 4)
	some(&r.User, e.Actor.UserID, 6)
	some(&r.TokenHash, e.Actor.TokenHash, 6)
	some(&r.Organization, e.OrganizationSlug, 6)
	some(&r.From, time.UnixMicro(e.Timestamp).UTC().Format(time.RFC3339Nano), 6)
	some(&r.To, time.UnixMicro(e.Timestamp+3000).UTC().Format(time.RFC3339Nano), 6)
	if rng.IntN(3) == 0 {
		r.Limit = 1 + rng.IntN(12)
	}
	return r
}

// However the revisions of entries are spread over the store and the buffer, a search
// yields what its query selects of the highest ones.
func TestASearchByFiltersYieldsWhatTheQueryMatchesOfStoreAndBufferTogether(t *testing.T) {
	const total = 90
	searches, hits := 0, 0
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 7))
		dir := t.TempDir()
		buf, err := buffer.Open(filepath.Join(dir, "b"), buffer.Options{MaxWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer buf.Close(t.Context())
		db := filepath.Join(dir, "audit.db")
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: db}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		highest := make([]*audit.Entry, total)
		var stored []forwarder.Record
		var buffered [][]byte
		for n := range total {
			for revision := range 1 + rng.IntN(4) {
				e := randomEntry(rng, n, revision-1)
				doc, err := e.Encode()
				if err != nil {
					t.Fatal(err)
				}
				record, err := forwarder.NewRecord("0198c0de-0000-7000-8000-000000000009", uint64(len(stored)+1), doc)
				if err != nil {
					t.Fatal(err)
				}
				highest[n] = e
				where := rng.IntN(3) // the store, the buffer, or both
				if where != 1 {
					stored = append(stored, record)
				}
				if where != 0 {
					buffered = append(buffered, doc)
				}
			}
		}
		var appends sync.WaitGroup // in no order, and few commits
		for _, doc := range buffered {
			appends.Go(func() {
				if err := buf.Append(doc); err != nil {
					t.Error(err)
				}
			})
		}
		appends.Wait()
		if err := store.Write(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
		reader, err := sqlite.OpenReader(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		for range 60 {
			request := randomSearch(rng, highest[rng.IntN(total)])
			q, err := request.Query(nil)
			if err != nil {
				if !strings.Contains(err.Error(), "searching for nothing") {
					t.Fatalf("%+v: %v", request, err)
				}
				continue
			}
			var want, got []string
			for _, e := range slices.SortedFunc(slices.Values(highest), func(a, b *audit.Entry) int {
				c := cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), strings.Compare(a.ID, b.ID))
				if q.NewestFirst {
					return -c
				}
				return c
			}) {
				if q.Matches(e) {
					want = append(want, fmt.Sprint(e.ID, " ", e.Revision))
				}
			}
			more := q.Limit > 0 && len(want) > q.Limit
			if more {
				want = want[:q.Limit]
			}
			s := Search{Query: q, Store: reader, Buffer: buf, Room: []int{1 << 20, 40_000, 15_000, 4000}[rng.IntN(4)], Emit: func(doc []byte, by string) error {
				e, err := audit.Decode(doc)
				if err == nil {
					got = append(got, fmt.Sprint(e.ID, " ", e.Revision))
					if by != q.Trail.Names(e) {
						t.Errorf("%s is found by %q", e.ID, by)
					}
				}
				return err
			}}
			if err := s.Run(t.Context()); err != nil || s.Failed != nil {
				t.Fatal(err, s.Failed)
			}
			if !slices.Equal(got, want) || s.More != more {
				t.Fatalf("seed %d, room %d, %+v:\n%q, more %v\nwant\n%q, more %v", seed, s.Room, request, got, s.More, want, more)
			}
			searches++
			hits += len(got)
		}
	}
	if searches < 80 || hits < searches {
		t.Errorf("%d searches found %d entries: the test asks for nothing", searches, hits)
	}
}
