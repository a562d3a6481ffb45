package description

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func read(t *testing.T, text string) ([]audit.Route, string) {
	t.Helper()
	routes, warnings, err := OpenAPI([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return routes, strings.Join(warnings, "\n")
}

// The same API in each form.
var sameAPI = map[string]string{
	"OpenAPI 3.0 in YAML": `
openapi: 3.0.3
info: {title: Orders, version: "1"}
servers: [{url: "https://{region}.example.com/{v}", variables: {region: {default: eu}, v: {default: v1}}}]
security: [{bearer: []}]
components:
  parameters:
    order: {name: order_id, in: path, required: true, schema: {type: string}}
paths:
  /orders:
    get: {operationId: listOrders, summary: "List\n  orders", security: []}
    post:
      operationId: createOrder
      requestBody: {$ref: "./bodies.yaml#/order"}
      responses: {201: {description: ok}}
  /orders/{order_id}:
    parameters: [{$ref: "#/components/parameters/order"}]
    delete: {operationId: deleteOrder, responses: {}}
`,
	"OpenAPI 3.1 in JSON": `{
  "openapi": "3.1.0", "servers": [{"url": "/v1/"}], "security": [{"bearer": []}],
  "paths": {
    "/orders": {
      "get": {"operationId": "listOrders", "summary": "List orders", "security": [{}, {"bearer": []}]},
      "post": {"operationId": "createOrder", "responses": {"201": {"content": {"a/b": {"schema": {"type": ["object", "null"], "exclusiveMinimum": 3}}}}}}
    },
    "/orders/{order_id}": {"$ref": "#/components/pathItems/order"}
  },
  "webhooks": {"paid": {"post": {"operationId": "paid"}}},
  "components": {"pathItems": {"order": {"delete": {"operationId": "deleteOrder"}}}, "schemas": {"odd": {"maximum": "five"}}}
}`,
	"Swagger 2.0 in YAML": `
swagger: "2.0"
host: api.example.com
basePath: /v1
security: [{bearer: []}]
parameters: {order: {name: order_id, in: path, type: string}}
paths:
  /orders:
    get: {operationId: listOrders, summary: List orders, security: []}
    post: {operationId: createOrder, parameters: [{name: order, in: body, schema: {$ref: "#/definitions/order"}}]}
  /orders/{order_id}:
    delete: {operationId: deleteOrder, parameters: [{$ref: "#/parameters/order"}]}
`,
}

func TestEachFormOfADescriptionGivesTheSameRoutes(t *testing.T) {
	want := []audit.Route{
		{Method: "GET", Template: "/v1/orders", Code: "listOrders", Name: "List orders"},
		{Method: "POST", Template: "/v1/orders", Code: "createOrder", Secured: true},
		{Method: "DELETE", Template: "/v1/orders/{order_id}", Code: "deleteOrder", Secured: true},
	}
	for form, text := range sameAPI {
		t.Run(form, func(t *testing.T) {
			for name, text := range map[string]string{"": text, "with a byte order mark": "\xef\xbb\xbf" + text, "with CRLF": strings.ReplaceAll(text, "\n", "\r\n")} {
				routes, warnings := read(t, text)
				if diff := cmp.Diff(want, routes); diff != "" || warnings != "" {
					t.Errorf("%s: %s\nwarnings: %s", name, diff, warnings)
				}
			}
		})
	}
}

func TestADescriptionsFaultsAreWarningsAndTheRestIsRead(t *testing.T) {
	routes, warnings := read(t, `{
		"openapi": "3.0.0",
		"paths": {
			"/a/{x}": {"get": {"operationId": "one", "security": [{"k": []}]}, "head": {}, "options": {}},
			"/a/{y}": {"get": {"operationId": "two"}, "put": {"operationId": "one"}},
			"/b?kind=1": {"get": {}}, "/b?kind=2": {"get": {}},
			"/c/{id}": {"get": {"parameters": [{"name": "ident", "in": "path"}, 7, {"$ref": "#/components/parameters/none"}]}},
			"/d/{id}.json": {"get": {}},
			"/e/": {"get": {"summary": 7}},
			"/f": {"get": []},
			"/g": {"$ref": "./g.yaml"}, "/h": {"$ref": "https://example.com/h.yaml#/h"},
			"/i": {"$ref": "#/paths/~1j"}, "/j": {"$ref": "#/paths/~1i"},
			"/k": {"$ref": "#/components/parameters/p"},
			"/l": {"$ref": "#/paths/~1a~1%7Bx%7D"},
			"/m": {"get": {"parameters": [{"$ref": "#/components/parameters/p"}]}}
		},
		"components": {"parameters": {"p": {"$ref": "#/components/parameters/q"}, "q": {"$ref": "#/components/parameters/p"}}}
	}`)
	want := []string{
		"GET /a/{x} one", "OPTIONS /a/{x} ", "HEAD /a/{x} ", "PUT /a/{y} ", "GET /b ", "GET /c/{id} ", "GET /e ",
		"GET /l ", "OPTIONS /l ", "HEAD /l ", "GET /m ",
	}
	var got []string
	for _, r := range routes {
		got = append(got, r.Method+" "+r.Template+" "+r.Code)
		if r.Secured != (r.Template == "/l" && r.Method == "GET") {
			t.Errorf("%s %s: secured is %v", r.Method, r.Template, r.Secured)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	for _, part := range []string{
		`skipping GET /a/{y}: no path could tell it from /a/{x}`,
		`dropping the operationId "one" of PUT /a/{y}: GET /a/{x} has it already`,
		`skipping the second GET /b`, "dropping the query of /b?kind=1",
		`GET /c/{id}: the parameter "ident" is said to be in the path and is not there`,
		"skipping GET /d/{id}.json", "make the parameter the whole segment",
		"skipping GET /f: it is no operation",
		`skipping what "/g" refers to, "./g.yaml"`, `skipping what "/h" refers to`, "bundle",
		`skipping "/i"`, `skipping "/j"`, `skipping what "/k" refers to`,
	} {
		if !strings.Contains(warnings, part) {
			t.Errorf("no warning has %q", part)
		}
	}
	if t.Failed() {
		t.Log(warnings)
	}
}

func TestWhatIsNoDescriptionIsRefusedWithTheCure(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"nothing":             {" \n", "it is empty"},
		"HTML":                {"<!doctype html><title>API</title>", "HTML"},
		"a PDF":               {"%PDF-1.7\n…", "no text"},
		"a picture":           {"\x89PNG\r\n\x1a\n\x00\x00\x00", "no text"},
		"other JSON":          {`{"name": "x", "paths": {}}`, "neither openapi nor swagger"},
		"a list":              {"[1, 2]", "neither openapi nor swagger"},
		"prose":               {"Dear reader,\nthis is no description.", "neither openapi nor swagger"},
		"broken JSON":         {"{\n\"openapi\": \"3.0.0\",\n\"paths\": }", "line 3"},
		"broken YAML":         {"openapi: 3.0.0\npaths:\n\t/a: {}\n", "line 3"},
		"OpenAPI 4":           {`{"openapi": "4.0.0"}`, "this version knows 3"},
		"Swagger 1.2":         {`{"swagger": "1.2"}`, "this version knows 2.0"},
		"no paths":            {`{"openapi": "3.1.0", "webhooks": {}}`, "no operations"},
		"paths of other type": {`{"openapi": "3.1.0", "paths": []}`, "no operations"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := OpenAPI([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
		})
	}
}

// frugally fails a test whose hostile description costs more than its size explains. It
// counts what is allocated, which is the same on a busy machine; what follows references
// or aliases to no end allocates for each of them.
func frugally(t *testing.T, text string) ([]audit.Route, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	routes, warnings, err := OpenAPI([]byte(text))
	runtime.ReadMemStats(&after)
	if spent, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+1000*len(text)); spent > most {
		t.Errorf("%d bytes were allocated for a text of %d, more than %d", spent, len(text), most)
	}
	if len(warnings) > maxWarnings+1 {
		t.Errorf("it has %d warnings", len(warnings))
	}
	for _, w := range warnings {
		if len(w) > 2*maxWarning {
			t.Errorf("a warning has %d bytes", len(w))
		}
	}
	return routes, err
}

func TestAHostileDescriptionIsRefusedAndNotFollowed(t *testing.T) {
	bomb := "openapi: 3.0.0\npaths: {/a: {get: {}}}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 20; i++ {
		alias := fmt.Sprintf("*a%d", i-1)
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Join(slices.Repeat([]string{alias}, 9), ", "))
	}
	many := `{"openapi": "3.0.0", "paths": {`
	for i := range MaxOperations + 1 {
		many += fmt.Sprintf(`"/p%d": {"get": {}},`, i)
	}
	many = strings.TrimSuffix(many, ",") + "}}"
	const deep = 100_000
	for name, c := range map[string]struct{ text, want string }{
		"deep JSON":             {`{"openapi": "3.0.0", "paths": {"/a": ` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + "}}", "max depth"},
		"deep JSON objects":     {`{"openapi": "3.0.0", "x": ` + strings.Repeat(`{"a":`, deep) + "1" + strings.Repeat("}", deep) + "}", "max depth"},
		"deep YAML":             {"openapi: 3.0.0\nx: " + strings.Repeat("[", deep) + strings.Repeat("]", deep), "max depth"},
		"deep YAML in one line": {"openapi: 3.0.0\nx:\n  " + strings.Repeat("- ", deep) + "1\n", "max depth"},
		"a bomb of aliases":     {bomb, "aliasing"},
		"an alias of itself":    {"openapi: 3.0.0\npaths: &p {/a: *p}\n", "contains itself"},
		"many operations":       {many, "more than 20000 paths or operations"},
		"too large for YAML":    {"openapi: 3.0.0\nx: " + strings.Repeat("x", MaxYAML), "bytes of YAML"},
		"too large":             {`{"openapi": "3.0.0", "x": "` + strings.Repeat("x", MaxBytes) + `"}`, "16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := frugally(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
		})
	}
}

