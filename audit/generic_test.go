package audit

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestRouteOfPutsOnePlaceholderForEveryID(t *testing.T) {
	for path, want := range map[string]string{
		"/orders/123":          "/orders/{id}",
		"/orders/0":            "/orders/{id}",
		"/orders/123/items/9":  "/orders/{id}/items/{id}",
		"/orders/123/cancel":   "/orders/{id}/cancel",
		"/orders/1/2":          "/orders/{id}/{id}",
		"/a/-5":                "/a/-5",
		"/a/order_12345":       "/a/{id}",
		"/a/invoice-2026-0042": "/a/{id}",
		"/a/2026-01-31":        "/a/{id}",

		"/a/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f":     "/a/{id}",
		"/a/AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE":     "/a/{id}",
		"/a/0b7f5c9e6a574d0f9f0e3b8a4c1d2e3f":         "/a/{id}",
		"/a/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f.pdf": "/a/{id}",
		"/a/01ARZ3NDEKTSV4RRFFQ69G5FAV":               "/a/{id}",
		"/a/01arz3ndektsv4rrffq69g5fav":               "/a/{id}",
		"/a/507f1f77bcf86cd799439011":                 "/a/{id}",
		"/a/9f86d081":                                 "/a/{id}",
		"/a/9F86D081":                                 "/a/{id}",
		"/a/build-9f86d081":                           "/a/{id}",
		"/a/abcdefghijklmnopqrst":                     "/a/{id}",
		"/a/cus_NffrFeUfNV2Hib":                       "/a/{id}",
		"/a/dQw4w9WgXcQ":                              "/a/{id}",
		"/a/V1StGXR8_Z5jdHi6B-myT":                    "/a/{id}",
		"/a/jane@example.com":                         "/a/{id}",
		"/a/jane%40example.com":                       "/a/{id}",
		"/a/@me":                                      "/a/{id}",
		"/a/my%20file":                                "/a/{id}",
		"/a/caf%C3%A9":                                "/a/{id}",
		"/a/café":                                     "/a/{id}",
		"/a/x%2Fy":                                    "/a/{id}",
		"/a/%00":                                      "/a/{id}",
		"/a/%zz":                                      "/a/{id}",
		"/a/\xff\xfe":                                 "/a/{id}",
		"/a/x=1;y=2":                                  "/a/{id}",
		"/a/{ref}":                                    "/a/{id}",
		"/a/[redacted]":                               "/a/{id}",
		"/a/123.json":                                 "/a/{id}",
		"/a/9:cancel":                                 "/a/{id}:cancel",
		"/a/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f:undelete": "/a/{id}:undelete",

		"/":                                      "/",
		"/orders":                                "/orders",
		"/orders/":                               "/orders",
		"/orders/7/":                             "/orders/{id}",
		"/%6Frders/%31":                          "/orders/{id}",
		"/deadbeef/facade":                       "/deadbeef/facade",
		"/Orders":                                "/Orders",
		"/v1/soc2/s3":                            "/v1/soc2/s3",
		"/a/projects:list":                       "/a/projects:list",
		"/a/logs.all":                            "/a/logs.all",
		"/1.1/statuses":                          "/1.1/statuses",
		"/oauth2/callback":                       "/oauth2/callback",
		"/2fa/base64url":                         "/2fa/base64url",
		"/x/PROJ-12":                             "/x/PROJ-12",
		"/a/ab12":                                "/a/ab12",
		"/.well-known/x.json":                    "/.well-known/x.json",
		"/api/getAllProjectsForOrganization":     "/api/getAllProjectsForOrganization",
		"/a/standard-security-questionnaire-two": "/a/standard-security-questionnaire-two",
	} {
		if got := RouteOf(path); got != want {
			t.Errorf("RouteOf(%q) = %q, want %q", path, got, want)
		}
	}
}

// hostilePaths are of every form that a route must not follow.
var hostilePaths = []string{
	"", "*", "orders", "//", "///", "/a//b", "/./a", "/a/..", "/a/%2e%2E", "/a/..%2Fb", "/a/x%5C..", `/a/..\b`,
	"/" + strings.Repeat("a", 1<<20), strings.Repeat("/a", 1<<19), strings.Repeat("/", 1<<20), strings.Repeat("%", 1<<20),
	"/" + strings.Repeat("%2F", 1<<18), strings.Repeat("\x00", 1<<20), strings.Repeat("/a", maxTemplateSegments+1),
}

