package viewer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// rig is a viewer over a real store, with a real server before it. Its gate is a stand-in:
// a bearer token "member:<slug>" is a member's of that organization, "operator" is one.
type rig struct {
	t      *testing.T
	store  forwarder.Store
	server *httptest.Server
	viewer *Viewer
	client *http.Client

	mu       sync.Mutex
	recorded []*audit.Entry
	disk     error // what recording ends with
	sequence uint64
	plans    map[string]string
	members  func(token, slug string) bool // instead of the rule above
	until    time.Time
}

const instance = "0198c0de-0000-7000-8000-000000000001"

// newRig is one over SQLite.
func newRig(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.db")
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return newRigOver(t, store, func(ctx context.Context) (Log, error) { return sqlite.OpenReader(ctx, path) }, change...)
}

// newPostgresRig is one over PostgreSQL, with a server of its own.
func newPostgresRig(t *testing.T) *rig {
	t.Helper()
	server := pgtest.Run(t, map[string]string{"fsync": "off"})
	c := postgres.Config{DSN: func() (string, error) { return server.DSN(nil), nil }}
	store, err := postgres.Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return newRigOver(t, store, func(ctx context.Context) (Log, error) { return postgres.OpenReader(ctx, c) })
}

func newRigOver(t *testing.T, store forwarder.Store, open func(context.Context) (Log, error), change ...func(*Options)) *rig {
	t.Helper()
	var err error
	r := &rig{t: t, store: store, plans: map[string]string{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	o := Options{
		Open:   open,
		Gate:   r,
		Record: r.record,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	for _, c := range change {
		c(&o)
	}
	if r.viewer, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(r.viewer)
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.server.Close()
		if err := r.viewer.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) record(e *audit.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.disk != nil {
		return r.disk
	}
	b, err := e.Encode()
	if err != nil {
		return err
	}
	c, err := audit.Decode(b)
	r.recorded = append(r.recorded, c)
	return err
}

func (r *rig) events() []*audit.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*audit.Entry(nil), r.recorded...)
}

// Visitor implements Gate.
func (r *rig) Visitor(req *http.Request) (*Visitor, error) {
	token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, ErrNoVisitor
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Visitor{
		Actor: audit.Actor{
			TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, UserID: "user-of-" + token, Email: "reader@example.com",
			IP: "203.0.113.77", PeerIP: "10.9.8.7",
		},
		Name: "reader@example.com", Credential: token, Until: r.until,
	}, nil
}

// Grant implements Gate.
func (r *rig) Grant(_ context.Context, v *Visitor, slug string) (*Grant, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token := v.Credential.(string)
	g := &Grant{ID: "id-" + slug, Slug: slug, Plan: r.plans[slug], Owners: []audit.Owner{audit.OwnerByID("id-" + slug), audit.OwnerBySlug(slug)}}
	switch {
	case r.members != nil && r.members(token, slug):
	case r.members == nil && token == "member:"+slug:
	case token == "operator":
		g = &Grant{Slug: slug, Operator: true, Owners: []audit.Owner{audit.OwnerByID(slug), audit.OwnerBySlug(slug)}}
	default:
		return nil, ErrNoPermission
	}
	return g, nil
}

// store writes entries, with what is stamped on each.
func (r *rig) write(entries ...*audit.Entry) {
	r.t.Helper()
	var batch []forwarder.Record
	for _, e := range entries {
		c := *e
		stamp := &audit.Stamp{Membership: c.Membership, Retention: c.Retention}
		c.Membership, c.Retention, c.Origin = "", nil, nil
		b, err := c.Encode()
		if err != nil {
			r.t.Fatal(err)
		}
		r.sequence++
		record, err := forwarder.NewRecord(instance, r.sequence, b)
		if err != nil {
			r.t.Fatal(err)
		}
		stamp.On(record.Entry)
		record.Stamp = stamp
		batch = append(batch, record)
	}
	if err := r.store.Write(r.t.Context(), batch); err != nil {
		r.t.Fatal(err)
	}
}

// get asks as somebody; an empty token is nobody's.
func (r *rig) get(token, path string, headers ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.server.URL+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// list is an answer of the read API.
type list struct {
	Result          []*audit.Entry `json:"result"`
	RetentionPeriod int            `json:"retention_period"`
	NextCursor      string         `json:"next_cursor"`
	CompleteUntil   *time.Time     `json:"complete_until"`
	Gaps            []gap          `json:"gaps"`
	Message         string         `json:"message"`
}

func (r *rig) list(token, path string) (l list, status int) {
	r.t.Helper()
	resp := r.get(token, path)
	text := body(r.t, resp)
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		r.t.Fatalf("%s: %v: %.300s", path, err, text)
	}
	return l, resp.StatusCode
}

func auditPath(slug string) string { return "/platform/organizations/" + slug + "/audit" }

// now is whole microseconds, as entries have them.
func now() time.Time { return time.Now().Truncate(time.Microsecond) }

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// entryOf is an entry of an organization that arrived some time ago.
func entryOf(slug string, ago time.Duration) *audit.Entry {
	at := time.Now().Add(-ago)
	return &audit.Entry{
		ID: idAt(at), Revision: audit.RevisionAnswer, RequestID: "req-1", Timestamp: at.UnixMicro(), RecordedAt: at.UnixMicro() + 900,
		DurationUS: 900, OrganizationID: "id-" + slug, OrganizationSlug: slug, ProjectRef: "ref-" + slug,
		Action: audit.Action{
			Code: "v1-update-function", Name: "Update function", Method: "PATCH", Route: "/v1/projects/{ref}/functions/{slug}",
			Path: "/v1/projects/ref-" + slug + "/functions/hello", Host: "api.example.com", Status: 200, StatusSource: audit.StatusWritten,
			Params: map[string]string{"slug": "hello"},
		},
		Actor: audit.Actor{
			TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, UserID: "user-1", Email: "ann@example.com", IP: "203.0.113.7",
			PeerIP: "10.1.2.3", UserAgent: "curl/8", TokenHash: strings.Repeat("a", 64), SessionID: "session-1",
		},
		Target:     &audit.Target{Type: "edge_function", ID: "hello", Parent: "ref-" + slug},
		Outcome:    audit.OutcomeSuccess,
		Membership: audit.MembershipProven,
		Policy:     audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict}, SchemaVersion: audit.SchemaVersion,
		Retention: &audit.Retention{Class: "default", Plan: "team"},
	}
}

// idAt is a UUIDv7 of a time.
func idAt(at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", uint32(ms>>16), uint16(ms), rand.IntN(1<<12), rand.IntN(1<<12), rand.Int64N(1<<48))
}
