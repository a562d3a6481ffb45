package description

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestACatalogFileSaysWhatItSaysAndNothingElse(t *testing.T) {
	overrides, err := File([]byte(`
operations:
  - method: post
    path: /orders/{order_id}/refund
    code: refundOrder
    name: Refund an order
    target: {type: order, id: order_id}
    organization: ""
    secrets: [order_id]
    changing: true
    secured: true
    sensitive: false
    capture:
      body: [reason, items.*.amount]
      header: [X-Reason]
    born: id
    transfers: true
    offers: false
  - {method: GET, path: /reports}
`))
	if err != nil {
		t.Fatal(err)
	}
	yes, no, none := true, false, ""
	code, name, born := "refundOrder", "Refund an order", "id"
	want := []audit.Override{
		{
			Method: "POST", Template: "/orders/{order_id}/refund", Code: &code, Name: &name, Organization: &none,
			Target: &audit.TargetRule{Type: "order", ID: "order_id"}, Secrets: &[]string{"order_id"},
			Changing: &yes, Secured: &yes, Sensitive: &no, Born: &born, Transfers: &yes, Offers: &no, At: "line 3",
			Capture: &audit.Capture{Body: []string{"reason", "items.*.amount"}, Header: []string{"X-Reason"}},
		},
		{Method: "GET", Template: "/reports", At: "line 19"},
	}
	if diff := cmp.Diff(want, overrides); diff != "" {
		t.Errorf("overrides (-want +got):\n%s", diff)
	}
}

func TestACatalogFilesMistakesNameTheirLine(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'm'; c++ {
		bomb += string(c) + "0: &" + string(c) + "0 [" + strings.Repeat("*"+string(c-1)+"0, ", 9) + "]\n"
	}
	const op = "operations:\n  - {method: GET, path: '/a/{id}'"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "no operations"},
		"an empty list":      {"operations: []", "no operations"},
		"a typing error":     {"operatons: []", `line 1: "operatons" is not a field here: choose from operations`},
		"an unknown field":   {op + ", changes: true}", `line 2: "changes" is not a field here: choose from method, path, code`},
		"an unknown capture": {op + ",\n     capture: {boddy: [x]}}", `line 3: "boddy" is not a field here: choose from body`},
		"another type":       {op + ", changing: perhaps}", "line 2: cannot unmarshal"},
		"a scalar target":    {op + ", target: order}", "as in {type: order"},
		"no method":          {"operations:\n  - path: /a", "line 2: reading an operation without method or path"},
		"an odd method":      {"operations:\n  - {method: G E T, path: /a}", "line 2: reading method"},
		"an odd path":        {"operations:\n  - {method: GET, path: a}", "line 2: reading path"},
		"a query":            {"operations:\n  - {method: GET, path: '/a?b=1'}", "line 2: reading path"},
		"a long path":        {"operations:\n  - {method: GET, path: /" + strings.Repeat("a", 2000) + "}", "longer than"},
		"no type":            {op + ", target: {id: id}}", "line 2: reading a target without a type"},
		"a name of lines":    {op + ", name: \"a\\nb\"}", "line 2: reading name"},
		"a long name":        {op + ", name: " + strings.Repeat("a", 121) + "}", "at most 120"},
		"twice":              {op + "}\n  - {method: get, path: '/a/{other}'}", "line 3: reading GET /a/{other}: no path could tell it from the one at line 2"},
		"two documents":      {op + "}\n---\noperations: []", "second document"},
		"JSON of else":       {`{"openapi": "3.0.0"}`, `"openapi" is not a field here`},
		"HTML":               {"<html>", "line 1: cannot unmarshal"},
		"deep":               {"operations: " + strings.Repeat("[", 100_000), "depth"},
		"a bomb":             {bomb + "operations: [*l0]", "line"},
		"too large":          {strings.Repeat("#", MaxBytes+1), "16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := File([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "description.") {
				t.Errorf("error is %v, want it to say %q", err, c.want)
			}
			if err != nil && (len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error is %q", err)
			}
		})
	}
}

// What the documentation shows is a catalog file.
func TestTheDocumentedFileIsRead(t *testing.T) {
	b, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	overrides, err := File([]byte(text))
	if err != nil || len(overrides) != 2 {
		t.Fatal(len(overrides), err)
	}
	if _, err := audit.Generic().WithOverrides(overrides); err != nil {
		t.Error(err)
	}
	for field := range strings.SplitSeq(known["operation"], ", ") {
		if !strings.Contains(string(b), "`"+field+"`") {
			t.Errorf("the table has no %s", field)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("operations:\n  - {method: GET, path: '/a/{id}', target: {type: a, id: id}, secrets: [id]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		overrides, err := File(data)
		if err != nil {
			return
		}
		// It may contradict itself, and then the error has its line.
		if _, err := audit.Supabase().WithOverrides(overrides); err != nil && !strings.Contains(err.Error(), "line ") {
			t.Fatal(err)
		}
	})
}