func TestRouteOfGivesNoRouteRatherThanAWrongOne(t *testing.T) {
	for _, path := range hostilePaths {
		if got := RouteOf(path); got != "" {
			t.Errorf("RouteOf(%.40q) = %.40q", path, got)
		}
		for _, p := range []*Platform{Generic(), Supabase()} {
			if route, target := p.Guess(path); route != "" || target != nil {
				t.Errorf("%s guesses %.40q and %+v of %.40q", p.Name, route, target, path)
			}
		}
	}
}

// A real API's words and ids, which the rules were not made from.
func TestRouteOfReadsTheRoutesOfARealAPI(t *testing.T) {
	for _, op := range Supabase().Catalog.operations {
		var path, want strings.Builder
		for segment := range strings.SplitSeq(op.Template[1:], "/") {
			name, isParam := paramName(segment)
			if !isParam {
				path.WriteString("/" + segment)
				want.WriteString("/" + segment)
				continue
			}
			want.WriteString("/{id}")
			switch name {
			case "ref", "slug":
				path.WriteString("/abcdefghijklmnopqrst")
			case "version":
				path.WriteString("/20260131120000")
			default:
				path.WriteString("/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f")
			}
		}
		if got := RouteOf(path.String()); got != want.String() {
			t.Errorf("RouteOf(%q) = %q, want %q", path.String(), got, want.String())
		}
	}
}

// checkRoute is what holds for the route of any path.
func checkRoute(t *testing.T, path string) string {
	t.Helper()
	route := RouteOf(path)
	switch {
	case route == "":
		return ""
	case route[0] != '/' || len(route) > maxLong || !utf8.ValidString(route) || strings.ContainsFunc(route, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		t.Fatalf("RouteOf(%.100q) = %.100q", path, route)
	case looksSecret(route):
		t.Fatalf("RouteOf(%.100q) = %.100q, which may hold a credential", path, route)
	}
	if again := RouteOf(route); again != route {
		t.Fatalf("the route of %q, %q, has the route %q", path, route, again)
	}
	return route
}

// credentials makes one of each kind, all random.
func credentials(random *rand.Rand) []string {
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.UintN(256))
		}
		return b
	}
	of := func(alphabet string, n int) string {
		b := bytes(n)
		for i := range b {
			b[i] = alphabet[int(b[i])%len(alphabet)]
		}
		return string(b)
	}
	const lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
	upper := strings.ToUpper(lower)
	return []string{
		"sbp_" + hex.EncodeToString(bytes(20)),
		"sbp_oauth_" + hex.EncodeToString(bytes(20)),
		"sbp_" + of(lower, 40),
		"sbp%5f" + of(lower, 40),
		"sb_secret_" + of(lower, 30),
		jwtOf(`{"alg":"HS256"}`, `{"sub":"`+of(lower, 10)+`"}`),
		"eyJ" + of(lower, 17) + ":" + of(lower, 5),
		"sk_live_" + of(lower+upper+digits, 24),
		"ghp_" + of(lower+upper+digits, 36),
		"AKIA" + of(upper+digits, 16),
		base64.RawURLEncoding.EncodeToString(bytes(32)),
		hex.EncodeToString(bytes(16)),
		of(upper+"234567", 32),
		of(lower, 64),
	}
}

func TestRouteOfHoldsNoCredential(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		for _, secret := range credentials(random) {
			for _, path := range []string{"/" + secret, "/reset/" + secret + "/", "/a/x%2F" + secret, "/a/" + secret + ".json", "/a/" + secret + ":verify", "/a/9:" + secret} {
				route := checkRoute(t, path)
				if !strings.Contains(route, "{id}") || strings.Contains(route, secret[len(secret)-12:]) {
					t.Fatalf("RouteOf(%q) = %q", path, route)
				}
			}
			if _, target := Generic().Guess("/reset/" + secret); target == nil || looksSecret(target.ID) {
				t.Fatalf("the target of %s is %+v", secret, target)
			}
		}
	}
}

func TestRouteOfIsBounded(t *testing.T) {
	longest := ""
	for range maxTemplateSegments {
		longest += "/" + strings.Repeat("word-", maxPlainSegment)[:maxPlainSegment-1]
	}
	if got := checkRoute(t, longest); got != longest {
		t.Errorf("the longest route is %q", got)
	}
	if got := RouteOf("/" + strings.Repeat("a", maxGuessedPath-1)); got != "/{id}" {
		t.Errorf("the longest segment gives %q", got)
	}
}