func TestWhatIsLargeAndUselessIsStillBounded(t *testing.T) {
	var odd strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&odd, `,"x%d": {}`, i)
	}
	routes, err := frugally(t, `{"openapi": "3.0.0", "paths": {"/a": {"get": {}}`+odd.String()+"}}")
	if err != nil || len(routes) != 1 {
		t.Errorf("%d routes, %v", len(routes), err)
	}
	long := strings.Repeat("x", 1<<20)
	routes, err = frugally(t, `{"openapi": "3.0.0", "paths": {"/`+long+`": {"get": {}}, "/a": {"get": {"operationId": "`+long+`", "summary": "`+long+`"}}}}`)
	if err != nil || len(routes) != 1 || routes[0].Code != "" || len([]rune(routes[0].Name)) != maxName {
		t.Errorf("%d routes, %v", len(routes), err)
	}
}

// One large thing that is referred to often must not be read as often.
func TestReferencesCostNoMoreThanTheirTargets(t *testing.T) {
	large := `"x-large": "` + strings.Repeat("x", 1<<20) + `"`
	parameters := strings.Repeat(`{"$ref": "#/components/parameters/p"},`, 100_000)
	routes, err := frugally(t, `{"openapi": "3.0.0", "components": {"parameters": {"p": {"name": "id", "in": "path", `+large+`}}},
		"paths": {"/a/{id}": {"get": {"parameters": [`+strings.TrimSuffix(parameters, ",")+`]}}}}`)
	if err != nil || len(routes) != 1 {
		t.Errorf("%d routes, %v", len(routes), err)
	}
	var paths strings.Builder
	for i := range MaxOperations/4 + 1 {
		fmt.Fprintf(&paths, `"/p%d": {"$ref": "#/components/pathItems/i"},`, i)
	}
	item := `{"get": {}, "put": {}, "post": {}, "delete": {}, ` + large + `}`
	_, err = frugally(t, `{"openapi": "3.1.0", "components": {"pathItems": {"i": `+item+`}}, "paths": {`+strings.TrimSuffix(paths.String(), ",")+"}}")
	if err == nil || !strings.Contains(err.Error(), "20000") {
		t.Errorf("error is %v", err)
	}
}

