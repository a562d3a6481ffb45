package audit

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestEveryFactIsOfAnOperation(t *testing.T) {
	codes := make(map[string]*Operation)
	for i := range Supabase().Catalog.operations {
		op := &Supabase().Catalog.operations[i]
		codes[op.Code] = op
	}
	for _, code := range slices.Sorted(maps.Keys(supabaseFacts)) {
		f := supabaseFacts[code]
		op := codes[code]
		if op == nil {
			t.Errorf("%s is no operation", code)
			continue
		}
		if op.Sensitive != f.sensitive || op.Born != f.born || op.Capture.IsZero() != f.capture.IsZero() {
			t.Errorf("%s: the catalog says something else", code)
		}
		if f.capture.IsZero() && !f.sensitive && f.born == "" {
			t.Errorf("%s: nothing is said", code)
		}
		if f.born != "" && !slices.Contains(f.capture.Response, f.born) {
			t.Errorf("%s: its target is born as %s, which is not captured", code, f.born)
		}
		if _, err := NewSelection(Supabase(), f.capture); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		for _, path := range slices.Concat(f.capture.Body, f.capture.Response, f.capture.Query) {
			names, _, err := parsePath(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if kindOfName(name.text) == nameSecret {
					t.Errorf("%s: %s is a secret's name", code, path)
				}
			}
		}
	}
}

// What reads keys and secrets stays recorded where reads are not.
func TestReadsOfSecretsAreSensitive(t *testing.T) {
	for i := range Supabase().Catalog.operations {
		op := &Supabase().Catalog.operations[i]
		if !strings.HasPrefix(op.Code, "v1-") || op.Method != "GET" || op.Sensitive {
			continue
		}
		for _, part := range []string{"secret", "api-key", "signing-key", "token", "pgsodium", "backups", "/jit", "sso", "function_slug}/body"} {
			if strings.Contains(op.Template, part) && op.Code != "v1-get-restore-point" {
				t.Errorf("%s %s is not sensitive", op.Code, op.Template)
			}
		}
	}
}

// openAPI is what the test reads of a description.
type openAPI struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct{ Schemas map[string]*schema }
}

type openAPIOperation struct {
	OperationID string
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct{ Schema *schema }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema *schema }
	}
}

type schema struct {
	Ref                 string `json:"$ref"`
	Properties          map[string]*schema
	Items               *schema
	AllOf, AnyOf, OneOf []*schema
}

// has follows a path.
func (d *openAPI) has(s *schema, path []pathName) bool {
	if s == nil || len(path) == 0 {
		return s != nil
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.has(d.Components.Schemas[name], path)
	}
	for _, part := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
		if d.has(part, path) {
			return true
		}
	}
	if path[0].each {
		return s.Items != nil && d.has(s.Items, path[1:])
	}
	return d.has(s.Properties[path[0].text], path[1:])
}

func TestCapturesAreInTheDescription(t *testing.T) {
	file := os.Getenv("MANAGEMENT_OPENAPI")
	if file == "" {
		t.Skip("MANAGEMENT_OPENAPI names no description")
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d openAPI
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, methods := range d.Paths {
		for method, raw := range methods {
			var op openAPIOperation
			if method == "parameters" || json.Unmarshal(raw, &op) != nil {
				continue
			}
			f, ok := supabaseFacts[op.OperationID]
			if !ok {
				continue
			}
			seen++
			d.check(t, &op, f)
		}
	}
	if seen < 60 {
		t.Errorf("only %d operations are in the description", seen)
	}
}

func (d *openAPI) check(t *testing.T, op *openAPIOperation, f fact) {
	for _, name := range f.capture.Query {
		name = strings.TrimSuffix(name, sqlSuffix)
		if !slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return p.Name == name && p.In == "query" }) {
			t.Errorf("%s has no parameter %s", op.OperationID, name)
		}
	}
	var body, response []*schema
	for _, content := range op.RequestBody.Content {
		body = append(body, content.Schema)
	}
	for status, r := range op.Responses {
		for _, content := range r.Content {
			if status[0] == '2' {
				response = append(response, content.Schema)
			}
		}
	}
	find := func(kind string, in []*schema, paths []string) {
		for _, path := range paths {
			names, _, err := parsePath(path)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(in, func(s *schema) bool { return d.has(s, names) }) {
				t.Errorf("%s has no %s %s", op.OperationID, kind, path)
			}
		}
	}
	find("body", body, f.capture.Body)
	find("response", response, f.capture.Response)
}