func TestGenericGuessesTheTargetThatThePathNames(t *testing.T) {
	for path, want := range map[string]*Target{
		"/orders":             nil,
		"/orders/123":         {"orders", "123", ""},
		"/orders/123/cancel":  {"orders", "123", ""},
		"/orders/123/items":   {"orders", "123", ""},
		"/orders/123/items/9": {"items", "9", "123"},
		"/a/1/b/2/c/3":        {"c", "3", "2"},
		"/a/1/2":              {"a", "2", "1"},
		"/a/9:cancel":         {"a", "9", ""},
		"/a/my%20file":        {"a", "my file", ""},
		"/7":                  nil,
		"/7/orders/8":         {"orders", "8", ""},
		"/v1/8":               nil,
		"/":                   nil,
		"/a/sbp_0123456789abcdef0123456789abcdef01234567":     {"a", "", ""},
		"/a/sbp_0123456789abcdef0123456789abcdef01234567/b/5": {"b", "5", ""},
	} {
		route, got := Generic().Guess(path)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("target of %s (-want +got):\n%s", path, diff)
		}
		if route != RouteOf(path) {
			t.Errorf("route of %s is %s", path, route)
		}
	}
}

func TestSupabaseGuessesARouteWithoutTheCredentialsThatItKnows(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/projects/abcdefghijklmnopqrst/no/such/route":                  "/v1/projects/{id}/no/such/route",
		"/v1/organizations/acme/project-claim/hunter2/x":                   "/v1/organizations/acme/project-claim/{id}",
		"/platform/organizations/acme/members/invitations/hunter2/accept":  "/platform/organizations/acme/members/invitations/{id}",
		"/platform/organizations/acme/Members/Invitations/hunter2":         "/platform/organizations/acme/Members/Invitations/{id}",
		"/platform/organizations/acme/members%2Finvitations%2Fhunter2/all": "/platform/organizations/acme/{id}",
	} {
		var m Match
		if Supabase().Catalog.Match("POST", path, &m) {
			t.Errorf("%s matches %s", path, m.Operation.Template)
		}
		route, target := Supabase().Guess(path)
		if route != want || target != nil || strings.Contains(route, "hunter2") {
			t.Errorf("%s guesses %s and %+v, want %s", path, route, target, want)
		}
	}
}

func TestGenericKnowsNoCatalogAndNoTokenOfItsOwn(t *testing.T) {
	p := Generic()
	if p.Name != "generic" || p.Catalog != nil || p.Tokens != nil || p != Generic() {
		t.Errorf("Generic() = %+v", p)
	}
}

func FuzzRouteOf(f *testing.F) {
	for _, path := range hostilePaths[:12] {
		f.Add(path)
	}
	for _, secret := range credentials(rand.New(rand.NewPCG(5, 6))) {
		f.Add("/a/" + secret)
	}
	for _, path := range []string{
		"/", "/orders/123/items/9", "/a/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f:cancel", "/a/jane%40example.com/", "/a/%00\xff",
		"/%73bp_abcdefghijklmnopqrstuvwxyz", "/a/%7Bid%7D.x", "/a/9:eyJ:x", "/a/..%252F", "/a/b%5C%2e%5C", "/[redacted]",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		checkRoute(t, path)
		for _, p := range []*Platform{Generic(), Supabase()} {
			route, target := p.Guess(path)
			if looksSecret(route) || target != nil && (target.Type == "" || looksSecret(target.Type+"/"+target.ID+"/"+target.Parent)) {
				t.Fatalf("%s guesses %q and %+v of %q", p.Name, route, target, path)
			}
		}
	})
}

var guessedPaths = []struct{ name, path string }{
	{"plain", "/api/v2/orders/search"},
	{"ids", "/api/v2/orders/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f/items/9"},
	{"escaped", "/api/v2/users/jane%40example.com/avatar"},
	{"longest", strings.Repeat("/abcd-efgh", maxTemplateSegments)},
}

func TestRouteOfAllocatesAtMostTheRoute(t *testing.T) {
	for _, c := range guessedPaths {
		want := 0.0
		switch c.name {
		case "ids":
			want = 1
		case "escaped":
			want = 2 // and the unescaped segment
		}
		if n := testing.AllocsPerRun(100, func() { RouteOf(c.path) }); n > want {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, want)
		}
	}
}

func BenchmarkRouteOf(b *testing.B) {
	for _, c := range guessedPaths {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				RouteOf(c.path)
			}
		})
	}
}

func BenchmarkGuess(b *testing.B) {
	for _, p := range []*Platform{Generic(), Supabase()} {
		b.Run(p.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Guess(guessedPaths[1].path)
			}
		})
	}
}