func TestANameIsOneBoundedLine(t *testing.T) {
	for s, want := range map[string]string{
		"":                             "",
		" a\t b\r\nc ":                 "a b c",
		"a\x1b[31mred\x00":             "a [31mred",
		"a\u202eb":                     "a b",
		strings.Repeat("é", maxName):   strings.Repeat("é", maxName),
		strings.Repeat("é", maxName+1): strings.Repeat("é", maxName-1) + "…",
	} {
		if got := oneLine(s); got != want {
			t.Errorf("oneLine(%.20q) = %q, want %q", s, got, want)
		}
	}
}

func TestTheFirstServersPathStandsBeforeThePaths(t *testing.T) {
	for server, want := range map[string]string{
		`{"url": "https://api.example.com"}`:    "/a",
		`{"url": "https://api.example.com/"}`:   "/a",
		`{"url": "https://api.example.com/v1"}`: "/v1/a",
		`{"url": "//api.example.com/v1"}`:       "/v1/a",
		`{"url": "/v1/"}`:                       "/v1/a",
		`{"url": "v1"}`:                         "/a",
		`{"url": "{host}/v1", "variables": {"host": {"default": "https://a.b"}}}`: "/v1/a",
		`{"url": "https://a/{v}", "variables": {"v": {"default": 7}}}`:            "/a",
		`{"url": "https://a/{v}"}`:     "/{v}/a",
		`{"url": "http://[broken/v1"}`: "/a",
		`7`:                            "/a",
		`{"url": "https://api.example.com/v1"}, {"url": "https://eu.example/v2"}`:   "/v1/a",
		`{"url": "https://api.example.com/v1?x=1"}`:                                 "/v1/a",
		`{"url": ["https://api.example.com/v1"]}, {"url": "https://eu.example/v2"}`: "/v2/a",
	} {
		routes, _ := read(t, `{"openapi": "3.0.0", "servers": [`+server+`], "paths": {"/a": {"get": {}}}}`)
		if routes[0].Template != want {
			t.Errorf("server %s gives %s, want %s", server, routes[0].Template, want)
		}
	}
	routes, _ := read(t, `{"openapi": "3.0.0", "servers": [{"url": "/v1"}], "paths": {
		"/a": {"servers": [{"url": "/v2"}], "get": {}, "put": {"servers": [{"url": "/v3"}]}}}}`)
	if routes[0].Template != "/v2/a" || routes[1].Template != "/v3/a" {
		t.Errorf("routes are %+v", routes)
	}
}

