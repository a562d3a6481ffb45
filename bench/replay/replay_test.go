package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheShippedOracleIsWhole(t *testing.T) {
	ops, err := shippedOracle()
	if err != nil {
		t.Fatal(err)
	}
	if len(ops) != 146+337 {
		t.Errorf("got %d operations, want 146 and 337", len(ops))
	}
	for _, o := range ops {
		if o.Code == "" || o.TargetType == "" && !strings.HasPrefix(o.Template, dashboard) {
			t.Errorf("%s: no operation id or target type", o.key())
		}
	}
}

func TestABadOracleIsRefused(t *testing.T) {
	head := strings.Join(oracleColumns, ",") + "\n"
	for name, text := range map[string]string{
		"other columns":     "method,template\nGET,/a\n",
		"a repeated line":   head + "GET,/a,x,t,,,,\nGET,/a,y,t,,,,\n",
		"unknown parameter": head + "GET,/a/{b},x,t,c,,,\n",
		"no line":           head,
	} {
		if _, err := readOracle(strings.NewReader(text)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

const smallDescription = `{"paths": {"/v1/projects/{ref}": {
	"parameters": [{"name": "ref", "in": "path", "schema": {"type": "string", "minLength": 20, "maxLength": 20, "pattern": "^[a-z]+$"}}],
	"get": {"operationId": "read"},
	"delete": {"operationId": "remove", "parameters": [{"name": "dry", "in": "query", "schema": {"type": "boolean"}}]}}}}`

func TestTheDescriptionIsHeldAgainstTheOracle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.json")
	if err := os.WriteFile(path, []byte(smallDescription), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := readDescription(path)
	if err != nil {
		t.Fatal(err)
	}
	get := operation{Method: "GET", Template: "/v1/projects/{ref}", Code: "read"}
	del := operation{Method: "DELETE", Template: "/v1/projects/{ref}", Code: "remove"}
	if err := d.agree([]operation{get, del}); err != nil {
		t.Errorf("the same operations: %v", err)
	}
	other := del
	other.Code = "erase"
	for name, ops := range map[string][]operation{
		"one is missing":       {get},
		"another operation id": {get, other},
		"one too many":         {get, del, {Method: "PUT", Template: "/x", Code: "put"}},
	} {
		if err := d.agree(ops); err == nil {
			t.Errorf("%s: was not noticed", name)
		}
	}
	shape := d.Shapes[get.key()]["ref"]
	if err := shape.fits("abcdefghijklmnopqrst"); err != nil {
		t.Error(err)
	}
	for _, v := range []string{"abc", "ABCDEFGHIJKLMNOPQRST"} {
		if shape.fits(v) == nil {
			t.Errorf("%q is no project ref and was accepted", v)
		}
	}
}
