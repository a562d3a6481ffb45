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
	const want = `method,template,operation_id,security
PUT,/odd,,
POST,/token,,
DELETE,/v1/things/{id},"v1-Delete a, thing",
GET,/v1/things/{id},v1-get-a-thing,
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

func TestGenerateMarksWhatRequiresACredential(t *testing.T) {
	const absent = ""
	for _, test := range []struct {
		name, document, operation string
		want                      string
	}{
		{"absent everywhere", absent, absent, ""},
		{"the operation's", absent, `[{"bearer": []}]`, "required"},
		{"the document's", `[{"bearer": []}]`, absent, "required"},
		{"both at once", absent, `[{"key": [], "secret": []}]`, "required"},
		{"either", absent, `[{"bearer": []}, {"oauth2": ["read"]}]`, "required"},
		{"the operation's before the document's", `[]`, `[{"bearer": []}]`, "required"},
		{"none, whatever the document says", `[{"bearer": []}]`, `[]`, ""},
		{"none in the document", `[]`, absent, ""},
		{"optional", absent, `[{"bearer": []}, {}]`, ""},
		{"optional, said first", absent, `[{}, {"bearer": []}]`, ""},
		{"optional in the document", `[{}, {"bearer": []}]`, absent, ""},
		{"optional, whatever the document says", `[{"bearer": []}]`, `[{}]`, ""},
		{"null", `[{"bearer": []}]`, `null`, ""},
		{"null as a requirement", absent, `[{"bearer": []}, null]`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, warnings := generateSecurity(t, test.document, test.operation)
			if got != test.want {
				t.Errorf("security is %q, want %q", got, test.want)
			}
			if warnings != "" {
				t.Errorf("it warns:\n%s", warnings)
			}
		})
	}
}

func TestGenerateTakesSecurityThatItCannotReadForNone(t *testing.T) {
	for _, security := range []string{`{"bearer": []}`, `true`, `["bearer"]`, `[{"bearer": []}, 7]`} {
		for _, of := range [][2]string{{security, ""}, {"", security}} {
			got, warnings := generateSecurity(t, of[0], of[1])
			if got != "" || !strings.Contains(warnings, "security of GET /a") {
				t.Errorf("security %s gives %q and warns %q", security, got, warnings)
			}
		}
	}
}

// generateSecurity gives the column security of the one operation of a
// document; an empty argument is absent from the description.
func generateSecurity(t *testing.T, document, operation string) (security, warnings string) {
	t.Helper()
	if document != "" {
		document = `"security": ` + document + `,`
	}
	if operation != "" {
		operation = `"security": ` + operation
	}
	var table, warned bytes.Buffer
	description := `{"openapi": "3.0.0",` + document + `"paths": {"/a": {"get": {` + operation + `}}}}`
	if err := generate([]byte(description), &table, &warned); err != nil {
		t.Fatal(err)
	}
	security, ok := strings.CutPrefix(table.String(), "method,template,operation_id,security\nGET,/a,,")
	if !ok {
		t.Fatalf("the table is %q", &table)
	}
	return strings.TrimSuffix(security, "\n"), warned.String()
}

func TestGenerateRequiresOnlyWhatEveryQueryOfARouteDoes(t *testing.T) {
	const description = `{
		"openapi": "3.0.0",
		"security": [{"bearer": []}],
		"paths": {
			"/a?x=1": {"get": {}}, "/a?x=2": {"get": {}},
			"/b?x=1": {"get": {}}, "/b?x=2": {"get": {"security": []}},
			"/c?x=1": {"get": {"security": []}}, "/c?x=2": {"get": {}}
		}
	}`
	var table bytes.Buffer
	if err := generate([]byte(description), &table, new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	const want = `method,template,operation_id,security
GET,/a,,required
GET,/b,,
GET,/c,,
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
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
	const want = `method,template,operation_id,security
DELETE,/things/{id},ThingsController_delete,
GET,/things/{id},ThingsController_get,
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
	for _, description := range []string{``, `[]`, `{}`, `{"paths": {"/a": {"get": {}}}}`, `{"openapi": "3.0.0", "paths": {"/a": {}}}`, "method,path,operation\n", "method,path\nGET,/a\n", "method,path,operation\nGET\n"} {
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