// AUDIT_OPENAPI_FILE names another description, such as those of real APIs that
// are not ours to keep here.
func TestEveryOperationOfARealDescriptionIsFound(t *testing.T) {
	file := os.Getenv("AUDIT_OPENAPI_FILE")
	if file == "" {
		file = "testdata/supabase_excerpt.json"
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	routes, warnings, err := OpenAPI(data)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	p, err := audit.Generic().WithRoutes(routes)
	if err != nil {
		t.Fatal(err)
	}
	unmatched, targets := 0, 0
	for _, r := range routes {
		var path strings.Builder
		for segment := range strings.SplitSeq(r.Template[1:], "/") {
			if strings.HasPrefix(segment, "{") {
				segment = "7f9c" + strings.Trim(segment, "{}")
			}
			path.WriteString("/" + segment)
		}
		var m audit.Match
		if !p.Catalog.Match(r.Method, path.String(), &m) || m.MethodMiss || m.Operation.Template != r.Template || m.Operation.Code != r.Code {
			t.Errorf("%s %s is %+v", r.Method, path.String(), m.Operation)
			unmatched++
		}
		if m.Target() != nil {
			targets++
		}
	}
	t.Logf("%d bytes read in %s: %d operations, %d unmatched, %d with a target, %d warnings: %.2000s",
		len(data), took.Round(time.Millisecond), len(routes), unmatched, targets, len(warnings), strings.Join(warnings, "\n"))
}

func FuzzOpenAPI(f *testing.F) {
	for _, text := range sameAPI {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		routes, warnings, err := OpenAPI(data)
		if err != nil {
			if strings.Contains(err.Error(), "the parser failed") {
				t.Fatal(err)
			}
			return
		}
		for _, r := range routes {
			if len([]rune(r.Name)) > maxName || strings.ContainsAny(r.Name, "\n\r\x1b") || len(r.Code) > maxCode {
				t.Fatalf("route %+v", r)
			}
		}
		// Whatever can be read makes a catalog.
		if _, err := audit.Generic().WithRoutes(routes); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(warnings); err != nil {
			t.Fatal(err)
		}
	})
}
