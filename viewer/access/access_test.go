package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/viewer"
)

// api says who is a member, over real HTTP.
type api struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

// newAPI gives acme and other to their members, whose tokens begin with the slug.
func newAPI(t *testing.T) *api {
	a := new(api)
	usual := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slug := strings.TrimPrefix(r.URL.Path, "/v1/organizations/")
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case token == "":
			w.WriteHeader(401)
		case !strings.HasPrefix(token, slug+"-"):
			w.WriteHeader(404)
		default:
			fmt.Fprintf(w, `{"id":"id-of-%s","slug":%q,"name":"The %s","plan":"team","me":{"role":%q}}`, slug, slug, slug, strings.TrimPrefix(token, slug+"-"))
		}
	})
	a.answer.Store(&usual)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		(*a.answer.Load())(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) says(f http.HandlerFunc) { a.answer.Store(&f) }

func (a *api) ask() *Ask { return &Ask{URL: a.URL + "/v1/organizations/{slug}", Timeout: time.Minute} }

// identify takes a token that begins with "verified" for one that is.
func identify(r *http.Request) (*audit.Caller, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c := new(audit.Caller)
	switch {
	case !ok:
		c.Actor = audit.Actor{TokenType: audit.TokenNone, Verification: audit.VerificationNone}
	case strings.HasPrefix(token, "verified"):
		c.Actor = audit.Actor{TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, UserID: "u-1", Email: "ann@example.com", JWTRole: "staff"}
		c.OrganizationID, c.OrganizationSlug = "id-claimed", "claimed"
	case strings.HasPrefix(token, "forged"):
		c.Actor = audit.Actor{TokenType: audit.TokenJWT, Verification: audit.VerificationNone, VerificationReason: audit.ReasonBadSignature}
	default:
		c.Actor = audit.Actor{TokenType: "v1", Verification: audit.VerificationNone, TokenAlias: "sbp_12", TokenHash: "hash"}
	}
	return c, nil
}

func newGate(t *testing.T, o Options) *Gate {
	t.Helper()
	o.Identify = identify
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// grant asks for both steps.
func grant(t *testing.T, g *Gate, slug string, change func(*http.Request)) (*viewer.Visitor, *viewer.Grant, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	change(r)
	v, err := g.Visitor(r)
	if err != nil {
		return nil, nil, err
	}
	to, err := g.Grant(t.Context(), v, slug)
	return v, to, err
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func status(err error) int {
	if err == nil {
		return 200
	}
	if d, ok := errors.AsType[*viewer.DeniedError](err); ok {
		return d.Status
	}
	return 503
}

func TestTheAPISaysWhoIsAMember(t *testing.T) {
	a := newAPI(t)
	g := newGate(t, Options{Ask: a.ask(), Cookie: "session"})
	v, to, err := grant(t, g, "acme", bearer("acme-owner"))
	if err != nil {
		t.Fatal(err)
	}
	want := &viewer.Grant{ID: "id-of-acme", Slug: "acme", Name: "The acme", Plan: "team", Owners: []audit.Owner{audit.OwnerByID("id-of-acme")}}
	if diff := gocmp.Diff(want, to); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v.Actor.Verification != audit.VerificationAccepted || v.Name != "sbp_12" {
		t.Errorf("%+v", v)
	}
	for name, c := range map[string]struct {
		slug   string
		change func(*http.Request)
		status int
	}{
		"another organization":   {"other", bearer("acme-owner"), 403},
		"nobody":                 {"acme", func(*http.Request) {}, 401},
		"a forged token":         {"acme", bearer("forged-acme-owner"), 401},
		"the cookie":             {"acme", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "session", Value: "acme-owner"}) }, 200},
		"another cookie":         {"acme", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "other", Value: "acme-owner"}) }, 401},
		"two cookies":            {"acme", func(r *http.Request) { r.Header.Set("Cookie", "session=acme-owner; session=acme-owner") }, 401},
		"two headers":            {"acme", func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer acme-owner", "Bearer x"} }, 401},
		"a token in the URL":     {"acme", func(r *http.Request) { r.URL.RawQuery = "access_token=acme-owner&token=acme-owner" }, 401},
		"a path for a slug":      {"../projects/x", bearer("acme-owner"), 403},
		"an encoded path":        {"acme%2f..%2fadmin", bearer("acme-owner"), 403},
		"dots":                   {"..", bearer("acme-owner"), 403},
		"a query for a slug":     {"acme?x=", bearer("acme-owner"), 403},
		"a long slug":            {strings.Repeat("a", 129), bearer("acme-owner"), 403},
		"a control character":    {"acme\n", bearer("acme-owner"), 403},
		"no slug":                {"", bearer("acme-owner"), 403},
		"the claim, not allowed": {"claimed", bearer("verified"), 403},
	} {
		if _, _, err := grant(t, g, c.slug, c.change); status(err) != c.status {
			t.Errorf("%s: %v, want %d", name, err, c.status)
		}
	}
}

