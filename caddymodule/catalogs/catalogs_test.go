package catalogs

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs/catalogstest"
)

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readCatalogs reads catalogs over a platform that knows none, and returns what it logged.
func readCatalogs(t *testing.T, list ...*Catalog) (*audit.Platform, *Descriptions, string, error) {
	t.Helper()
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	ds := new(Descriptions)
	p, _, err := Over(audit.Generic(), list, ds, log)
	return p, ds, logged.String(), err
}

func TestARedirectLeadsToNoOtherHost(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/api", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, catalogstest.API) })
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
		_, _, _, err := readCatalogs(t, &Catalog{Format: formatOpenAPI, Source: server.URL + path})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error is %v, want %q", path, err, want)
		}
	}
}

func TestACatalogThatCannotBeReadNamesItsPlaceAndTheCure(t *testing.T) {
	dir := t.TempDir()
	large := writeFile(t, filepath.Join(dir, "large.json"), "{}")
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
		"HTML":          {Catalog{Format: "openapi", Source: writeFile(t, filepath.Join(dir, "x.html"), "<html>")}, []string{"x.html", "HTML"}},
		"a field":       {Catalog{Format: "file", Source: writeFile(t, filepath.Join(dir, "x.yaml"), "operations:\n  - {method: GET, paht: /a}")}, []string{"x.yaml", "line 2", `"paht"`}},
		"contradiction": {Catalog{Format: "file", Source: writeFile(t, filepath.Join(dir, "y.yaml"), "operations:\n- {method: GET, path: /a, secrets: [id]}")}, []string{"y.yaml", "line 2", "{id}"}},
		"a placeholder": {Catalog{Format: "file", Source: "{env.THIS_IS_NOT_SET}"}, []string{"env.THIS_IS_NOT_SET"}},
		"a format":      {Catalog{Format: "raml", Source: "x"}, []string{"openapi and file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := readCatalogs(t, &c.catalog)
			if err == nil {
				t.Fatal("it was read")
			}
			for _, want := range append(c.want, "catalog") {
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
	source := writeFile(t, filepath.Join(t.TempDir(), "api.yaml"), text.String())
	c := &Catalog{Format: formatOpenAPI, Source: source}
	_, _, logged, err := readCatalogs(t, c, c) // two sites
	if err != nil || strings.Count(logged, "\n") != maxCatalogWarnings+1 || !strings.Contains(logged, "count=50") {
		t.Errorf("%v, logged %s", err, logged)
	}
}
