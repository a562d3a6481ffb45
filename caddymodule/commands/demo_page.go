package commands

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

const (
	// demoEntries is how many entries the demo's store begins with, of
	// demoOrganizations over demoSpan.
	demoEntries       = 40_000
	demoOrganizations = 1000
	demoSpan          = 30 * 24 * time.Hour

	demoSecretName = "AUDIT_DEMO_SECRET"
	demoIssuer     = "http://demo.invalid/auth"
	demoCookie     = "audit_demo_session"
)

// demoOrganization is the visitor's.
var demoOrganization = sample.OrganizationOf(0)

// demoSession signs a visitor of the demo in, by a key that is made for it.
type demoSession struct {
	api, path, page, secret, token string
	// url is where a browser gets it.
	url string
}

func newDemoSession(api, page string) (*demoSession, error) {
	var b [64]byte
	_, _ = rand.Read(b[:]) // never fails
	s := &demoSession{api: api, path: "/sign-in/" + hex.EncodeToString(b[:16]), page: page, secret: hex.EncodeToString(b[16:])}
	s.url = api + s.path
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(s.secret)}, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s.token, err = jwt.Signed(signer).Claims(map[string]any{
		"iss": demoIssuer, "sub": uuid.NewString(), "aud": "authenticated", "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(),
		"email": "you@" + demoOrganization.Slug + ".example", "role": "authenticated", "session_id": uuid.NewString(), "aal": "aal1",
	}).Serialize()
	return s, err
}

// before puts the dashboard's sign-in before the API.
func (s *demoSession) before(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != s.path {
			api.ServeHTTP(w, r)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: demoCookie, Value: s.token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}) //nolint:gosec // loopback has no TLS
		http.Redirect(w, r, s.page, http.StatusSeeOther)
	})
}

// withDemoSession makes the configuration believe the demo's session, and ask its API whose
// projects are.
func withDemoSession(config any, s *demoSession) {
	switch v := config.(type) {
	case map[string]any:
		if app, ok := v["audit_log"].(map[string]any); ok {
			app["organizations"] = map[string]any{"supabase": s.api}
		}
		switch v["handler"] {
		case "audit_log":
			v["issuers"] = []any{map[string]any{"url": demoIssuer, "audiences": []any{"authenticated"}, "secret": "{env." + demoSecretName + "}"}}
		case "audit_log_viewer":
			v["cookie"] = demoCookie
		}
		for _, child := range v {
			withDemoSession(child, s)
		}
	case []any:
		for _, child := range v {
			withDemoSession(child, s)
		}
	}
}

// seed fills the store with what organizations did before the demo began.
func (d *demo) seed(ctx context.Context, w io.Writer) (err error) {
	fmt.Fprintf(w, "Making up a month of %d organizations …\n", demoOrganizations)
	s, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(d.dir, "audit.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
	}()
	until := time.Now().Add(-time.Minute)
	to := sample.Writer{Store: s, Instance: uuid.NewString()}
	for e, stamp := range sample.Entries(sample.Options{Organizations: demoOrganizations, Entries: demoEntries, Until: until, Span: demoSpan, Seed: 1}) {
		if _, err := to.Add(ctx, e, stamp); err != nil {
			return err
		}
	}
	// So that nobody waits for that buffer.
	if _, err := to.Add(ctx, audit.Event(audit.EventStopped, until, nil), &audit.Stamp{}); err != nil {
		return err
	}
	return to.Flush(ctx)
}
