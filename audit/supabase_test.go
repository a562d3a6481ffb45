package audit

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table was written by reading each operation as an auditor would, without
// the rules. It is the truth; a difference is decided there first.
const supabaseTable = "../bench/replay/testdata/supabase_operations.csv"

func supabaseTableRows(t *testing.T) [][]string {
	t.Helper()
	f, err := os.Open(supabaseTable)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

func TestSupabaseAgreesWithTheTableWrittenByHand(t *testing.T) {
	want := make(map[string][]string)
	for _, row := range supabaseTableRows(t) {
		want[row[0]+" "+row[1]] = row
	}
	got := make(map[string][]string)
	for _, op := range Supabase().Catalog.operations {
		got[op.Method+" "+op.Template] = []string{
			op.Method, op.Template, op.Code,
			op.Target.Type, op.Target.ID, op.Target.Parent, op.Organization, op.Project,
		}
	}
	if len(want) != 146 {
		t.Errorf("the table has %d operations, want 146", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-table +rules):\n%s", diff)
	}
}

func TestSupabaseFindsEachOperationByItsOwnPath(t *testing.T) {
	catalog := Supabase().Catalog
	for _, row := range supabaseTableRows(t) {
		method, template, code := row[0], row[1], row[2]
		path := strings.NewReplacer("{", "value-of-", "}", "").Replace(template)
		var m Match
		if !catalog.Match(method, path, &m) || m.MethodMiss || m.Operation.Code != code || m.Operation.Template != template {
			t.Errorf("%s %s matches %+v", method, path, m.Operation)
			continue
		}
		valueOf := func(param string) string {
			if param == "" {
				return ""
			}
			return "value-of-" + param
		}
		if diff := cmp.Diff(&Target{row[3], valueOf(row[4]), valueOf(row[5])}, m.Target()); diff != "" {
			t.Errorf("target of %s (-want +got):\n%s", path, diff)
		}
		if got, want := m.Organization(), valueOf(row[6]); got != want {
			t.Errorf("organization of %s is %q, want %q", path, got, want)
		}
		if got, want := m.Project(), valueOf(row[7]); got != want {
			t.Errorf("project of %s is %q, want %q", path, got, want)
		}
	}
}

func TestSupabaseNamesEachActionForPeople(t *testing.T) {
	for _, op := range Supabase().Catalog.operations {
		if op.Code == "" || op.Name == "" || strings.ContainsAny(op.Name, "-_{}") || strings.HasPrefix(op.Name, "V1") {
			t.Errorf("%s %s is %q, %q", op.Method, op.Template, op.Code, op.Name)
		}
	}
}

func TestSupabaseKnowsTheCredentialsInItsPaths(t *testing.T) {
	var secret []string
	for _, op := range Supabase().Catalog.operations {
		if len(op.Secrets) > 0 {
			secret = append(secret, op.Method+" "+op.Template)
		}
	}
	slices.Sort(secret)
	want := []string{
		"GET /v1/organizations/{slug}/project-claim/{token}",
		"POST /v1/organizations/{slug}/project-claim/{token}",
	}
	if diff := cmp.Diff(want, secret); diff != "" {
		t.Errorf("operations with a credential in the path (-want +got):\n%s", diff)
	}
}

// A key that changes nothing is a mistake, or a rule that nobody needs.
func TestSupabaseNeedsEachOfItsTypes(t *testing.T) {
	routes, err := readRoutes(supabaseManagement)
	if err != nil {
		t.Fatal(err)
	}
	full, err := supabaseRules.Operations(routes)
	if err != nil {
		t.Fatal(err)
	}
	for key := range supabaseRules.Types {
		fewer := supabaseRules
		fewer.Types = make(map[string]string)
		for k, typ := range supabaseRules.Types {
			if k != key {
				fewer.Types[k] = typ
			}
		}
		got, err := fewer.Operations(routes)
		if err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(full, got) {
			t.Errorf("no operation needs %q", key)
		}
	}
}

func TestSupabaseMarksReadsThatChangeSomething(t *testing.T) {
	var m Match
	if !Supabase().Catalog.Match("GET", "/v1/oauth/authorize", &m) || !m.Operation.Changing {
		t.Error("GET /v1/oauth/authorize does not count as changing")
	}
	if !Supabase().Catalog.Match("GET", "/v1/projects", &m) || m.Operation.Changing {
		t.Error("GET /v1/projects counts as changing")
	}
}

func TestSupabaseIsBuiltOnce(t *testing.T) {
	if first, again := Supabase(), Supabase(); first != again || Supabase().Name != "supabase" {
		t.Errorf("Supabase() = %+v", Supabase())
	}
}

func TestReadRoutesRefusesALineOfAnotherLength(t *testing.T) {
	if _, err := readRoutes("method,template,operation_id\nGET,/a\n"); err == nil {
		t.Error("no error")
	}
}
