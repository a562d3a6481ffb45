package confdoc

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

// adapted is the JSON of the Caddyfile that has everything.
func adapted(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(complete)
	if err != nil {
		t.Fatal(err)
	}
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": "docs/complete.Caddyfile"})
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	return config
}

// What it needs of the machine is there: files, and variables of the environment. Nothing is
// connected to.
func TestTheCaddyfileWithEverythingIsValid(t *testing.T) {
	config := adapted(t)
	for _, name := range regexp.MustCompile(`\{env\.([A-Z0-9_]+)\}`).FindAllStringSubmatch(string(config), -1) {
		t.Setenv(name[1], strings.Repeat("x", 32))
	}
	t.Setenv("AUDIT_DSN", "postgres://audit@db.example.com/audit?sslmode=verify-full")
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("XDG_DATA_HOME", dir)
	for name, content := range map[string]string{
		"jwks.json":       string(jwttest.Keys().Set("ec")),
		"openapi.json":    `{"openapi": "3.0.0", "info": {"title": "API", "version": "1"}, "paths": {"/orders/{id}": {"delete": {"operationId": "delete-order", "responses": {}}}}}`,
		"operations.yaml": "operations:\n  - method: DELETE\n    path: /orders/{id}\n    sensitive: true\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err != nil {
		t.Error(err)
	}
}

// So each form in the reference is one that a Caddyfile takes, and sets what it says.
func TestTheCaddyfileWithEverythingSetsEveryField(t *testing.T) {
	var config any
	if err := json.Unmarshal(adapted(t), &config); err != nil {
		t.Fatal(err)
	}
	// What several modules have needs to be set in one.
	set, missing := map[Field]bool{}, map[Field]string{}
	for _, m := range read(t) {
		found := instances(config, m.ID)
		if len(found) == 0 && len(m.Fields) > 0 {
			t.Errorf("it has no module %s", m.ID)
		}
		look(m.Struct, found, m.ID+" ", set, missing)
	}
	for f, path := range missing {
		if !set[f] {
			t.Errorf("%s is not set", path)
		}
	}
	if len(set) < 150 {
		t.Errorf("only %d fields are set", len(set))
	}
}

// instances are the objects of a module in a configuration.
func instances(config any, id string) (found []map[string]any) {
	key, name := "", id[strings.LastIndex(id, ".")+1:]
	switch {
	case strings.HasPrefix(id, "http.handlers."):
		key = "handler"
	case strings.HasPrefix(id, "audit_log.stores."):
		key = "kind"
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if app, ok := v[id].(map[string]any); key == "" && ok {
				found = append(found, app)
			}
			// A lookup has a kind, too.
			if key != "" && v[key] == name && (key != "kind" || v["claims"] == nil) {
				found = append(found, v)
			}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k])
			}
		}
	}
	walk(config)
	return found
}

// look tells the fields with a Caddyfile form that one of the objects has from those that
// none has.
func look(of *Struct, objects []map[string]any, path string, set map[Field]bool, missing map[Field]string) {
	for _, f := range of.Fields {
		if f.Form == "" {
			continue
		}
		var below []map[string]any
		there := false
		for _, o := range objects {
			v, ok := o[f.JSON]
			there = there || ok
			below = append(below, objectsIn(v, strings.HasPrefix(f.Type, "object of "))...)
		}
		if there {
			set[f] = true
		} else {
			missing[f] = path + f.JSON
		}
		if f.Of != nil && there {
			look(f.Of, below, path+f.JSON+".", set, missing)
		}
	}
}

func objectsIn(v any, keyed bool) (list []map[string]any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			list = append(list, objectsIn(e, false)...)
		}
	case map[string]any:
		if !keyed {
			return []map[string]any{v}
		}
		for _, e := range v {
			list = append(list, objectsIn(e, false)...)
		}
	}
	return list
}
