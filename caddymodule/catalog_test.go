package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/audit/description"
)

const ordersAPI = `
openapi: 3.1.0
servers: [{url: "https://api.example.com/v1"}]
paths:
  /orders/{order_id}:
    get: {operationId: getOrder, summary: Get an order}
  /orders/{order_id}/refund:
    post: {operationId: refundOrder}
`

const ordersFile = `
operations:
  - method: GET
    path: /v1/orders/{id}
    changing: true
  - method: POST
    path: /v1/orders/{id}/refund
    name: Refund an order
    target: {type: refund, parent: id}
`

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readCatalogs reads catalogs as a handler does, and returns what it logged.
func readCatalogs(t *testing.T, catalogs ...*Catalog) (*audit.Platform, *descriptions, string, error) {
	t.Helper()
	var logged bytes.Buffer
	h := &Handler{Catalogs: catalogs, platform: audit.Generic(), log: slog.New(slog.NewTextHandler(&logged, nil)), DefinedAt: "Caddyfile:3"}
	ds := new(descriptions)
	p, _, err := h.withCatalogs(ds)
	return p, ds, logged.String(), err
}

func TestASitesCatalogsNameItsCallsAndAChangeOfThemShows(t *testing.T) {
	r := newRig(t, ok)
	api := write(t, filepath.Join(r.dir, "api.yaml"), ordersAPI)
	file := write(t, filepath.Join(r.dir, "file.yaml"), ordersFile)
	config := strings.Replace(rigCaddyfile, "platform supabase", "platform supabase\ncatalog openapi "+api+"\ncatalog file "+file, 1)
	r.load(config, proxy)
	r.send("GET", "/v1/orders/7", nil, "")
	r.send("POST", "/v1/orders/7/refund", nil, "")
	r.send("GET", project, nil, "")
	calls := r.calls(3)
	if e := calls[0]; e.Action.Code != "getOrder" || e.Action.Name != "Get an order" || e.Action.Route != "/v1/orders/{id}" ||
		*e.Target != (audit.Target{Type: "order", ID: "7"}) || e.Policy.Durability != audit.DurabilityStrict {
		t.Errorf("entry %+v, target %+v, policy %+v", e.Action, e.Target, e.Policy)
	}
	if e := calls[1]; e.Action.Code != "refundOrder" || e.Action.Name != "Refund an order" || *e.Target != (audit.Target{Type: "refund", Parent: "7"}) {
		t.Errorf("entry %+v, target %+v", e.Action, e.Target)
	}
	if e := calls[2]; e.Action.Code != "v1-get-project" {
		t.Errorf("the platform's own operations are gone: %+v", e.Action)
	}
	write(t, api, strings.Replace(ordersAPI, "Get an order", "Read an order", 1))
	r.load(config, proxy)
	r.send("GET", "/v1/orders/7", nil, "")
	if e := r.calls(4)[3]; e.Action.Name != "Read an order" {
		t.Errorf("a reload does not read it again: %+v", e.Action)
	}
	events := r.events()
	changes := fmt.Sprint(events[len(events)-1].Action.Metadata["changes"])
	if strings.Count(changes, "catalog openapi "+api+" sha256:") != 2 || strings.Contains(changes, "catalog file") {
		t.Errorf("event %s", changes)
	}
}

