package caddymodule

import (
	"bytes"
	"crypto/sha256"
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

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/audit/description"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs/catalogstest"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASitesCatalogsNameItsCallsAndAChangeOfThemShows(t *testing.T) {
	r := newRig(t, ok)
	api := write(t, filepath.Join(r.dir, "api.yaml"), catalogstest.API)
	file := write(t, filepath.Join(r.dir, "file.yaml"), catalogstest.File)
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
	write(t, api, strings.Replace(catalogstest.API, "Get an order", "Read an order", 1))
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

// readSite reads a catalog as a site of the command does, and returns what it logged.
func readSite(c *catalogs.Catalog) (string, error) {
	var logged bytes.Buffer
	h := &Handler{Catalogs: []*catalogs.Catalog{c}, platform: audit.Generic(), DefinedAt: "Caddyfile:3"}
	_, err := h.Catalogue(new(catalogs.Descriptions), slog.New(slog.NewTextHandler(&logged, nil)))
	return logged.String(), err
}

func TestAURLThatIsDownDoesNotKeepTheSidecarDown(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	var answer atomic.Value
	answer.Store(catalogstest.API)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer.Load()) }))
	defer server.Close()
	source := server.URL + "/openapi.yaml?key=hunter2"
	copied := filepath.Join(caddy.AppDataDir(), "audit_log", "catalogs", fmt.Sprintf("%x.json", sha256.Sum256([]byte(source))))
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
		logged, err := readSite(&catalogs.Catalog{Format: "openapi", Source: source})
		if err != nil || strings.Count(logged, "using the last good copy") != 1 || strings.Contains(logged, "hunter2") {
			t.Errorf("%s: %v, logged %s", name, err, logged)
		}
	}
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	_, err := readSite(&catalogs.Catalog{Format: "openapi", Source: source})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("error is %v", err)
	}
	for _, part := range []string{"Caddyfile:3", server.URL + "/openapi.yaml", "refused", "no earlier copy", "give a file"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestACatalogThatCannotBeReadNamesTheSitesPlace(t *testing.T) {
	_, err := readSite(&catalogs.Catalog{Format: "openapi", Source: "absent.json"})
	if err == nil || !strings.Contains(err.Error(), "Caddyfile:3: audit_log: catalog openapi absent.json: ") {
		t.Error(err)
	}
}
