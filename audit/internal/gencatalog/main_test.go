package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGenerateWritesRoutesAndSkipsTheRest(t *testing.T) {
	const description = `{
		"openapi": "3.0.0",
		"paths": {
			"/v1/things/{id}": {
				"parameters": [{"name": "id"}],
				"x-owner": "us",
				"get": {"operationId": "v1-get-a-thing", "summary": "prose, which stays behind"},
				"delete": {"operationId": "v1-Delete a, thing"}
			},
			"/token?grant_type=password": {"post": {}},
			"/token?grant_type=pkce": {"post": {"operationId": "second"}},
			"/odd": {"put": {"operationId": 7}},
			"/broken": [],
			"x-extension": {"get": {}}
		}
	}`
	var table, warnings bytes.Buffer
	if err := generate([]byte(description), &table, &warnings); err != nil {
		t.Fatal(err)
	}
	const want = `method,template,operation_id
PUT,/odd,
POST,/token,
DELETE,/v1/things/{id},"v1-Delete a, thing"
GET,/v1/things/{id},v1-get-a-thing
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	for _, part := range []string{"/broken", "x-extension", "PUT /odd", "second POST /token"} {
		if !strings.Contains(warnings.String(), part) {
			t.Errorf("warnings do not mention %q:\n%s", part, &warnings)
		}
	}
}

func TestGenerateReadsATableByTheNamesOfItsColumns(t *testing.T) {
	const description = `summary,operation,path,method
"prose, which stays behind",ThingsController_get,/things/{id},get
more prose,ThingsController_delete,/things/{id},DELETE
prose,ThingsController_getAgain,/things/{id},GET
prose,odd,things,GET
prose,odd,/things,FETCH
`
	var table, warnings bytes.Buffer
	if err := generate([]byte(description), &table, &warnings); err != nil {
		t.Fatal(err)
	}
	const want = `method,template,operation_id
DELETE,/things/{id},ThingsController_delete
GET,/things/{id},ThingsController_get
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	for _, part := range []string{"second GET /things/{id}", `"GET" "things"`, "FETCH"} {
		if !strings.Contains(warnings.String(), part) {
			t.Errorf("warnings do not mention %q:\n%s", part, &warnings)
		}
	}
}

func TestGenerateRefusesWhatHoldsNoOperations(t *testing.T) {
	for _, description := range []string{``, `[]`, `{}`, `{"paths": {"/a": {}}}`, "method,path,operation\n", "method,path\nGET,/a\n", "method,path,operation\nGET\n"} {
		if err := generate([]byte(description), new(bytes.Buffer), new(bytes.Buffer)); err == nil {
			t.Errorf("generate(%q) did not fail", description)
		}
	}
}

func TestRunLeavesTheOldFileWhenItFails(t *testing.T) {
	out := filepath.Join(t.TempDir(), "routes.csv")
	if err := os.WriteFile(out, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {""}, {"a", "b"}, {filepath.Join(t.TempDir(), "absent.json")}} {
		if err := run(out, args, new(bytes.Buffer)); err == nil {
			t.Errorf("run with %q did not fail", args)
		}
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "old" {
		t.Errorf("the old file holds %q, %v", b, err)
	}
}