func TestAURLThatIsDownDoesNotKeepTheSidecarDown(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	var answer atomic.Value
	answer.Store(ordersAPI)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer.Load()) }))
	defer server.Close()
	source := server.URL + "/openapi.yaml?key=hunter2"
	copied := catalogCopy(source)
	r := newRig(t, ok)
	config := strings.Replace(rigCaddyfile, "platform supabase", "catalog openapi "+source, 1)

	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(adapt(t, r.expand(config, proxy)), &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(copied)); err == nil {
		t.Error("validating wrote a copy")
	}
	r.load(config, proxy)
	if info, err := os.Stat(copied); err != nil || info.Mode() != 0o600 {
		t.Fatalf("the copy is %v, %v", info, err)
	}
	for name, down := range map[string]func(){
		"a page instead":  func() { answer.Store("<html>Down for maintenance</html>") },
		"something large": func() { answer.Store(strings.Repeat("x", description.MaxBytes+1)) },
		"nobody listens":  server.Close,
	} {
		down()
		r.load(config, proxy)
		r.send("GET", "/v1/orders/7", nil, "")
		if e := r.calls(1); e[len(e)-1].Action.Code != "getOrder" {
			t.Errorf("%s: entry %+v", name, e[len(e)-1].Action)
		}
		_, _, logged, err := readCatalogs(t, &Catalog{Format: catalogOpenAPI, Source: source})
		if err != nil || strings.Count(logged, "using the last good copy") != 1 || strings.Contains(logged, "hunter2") {
			t.Errorf("%s: %v, logged %s", name, err, logged)
		}
	}
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := readCatalogs(t, &Catalog{Format: catalogOpenAPI, Source: source})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("error is %v", err)
	}
	for _, part := range []string{"Caddyfile:3", server.URL + "/openapi.yaml", "refused", "no earlier copy", "give a file"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestARedirectLeadsToNoOtherHost(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/api", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ordersAPI) })
	mux.Handle("/here", http.RedirectHandler("/api", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.Handle("/there", http.RedirectHandler(other.URL, http.StatusFound))
	mux.Handle("/file", http.RedirectHandler("file:///etc/passwd", http.StatusFound))
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, want := range map[string]string{
		"/api": "", "/here": "", "/round": "leads on more than", "/there": "redirect to another host is not followed",
		"/file": "redirect to another host is not followed", "/none": "404",
	} {
		_, _, _, err := readCatalogs(t, &Catalog{Format: catalogOpenAPI, Source: server.URL + path})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error is %v, want %q", path, err, want)
		}
	}
}

func TestACatalogThatCannotBeReadNamesItsPlaceAndTheCure(t *testing.T) {
	dir := t.TempDir()
	large := write(t, filepath.Join(dir, "large.json"), "{}")
	if err := os.Truncate(large, 50<<20); err != nil { // it takes no room, and would take memory
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		catalog Catalog
		want    []string
	}{
		"absent":        {Catalog{Format: "openapi", Source: filepath.Join(dir, "absent.json")}, []string{"absent.json", "correct the path"}},
		"a directory":   {Catalog{Format: "openapi", Source: dir}, []string{"not a regular file"}},
		"50 MiB":        {Catalog{Format: "openapi", Source: large}, []string{"large.json", "16 MiB", "leave out"}},
		"HTML":          {Catalog{Format: "openapi", Source: write(t, filepath.Join(dir, "x.html"), "<html>")}, []string{"x.html", "HTML"}},
		"a field":       {Catalog{Format: "file", Source: write(t, filepath.Join(dir, "x.yaml"), "operations:\n  - {method: GET, paht: /a}")}, []string{"x.yaml", "line 2", `"paht"`}},
		"contradiction": {Catalog{Format: "file", Source: write(t, filepath.Join(dir, "y.yaml"), "operations:\n- {method: GET, path: /a, secrets: [id]}")}, []string{"y.yaml", "line 2", "{id}"}},
		"a placeholder": {Catalog{Format: "file", Source: "{env.THIS_IS_NOT_SET}"}, []string{"env.THIS_IS_NOT_SET"}},
		"a format":      {Catalog{Format: "raml", Source: "x"}, []string{"openapi and file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := readCatalogs(t, &c.catalog)
			if err == nil {
				t.Fatal("it was read")
			}
			for _, want := range append(c.want, "Caddyfile:3: audit_log: catalog") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestADescriptionsWarningsAreLoggedOnceAndBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("openapi: 3.0.0\npaths:\n  /a: {get: {}}\n")
	for i := range 50 {
		fmt.Fprintf(&text, "  /a%d/{id}.json: {get: {}}\n", i)
	}
	source := write(t, filepath.Join(t.TempDir(), "api.yaml"), text.String())
	c := &Catalog{Format: catalogOpenAPI, Source: source}
	_, _, logged, err := readCatalogs(t, c, c) // two sites
	if err != nil || strings.Count(logged, "\n") != maxCatalogWarnings+1 || !strings.Contains(logged, "count=50") {
		t.Errorf("%v, logged %s", err, logged)
	}
}

// inCatalogs runs the command beside a Caddyfile of two sites.
func inCatalogs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	api := write(t, filepath.Join(dir, "api.yaml"), ordersAPI+"  /ping: {get: {operationId: ping}}\n")
	file := write(t, filepath.Join(dir, "file.yaml"), ordersFile)
	config := write(t, filepath.Join(dir, "Caddyfile"), `:8080 {
	audit_log {
		platform supabase
	}
}
shop.example.com {
	handle /v1/* {
		audit_log {
			catalog openapi `+api+`
			catalog file `+file+`
		}
	}
	handle_errors {
		audit_log
	}
}
`)
	cmd := catalogCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage = true
	cmd.SetArgs(append(args, "--config", config))
	err := cmd.Execute()
	return strings.ReplaceAll(out.String(), dir+"/", ""), err
}

func TestTheCommandSaysWhatACallIsAndWhy(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want []string
	}{
		"the platform's": {"DELETE /v1/projects/abcdefghijklmnopqrst/functions/hello --site 8080", []string{
			"site         :8080 (Caddyfile:2)", "v1-delete-a-function", "edge_function hello in abcdefghijklmnopqrst",
			`the platform's rule "functions"`, "segment 5, {function_slug}", "yes, by the method DELETE", "from platform supabase\n",
		}},
		"a catalog's": {"post https://shop.example.com/v1/orders/7/refund?a=b --site shop", []string{
			"shop.example.com", "from catalog openapi api.yaml, then catalog file file.yaml line 6", "refundOrder", "Refund an order",
			"refund in 7", "catalog file file.yaml, line 6", "segment 3, {id}",
		}},
		"changing":        {"HEAD /v1/orders/7 --site shop", []string{"yes, by the catalog", "order 7", `segment 2, "orders"`}},
		"unknown":         {"GET /v1/carts/7123/x --site shop", []string{"unknown: no catalog has it", "/v1/carts/{id}/x", "target       none"}},
		"no form":         {"GET /a//../b --site shop", []string{"an empty or a dot segment"}},
		"a method":        {"PUT /v1/orders/7 --site shop", []string{"of which no catalog knows the method PUT", "order 7"}},
		"both sites":      {"GET /x", []string{":8080", "shop.example.com"}},
		"uncovered":       {"--uncovered --site shop", []string{"1 of 3 operations have no target", "GET     /v1/ping  ping"}},
		"uncovered, JSON": {"--uncovered --site shop --json", []string{`"template":"/v1/ping"`}},
		"a credential":    {"POST /v1/organizations/acme/project-claim/hunter2 --site 8080", []string{"credentials  token", "project-claim/[redacted]"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := inCatalogs(t, strings.Fields(c.args)...)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("it lacks %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "hunter2") || strings.Count(out, "shop.example.com") > 1 {
				t.Error(out)
			}
		})
	}
	out, err := inCatalogs(t, "GET", "/v1/orders/7", "--site", "shop", "--json")
	var r resolution
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || !r.Known || r.Code != "getOrder" || r.Target.ID != "7" || len(r.DescribedBy) != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestTheCommandRefusesWhatItCannotAnswer(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "give a method and a path",
		"GET":                        "give a method and a path",
		"GET orders":                 "begin it with a slash",
		"GET /a --uncovered":         "give --uncovered, or",
		"GET /a --site elsewhere":    "those with audit_log are shop.example.com (",
		"GET /a\x1b[31m --site shop": "begin it with a slash",
	} {
		if out, err := inCatalogs(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	if cmd := catalogCommand(); !strings.Contains(cmd.Example, "--json") || !strings.Contains(cmd.Example, "--uncovered") {
		t.Error("the help has no example of each")
	}
	if caddycmd.Commands()["audit"].CobraFunc == nil {
		t.Error("there is no command")
	}
}
