package audit

import (
	"encoding/csv"
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
		if op.Sensitive != f.sensitive || op.Born != f.born || op.Capture.IsZero() != f.capture.IsZero() ||
			op.Transfers != f.transfers || op.Offers != f.offers {
			t.Errorf("%s: the catalog says something else", code)
		}
		if f.capture.IsZero() && !f.sensitive && f.born == "" && !f.transfers && !f.offers {
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

// The fields of the operations with captures, as the description names them, were
// listed apart from the captures: operation, kind and path, a line each.
func TestEachCapturedFieldIsOneOfItsOperation(t *testing.T) {
	f, err := os.Open("testdata/supabase_fields.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	fields, operations := map[string]bool{}, map[string]bool{}
	for _, row := range rows[1:] {
		fields[strings.Join(row, " ")] = true
		operations[row[0]] = true
	}
	seen := 0
	for code, facts := range supabaseFacts {
		if !operations[code] {
			continue // it has no fields, or is of the dashboard, which nobody describes
		}
		seen++
		for kind, paths := range map[string][]string{"query": facts.capture.Query, "body": facts.capture.Body, "response": facts.capture.Response} {
			for _, path := range paths {
				if path = strings.TrimSuffix(path, sqlSuffix); !fields[code+" "+kind+" "+path] {
					t.Errorf("%s has no %s %s", code, kind, path)
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d operations are described", seen)
	}
}
