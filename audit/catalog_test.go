package audit

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testCatalog makes a catalog of lines like "GET /a/{b}", by the zero rules.
// An operation's code is its line.
func testCatalog(t testing.TB, lines ...string) *Catalog {
	t.Helper()
	var routes []Route
	for _, line := range lines {
		method, template, _ := strings.Cut(line, " ")
		routes = append(routes, Route{Method: method, Template: template, Code: line})
	}
	operations, err := Rules{}.Operations(routes)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCatalog(operations)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMatchChoosesTheRouteThatTheAPIWould(t *testing.T) {
	c := testCatalog(t,
		"GET /",
		"GET /v1/projects",
		"GET /v1/projects/{ref}",
		"GET /v1/projects/available-regions",
		"GET /v1/projects/{ref}/keys/legacy",
		"GET /v1/projects/{ref}/keys/{id}",
		"DELETE /v1/projects/{ref}/keys/{id}",
		"GET /v1/projects/{ref}/runs",
		"HEAD /v1/projects/{ref}/runs",
		"GET /v1/a/b/c",
		"GET /v1/{x}/b/d",
		"GET /v1/{x}/{y}/e",
		"POST /v1/invitations/{token}",
		"DELETE /v1/invitations/{id}",
	)
	for _, test := range []struct {
		name, method, path, code string
		params                   map[string]string
	}{
		{"plain text beats a parameter", "GET", "/v1/projects/available-regions", "GET /v1/projects/available-regions", nil},
		{"a parameter takes anything else", "GET", "/v1/projects/abc", "GET /v1/projects/{ref}", map[string]string{"ref": "abc"}},
		{"a route that has the method beats plain text", "DELETE", "/v1/projects/abc/keys/legacy", "DELETE /v1/projects/{ref}/keys/{id}", map[string]string{"ref": "abc", "id": "legacy"}},
		{"it goes back once", "GET", "/v1/a/b/d", "GET /v1/{x}/b/d", map[string]string{"x": "a"}},
		{"it goes back twice", "GET", "/v1/a/b/e", "GET /v1/{x}/{y}/e", map[string]string{"x": "a", "y": "b"}},
		{"HEAD is GET", "HEAD", "/v1/projects/abc", "GET /v1/projects/{ref}", map[string]string{"ref": "abc"}},
		{"HEAD may be its own", "HEAD", "/v1/projects/abc/runs", "HEAD /v1/projects/{ref}/runs", map[string]string{"ref": "abc"}},
		{"the longest that fits is the only one", "GET", "/v1/projects/abc/keys/7", "GET /v1/projects/{ref}/keys/{id}", map[string]string{"ref": "abc", "id": "7"}},
		{"HEAD and a slash at the end", "HEAD", "/v1/projects/", "GET /v1/projects", nil},
		{"the root", "GET", "/", "GET /", nil},
		{"a slash at the end", "GET", "/v1/projects/abc/", "GET /v1/projects/{ref}", map[string]string{"ref": "abc"}},
		{"escaped plain text", "GET", "/v1/%70rojects", "GET /v1/projects", nil},
		{"an escaped value", "GET", "/v1/projects/a%20b%C3%A9", "GET /v1/projects/{ref}", map[string]string{"ref": "a bé"}},
		{"an escaped slash", "GET", "/v1/projects/a%2Fb", "GET /v1/projects/{ref}", map[string]string{"ref": "a/b"}},
		{"an escaped slash alone", "GET", "/v1/projects/%2f", "GET /v1/projects/{ref}", map[string]string{"ref": "/"}},
		{"an escaped NUL", "GET", "/v1/projects/%00", "GET /v1/projects/{ref}", map[string]string{"ref": "\x00"}},
		{"an invalid escape", "GET", "/v1/projects/%zz%", "GET /v1/projects/{ref}", map[string]string{"ref": "%zz%"}},
		{"invalid UTF-8", "GET", "/v1/projects/\xff", "GET /v1/projects/{ref}", map[string]string{"ref": "\xff"}},
		{"dots that are no dot segment", "GET", "/v1/projects/..a%2Fb...", "GET /v1/projects/{ref}", map[string]string{"ref": "..a/b..."}},
		{"one shape, two names", "DELETE", "/v1/invitations/7", "DELETE /v1/invitations/{id}", map[string]string{"id": "7"}},
		{"a credential", "POST", "/v1/invitations/hunter2", "POST /v1/invitations/{token}", map[string]string{"token": "[redacted]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var m Match
			if !c.Match(test.method, test.path, &m) || m.MethodMiss {
				t.Fatalf("%s %s does not match", test.method, test.path)
			}
			if m.Operation.Code != test.code {
				t.Errorf("operation is %s, want %s", m.Operation.Code, test.code)
			}
			if diff := cmp.Diff(test.params, m.Params()); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMatchGivesNoRouteRatherThanAWrongOne(t *testing.T) {
	c := testCatalog(t, "GET /v1/projects", "GET /v1/projects/{ref}", "POST /v1/projects/{ref}/pause", "GET /")
	deep := strings.Repeat("/x", 100_000)
	for _, path := range []string{
		"", "*", "v1/projects", "//", "//v1/projects", "/v1//projects", "/v1/projects//", "///",
		"/v1/./projects", "/v1/../v1/projects", "/v1/projects/.", "/v1/projects/..", "/v1/projects/../pause",
		"/v1/projects/%2e%2E", "/v1/projects/%2E", "/v1/projects/..%2Fx", "/v1/projects/x%2F..%2Fy", "/v1/projects/x%5C..",
		`/v1/projects/..\x`, "/v1/projects/..%2F%zz", "/v1/projects/..%252Fx",
		"/v1/projects%2Fabc", "/V1/projects", "/v1/Projects", "/v1/projects/abc/pause/now", "/v1", "/v2/projects",
		deep, deep + "/", strings.Repeat("/", 1<<20), "/" + strings.Repeat("%2F", 1<<18),
	} {
		m := Match{Operation: new(Operation), MethodMiss: true}
		if c.Match("POST", path, &m) {
			t.Errorf("%.40q matches %s", path, m.Operation.Template)
		}
		if m.Operation != nil || m.MethodMiss || m.Params() != nil || m.Target() != nil || m.Project() != "" || m.Organization() != "" {
			t.Errorf("%.40q leaves %+v", path, m)
		}
	}
}

func TestMatchKnowsTheRouteOfAnUnknownMethod(t *testing.T) {
	c := Supabase().Catalog
	for _, method := range []string{"POST", "OPTIONS", "BREW", "", "get"} {
		var m Match
		if !c.Match(method, "/v1/projects/abc/functions/hello", &m) || !m.MethodMiss {
			t.Fatalf("%s matches %+v", method, m.Operation)
		}
		if m.Operation.Code != "" || m.Operation.Name != "" || m.Operation.Method != "" || m.Operation.Secured || m.Operation.Template != "/v1/projects/{ref}/functions/{function_slug}" {
			t.Errorf("%s has the operation %+v", method, m.Operation)
		}
		if diff := cmp.Diff(&Target{"edge_function", "hello", "abc"}, m.Target()); diff != "" {
			t.Errorf("target (-want +got):\n%s", diff)
		}
	}
}

func TestAnUnknownMethodIsReadForTheCredentialThatItMayCarry(t *testing.T) {
	for _, lines := range [][]string{
		{"DELETE /invitations/{id}", "POST /invitations/{token}"},
		{"POST /invitations/{token}", "DELETE /invitations/{id}"},
	} {
		c := testCatalog(t, lines...)
		var m Match
		if !c.Match("PUT", "/invitations/hunter2", &m) || !m.MethodMiss {
			t.Fatal("the route is not known")
		}
		if diff := cmp.Diff(map[string]string{"token": "[redacted]"}, m.Params()); diff != "" {
			t.Errorf("parameters (-want +got):\n%s", diff)
		}
		if got, want := c.RedactPath("/invitations/hunter2", &m), "/invitations/[redacted]"; got != want {
			t.Errorf("path is %s, want %s", got, want)
		}
	}
}

func TestRedactPathLeavesNoCredential(t *testing.T) {
	c := Supabase().Catalog
	for path, want := range map[string]string{
		"/v1/projects/abc":                                       "/v1/projects/abc",
		"/v1/projects/a%20b":                                     "/v1/projects/a%20b",
		"/v1/organizations/acme/project-claim/hunter2":           "/v1/organizations/acme/project-claim/[redacted]",
		"/v1/organizations/acme/project-claim/hunter2/":          "/v1/organizations/acme/project-claim/[redacted]/",
		"/v1/organizations/a%20b/%70roject-claim/hunt%65r2":      "/v1/organizations/a%20b/%70roject-claim/[redacted]",
		"/v1/organizations/acme%2Fproject-claim%2Fhunter2":       "/v1/organizations/acme%2Fproject-claim%2F[redacted]",
		"/v1/organizations/acme%5cproject-claim%5chunter2/":      "/v1/organizations/acme%5cproject-claim%5c[redacted]/",
		"/v1/organizations/acme/project-claim/hunter2/x":         "/v1/organizations/acme/project-claim/[redacted]",
		"/v1/organizations/acme//project-claim//hunter2":         "/v1/organizations/acme//project-claim/[redacted]",
		"/v1/./organizations/acme/project-claim/hunter2":         "/v1/./organizations/acme/project-claim/[redacted]",
		"/V1/Organizations/acme/Project-Claim/hunter2":           "/V1/Organizations/acme/Project-Claim/[redacted]",
		"/v1/organizations/acme/project-claim%2Fhunter2":         "/v1/organizations/acme/project-claim%2F[redacted]",
		"/v1/organizations/acme/project-claim/hunter2%2F..%2F..": "/v1/organizations/acme/project-claim/[redacted]",
		`/v1/organizations/acme\project-claim\hunter2`:           `/v1/organizations/acme\project-claim\[redacted]`,
		"/v1/organizations/%zz%2Fproject-claim%2Fhunter2":        "/v1/organizations/%zz%2Fproject-claim%2F[redacted]",
		"/v1/organizations/acme/project-claim":                   "/v1/organizations/acme/project-claim",
		"/v1/organizations/acme/project-claim//":                 "/v1/organizations/acme/project-claim//",
		"/elsewhere/project-claims/7":                            "/elsewhere/project-claims/7",
		"/%zz/%":                                                 "/%zz/%",
		"":                                                       "",
	} {
		for _, method := range []string{"POST", "BREW"} {
			var m Match
			c.Match(method, path, &m)
			if got := c.RedactPath(path, &m); got != want {
				t.Errorf("%s %s becomes %s, want %s", method, path, got, want)
			}
			if params := fmt.Sprint(m.Params(), m.Target()); strings.Contains(params, "hunt") {
				t.Errorf("%s %s leaves its credential in %s", method, path, params)
			}
		}
	}
}

func TestNilCatalogKnowsNoRoute(t *testing.T) {
	var c *Catalog
	var m Match
	if c.Match("GET", "/v1/projects", &m) {
		t.Error("it matches")
	}
	if got := c.RedactPath("/a", &m); got != "/a" {
		t.Errorf("path becomes %s", got)
	}
}

func TestNewCatalogNamesTheOperationAtFault(t *testing.T) {
	const good = "/v1/things/{id}"
	for _, test := range []struct {
		name string
		ops  []Operation
		part string // of the error
	}{
		{"no slash", []Operation{{Method: "GET", Template: "v1"}}, "GET v1"},
		{"no template", []Operation{{Method: "GET"}}, "begins with a slash"},
		{"slash at the end", []Operation{{Method: "GET", Template: "/v1/"}}, "/v1/"},
		{"doubled slash", []Operation{{Method: "GET", Template: "/v1//a"}}, "/v1//a"},
		{"half a parameter", []Operation{{Method: "GET", Template: "/{id}.json"}}, "{id}.json"},
		{"open parameter", []Operation{{Method: "GET", Template: "/{id"}}, "{id"},
		{"parameter inside", []Operation{{Method: "GET", Template: "/a{id}"}}, "a{id}"},
		{"no name", []Operation{{Method: "GET", Template: "/{}"}}, "{}"},
		{"query", []Operation{{Method: "GET", Template: "/a?b"}}, "a?b"},
		{"dots", []Operation{{Method: "GET", Template: "/a/.."}}, ".."},
		{"parameter twice", []Operation{{Method: "GET", Template: "/{id}/{id}"}}, "twice"},
		{"no method", []Operation{{Template: good}}, good},
		{"lower case method", []Operation{{Method: "get", Template: good}}, "upper case"},
		{"duplicate", []Operation{{Method: "GET", Template: good}, {Method: "GET", Template: "/v1/things/{other}"}}, "/v1/things/{other}"},
		{"target", []Operation{{Method: "GET", Template: good, Target: TargetRule{ID: "ref"}}}, "{ref}"},
		{"project", []Operation{{Method: "GET", Template: good, Project: "ref"}}, "{ref}"},
		{"secret", []Operation{{Method: "GET", Template: good, Secrets: []string{"token"}}}, "{token}"},
		{"credential as target", []Operation{{Method: "GET", Template: good, Secrets: []string{"id"}, Target: TargetRule{ID: "id"}}}, "credential"},
		{"too deep", []Operation{{Method: "GET", Template: strings.Repeat("/a", maxTemplateSegments+1)}}, "at most"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewCatalog(test.ops)
			if err == nil || !strings.Contains(err.Error(), test.part) {
				t.Fatalf("error is %v, want it to mention %s", err, test.part)
			}
			if last := test.ops[len(test.ops)-1]; !strings.Contains(err.Error(), last.Method+" "+last.Template) {
				t.Errorf("error %v does not name %s", err, last.Template)
			}
		})
	}
}

func TestNewCatalogKeepsNothingOfItsArgument(t *testing.T) {
	ops := []Operation{{Method: "GET", Template: "/a/{token}", Code: "a", Secrets: []string{"token"}}}
	c, err := NewCatalog(ops)
	if err != nil {
		t.Fatal(err)
	}
	ops[0].Code, ops[0].Secrets[0] = "b", "c"
	var m Match
	if !c.Match("GET", "/a/x", &m) || m.Operation.Code != "a" || m.Operation.Secrets[0] != "token" {
		t.Errorf("operation is %+v", m.Operation)
	}
}

// oracle is Match without the tree: of all templates that fit, the one that
// has the method, and then the one whose first difference is plain text.
func oracle(ops []Operation, method, path string) (template string, miss, ok bool) {
	rest, slash := strings.CutPrefix(path, "/")
	if !slash || rest == "/" {
		return "", false, false
	}
	var parts []string
	if rest = strings.TrimSuffix(rest, "/"); rest != "" {
		parts = strings.Split(rest, "/")
	}
	anySlash := strings.NewReplacer(`\`, "/", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/")
	for i, part := range parts {
		if plain, err := url.PathUnescape(part); err == nil {
			parts[i] = plain
		}
		if parts[i] == "" {
			return "", false, false
		}
		for piece := range strings.SplitSeq(anySlash.Replace(parts[i]), "/") {
			if piece == "." || piece == ".." {
				return "", false, false
			}
		}
	}
	kind := func(template string) (string, bool) {
		var segments []string
		if template != "/" {
			segments = strings.Split(template[1:], "/")
		}
		if len(segments) != len(parts) {
			return "", false
		}
		var order strings.Builder
		for i, s := range segments {
			switch {
			case s[0] == '{':
				order.WriteByte('1')
			case s == parts[i]:
				order.WriteByte('0')
			default:
				return "", false
			}
		}
		return order.String(), true
	}
	methods := make(map[string]map[string]bool) // order → methods
	templates := make(map[string]string)
	for _, op := range ops {
		if order, fits := kind(op.Template); fits {
			if methods[order] == nil {
				methods[order] = make(map[string]bool)
			}
			methods[order][op.Method] = true
			templates[order] = op.Template
		}
	}
	best := ""
	for order, has := range methods {
		if has[method] || method == "HEAD" && has["GET"] {
			if best == "" && !ok || order < best {
				best, ok = order, true
			}
		}
	}
	if ok {
		return templates[best], false, true
	}
	for order := range methods {
		if !ok || order < best {
			best, ok = order, true
		}
	}
	return templates[best], ok, ok
}

func checkAgainstOracle(t *testing.T, c *Catalog, method, path string) {
	t.Helper()
	var m Match
	ok := c.Match(method, path, &m)
	template, miss, want := oracle(c.operations, method, path)
	if ok != want || m.MethodMiss != miss || ok && m.Operation.Template != template {
		t.Fatalf("%s %q: matches %v %+v (miss %v), the oracle says %v %s (miss %v)",
			method, path, ok, m.Operation, m.MethodMiss, want, template, miss)
	}
}

func TestMatchAgreesWithANaiveMatcher(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "c"}
	methods := []string{"GET", "HEAD", "POST"}
	pathWords := append(words, "d", "", ".", "..", "%61", "%2F", "a%2Fb", "%2e", "%zz", "x%5c..")
	for range 300 {
		var ops []Operation
		seen := make(map[string]bool)
		for range random.IntN(40) {
			var template strings.Builder
			for i := range random.IntN(6) {
				if random.IntN(2) == 0 {
					fmt.Fprintf(&template, "/{p%d}", i)
				} else {
					template.WriteString("/" + words[random.IntN(len(words))])
				}
			}
			op := Operation{Method: methods[random.IntN(len(methods))], Template: template.String()}
			if op.Template == "" {
				op.Template = "/"
			}
			if key := op.Method + op.Template; !seen[key] {
				seen[key] = true
				ops = append(ops, op)
			}
		}
		c, err := NewCatalog(ops)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			var path strings.Builder
			for range random.IntN(7) {
				odd := random.IntN(8) == 0
				if odd {
					path.WriteString("/" + pathWords[random.IntN(len(pathWords))])
				} else {
					path.WriteString("/" + words[random.IntN(len(words))])
				}
			}
			if random.IntN(10) == 0 {
				path.WriteByte('/')
			}
			checkAgainstOracle(t, c, methods[random.IntN(len(methods))], path.String())
		}
	}
}

// Two templates for each position is the worst that a catalog can ask of the
// search; it still visits each node of the catalog at most once.
func TestMatchIsBoundedByTheCatalogWhateverThePath(t *testing.T) {
	var lines []string
	for shape := range 1 << 10 {
		var template strings.Builder
		for i := range 10 {
			if shape>>i&1 == 0 {
				template.WriteString("/a")
			} else {
				fmt.Fprintf(&template, "/{p%d}", i)
			}
		}
		lines = append(lines, "GET "+template.String()+"/end")
	}
	c := testCatalog(t, lines...)
	for _, path := range []string{
		strings.Repeat("/a", 10) + "/no",
		strings.Repeat("/a", 11) + "/end",
		"/" + strings.Repeat("a", 1<<20),
		"/" + strings.Repeat("%41", 1<<18),
		strings.Repeat("/a", 1<<19),
	} {
		var m Match
		if c.Match("GET", path, &m) {
			t.Errorf("%.40q matches %s", path, m.Operation.Template)
		}
		c.RedactPath(path, &m)
	}
}

func TestCatalogIsSafeForConcurrentUse(t *testing.T) {
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			var m Match
			for range 1000 {
				if !Supabase().Catalog.Match("GET", "/v1/projects/abc/functions/f", &m) || m.Project() != "abc" {
					t.Error("no match")
				}
			}
		})
	}
	group.Wait()
}

// largeCatalog has the shape of a real API, four times over.
func largeCatalog(tb testing.TB) *Catalog {
	tb.Helper()
	var ops []Operation
	for _, prefix := range []string{"", "/b", "/c", "/d"} {
		for _, op := range Supabase().Catalog.operations {
			op.Template = prefix + op.Template
			ops = append(ops, op)
		}
	}
	c, err := NewCatalog(ops)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

var plainCalls = []struct{ name, method, path string }{
	{"short", "GET", "/v1/projects"},
	{"usual", "PATCH", "/v1/projects/abcdefghijklmnopqrst/functions/hello-world"},
	{"longest", "DELETE", "/d/v1/projects/abcdefghijklmnopqrst/config/auth/sso/providers/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f"},
	{"goes_back", "DELETE", "/v1/projects/abcdefghijklmnopqrst/api-keys/legacy"},
	{"unknown_method", "BREW", "/v1/projects/abcdefghijklmnopqrst/api-keys/legacy"},
	{"dashboard", "PUT", "/platform/organizations/acme/members/0b7f5c9e-6a57-4d0f-9f0e-3b8a4c1d2e3f/roles/4"},
	{"credential", "POST", "/v1/organizations/acme/project-claim/hunter2"},
	{"no_route", "GET", "/v1/projects/abcdefghijklmnopqrst/no/such/route"},
}

func TestMatchAllocatesNothing(t *testing.T) {
	c := largeCatalog(t)
	for _, call := range plainCalls {
		var m Match
		if n := testing.AllocsPerRun(100, func() { c.Match(call.method, call.path, &m) }); n != 0 {
			t.Errorf("%s: %v allocations", call.name, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	c := largeCatalog(b)
	for _, call := range plainCalls {
		b.Run(call.name, func(b *testing.B) {
			b.ReportAllocs()
			var m Match
			for b.Loop() {
				c.Match(call.method, call.path, &m)
			}
		})
	}
}

func FuzzMatch(f *testing.F) {
	for _, call := range plainCalls {
		f.Add(call.method, call.path)
	}
	f.Add("GET", "/v1/projects/%2e%2e/functions//")
	f.Add("HEAD", "/v1/projects/a%2Fb%00\xff/actions/")
	c := Supabase().Catalog
	f.Fuzz(func(t *testing.T, method, path string) {
		checkAgainstOracle(t, c, method, path)
	})
}

// Whatever follows project-claim must not come out anywhere.
func FuzzRedactPath(f *testing.F) {
	const secret = "hunter2"
	f.Add("GET", "/v1/organizations/acme", "/", "")
	f.Add("PUT", "/v1/organizations/acme", "//", "/x")
	f.Add("POST", "/v1/organizations/%2e", "%2F", "%2F..")
	f.Add("", "", "", "")
	c := Supabase().Catalog
	f.Fuzz(func(t *testing.T, method, before, separators, after string) {
		if separators == "" || !onlySeparators(separators) {
			separators = "/"
		}
		if strings.Contains(before+after, secret) {
			return
		}
		path := before + "/project-claim" + separators + secret + after
		var m Match
		c.Match(method, path, &m)
		for _, got := range []string{c.RedactPath(path, &m), fmt.Sprint(m.Params(), m.Target(), m.Project(), m.Organization())} {
			if strings.Contains(got, secret) {
				t.Fatalf("%s %q leaves its credential in %q", method, path, got)
			}
		}
	})
}