func TestWhatTheAPIAnswersInsteadLetsNobodyIn(t *testing.T) {
	a := newAPI(t)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 503},
		"204": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 503},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		}, 503},
		"HTML":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>sign in</html>")) }, 503},
		"null":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("null")) }, 503},
		"a list":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }, 503},
		"10 MiB":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 10<<20)) }, 503},
		"401":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, 401},
		"403":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 403},
		"to anybody": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"id":"x"}`)) }, 503},
		"nothing":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 503},
	} {
		a.says(c.answer)
		ask := a.ask()
		if name == "nothing" {
			ask.Timeout = 50 * time.Millisecond
		}
		g := newGate(t, Options{Ask: ask})
		if _, to, err := grant(t, g, "acme", bearer("acme-owner")); status(err) != c.status || to != nil {
			t.Errorf("%s: %v, want %d", name, err, c.status)
		}
	}
}

func TestARoleIsRequiredWhereOneIsNamed(t *testing.T) {
	a := newAPI(t)
	ask := a.ask()
	ask.Role, ask.Roles = "me.role", []string{"owner", "auditor"}
	g := newGate(t, Options{Ask: ask})
	for role, want := range map[string]int{"owner": 200, "auditor": 200, "developer": 403, "": 403} {
		if _, _, err := grant(t, g, "acme", bearer("acme-"+role)); status(err) != want {
			t.Errorf("%q: %v, want %d", role, err, want)
		}
	}
	bad := a.ask()
	bad.Roles = []string{"owner"}
	if _, err := New(Options{Identify: identify, Ask: bad}); err == nil {
		t.Error("roles that nothing tells are taken")
	}
}

func TestTheAPIIsAskedOnceForManyWhoWaitAndAgainAfterAWhile(t *testing.T) {
	a := newAPI(t)
	ask := a.ask()
	ask.TTL = time.Hour
	g := newGate(t, Options{Ask: ask})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, _, err := grant(t, g, "acme", bearer("acme-owner")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := a.asked.Load(); n != 2 { // one of them without a credential
		t.Errorf("the API was asked %d times", n)
	}
	if _, _, err := grant(t, g, "other", bearer("other-owner")); err != nil || a.asked.Load() != 3 {
		t.Errorf("%v, asked %d times", err, a.asked.Load())
	}
	ask = a.ask()
	ask.TTL = time.Nanosecond
	g = newGate(t, Options{Ask: ask})
	if _, _, err := grant(t, g, "acme", bearer("acme-owner")); err != nil {
		t.Fatal(err)
	}
	a.says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	if _, _, err := grant(t, g, "acme", bearer("acme-owner")); status(err) != 403 {
		t.Errorf("who is no member any more: %v", err)
	}
}

func TestAVerifiedClaimIsMembershipWhereThatIsSaid(t *testing.T) {
	g := newGate(t, Options{Claim: true, Plan: func(o string) (string, bool) { return "team", o == "id-claimed" }})
	for _, name := range []string{"claimed", "id-claimed"} {
		_, to, err := grant(t, g, name, bearer("verified"))
		if err != nil || to.ID != "id-claimed" || to.Plan != "team" || len(to.Owners) != 1 {
			t.Errorf("%s: %+v %v", name, to, err)
		}
	}
	for token, slug := range map[string]string{"verified": "acme", "opaque": "claimed", "forged": "claimed"} {
		if _, _, err := grant(t, g, slug, bearer(token)); status(err) == 200 {
			t.Errorf("%s reads %s", token, slug)
		}
	}
}

func TestOperatorsAreVerifiedActorsWhoAreNamed(t *testing.T) {
	for name, o := range map[string]Operators{
		"by user id": {UserIDs: []string{"u-1"}}, "by email": {Emails: []string{"ann@example.com"}}, "by role": {Roles: []string{"staff"}},
	} {
		g := newGate(t, Options{Operators: o, SlugsStay: func() bool { return true }})
		_, to, err := grant(t, g, "acme", bearer("verified"))
		if err != nil || !to.Operator || len(to.Owners) != 2 {
			t.Errorf("%s: %+v %v", name, to, err)
		}
		if _, _, err := grant(t, g, "acme", bearer("opaque")); status(err) == 200 {
			t.Errorf("%s: somebody unverified is an operator", name)
		}
	}
	a := newAPI(t)
	g := newGate(t, Options{Operators: Operators{UserIDs: []string{"u-2", ""}}, Ask: a.ask()})
	if _, _, err := grant(t, g, "acme", bearer("verified")); status(err) != 403 {
		t.Errorf("somebody else: %v", err)
	}
}

// A slug that was given up can be another organization's now.
func TestEntriesThatOnlyASlugNamesAreNobodysWhereSlugsMove(t *testing.T) {
	a := newAPI(t)
	for stay, owners := range map[bool]int{true: 2, false: 1} {
		g := newGate(t, Options{Ask: a.ask(), SlugsStay: func() bool { return stay }})
		if _, to, err := grant(t, g, "acme", bearer("acme-owner")); err != nil || len(to.Owners) != owners {
			t.Errorf("%v: %+v %v", stay, to, err)
		}
	}
	a.says(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(401)
			return
		}
		_, _ = w.Write([]byte(`{"id":{"no":"text"}}`))
	})
	g := newGate(t, Options{Ask: a.ask()})
	if _, to, err := grant(t, g, "acme", bearer("acme-owner")); err != nil || len(to.Owners) != 1 || to.Owners[0] != audit.OwnerBySlug("acme") {
		t.Errorf("%+v %v", to, err)
	}
}

func TestAnAddressThatCannotBeAskedIsRefusedWhenItIsLoaded(t *testing.T) {
	for _, address := range []string{
		"", "api.example.com/{slug}", "ftp://api.example.com/{slug}", "https://api.example.com/v1", "https://ann:secret@api.example.com/{slug}",
		"https://api.example.com/?o={slug}", "https://api.example.com/{slug}/{slug}", "https://{slug}.example.com/?", "https://api.example.com/#{slug}",
	} {
		if _, err := New(Options{Identify: identify, Ask: &Ask{URL: address}}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestACredentialIsNotPrinted(t *testing.T) {
	g := newGate(t, Options{Ask: newAPI(t).ask()})
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
	bearer("opaque-secret")(r)
	v, err := g.Visitor(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(form, v); strings.Contains(s, "opaque-secret") {
			t.Errorf("%s prints %s", form, s)
		}
	}
}
