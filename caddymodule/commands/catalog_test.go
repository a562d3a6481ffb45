package commands_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/catalogs/catalogstest"
)

// inCatalogs runs the command beside a Caddyfile of two sites.
func inCatalogs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	api := write(t, filepath.Join(dir, "api.yaml"), catalogstest.API+"  /ping: {get: {operationId: ping}}\n")
	file := write(t, filepath.Join(dir, "file.yaml"), catalogstest.File)
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
	out, messages, err := run(t, append(append([]string{"catalog"}, args...), "--config", config)...)
	return strings.ReplaceAll(out+messages, dir+"/", ""), err
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
	var r struct {
		Known       bool
		Code        string
		Target      audit.Target
		DescribedBy []string `json:"described_by"`
	}
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
	if help, _, err := run(t, "catalog", "--help"); err != nil || !strings.Contains(help, "--json") || !strings.Contains(help, "--uncovered --json") {
		t.Error("the help has no example of each")
	}
	if caddycmd.Commands()["audit"].CobraFunc == nil {
		t.Error("there is no command")
	}
}
