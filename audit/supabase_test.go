package audit

import (
	"encoding/csv"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tables were written by reading each operation as an auditor would,
// without the rules. They are the truth; a difference is decided there first.
var supabaseTables = []struct {
	file       string
	operations int
}{
	{"../bench/replay/testdata/supabase_operations.csv", 146},
	{"../bench/replay/testdata/platform_operations.csv", 337},
}

func supabaseTableRows(t *testing.T) [][]string {
	t.Helper()
	var all [][]string
	for _, table := range supabaseTables {
		f, err := os.Open(table.file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		rows, err := csv.NewReader(f).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if rows = rows[1:]; len(rows) != table.operations {
			t.Errorf("%s has %d operations, want %d", table.file, len(rows), table.operations)
		}
		all = append(all, rows...)
	}
	return all
}

func TestSupabaseAgreesWithTheTablesWrittenByHand(t *testing.T) {
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
	if len(got) != 483 {
		t.Errorf("the catalog has %d operations, want 483", len(got))
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
		var want *Target
		if row[3] != "" {
			want = &Target{row[3], valueOf(row[4]), valueOf(row[5])}
		}
		if diff := cmp.Diff(want, m.Target()); diff != "" {
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

// A name that stands for several types would have an auditor take the deletion
// of one thing for that of another.
func TestSupabaseNamesTellWhatTheyAreDoneTo(t *testing.T) {
	types := make(map[string]string)
	for _, op := range Supabase().Catalog.operations {
		if other, ok := types[op.Name]; ok && other != op.Target.Type {
			t.Errorf("%q is done to %q and to %q", op.Name, other, op.Target.Type)
		}
		types[op.Name] = op.Target.Type
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
		"DELETE /platform/projects/{ref}/analytics/warehouse/access-tokens/{token}",
		"DELETE /platform/projects/{ref}/analytics/warehouse/endpoints/{token}",
		"GET /platform/organizations/{slug}/members/invitations/{token}",
		"GET /v1/organizations/{slug}/project-claim/{token}",
		"POST /platform/organizations/{slug}/members/invitations/{token}",
		"POST /v1/organizations/{slug}/project-claim/{token}",
		"PUT /platform/projects/{ref}/analytics/warehouse/endpoints/{token}",
	}
	if diff := cmp.Diff(want, secret); diff != "" {
		t.Errorf("operations with a credential in the path (-want +got):\n%s", diff)
	}
}

// A key that changes nothing is a mistake, or a rule that nobody needs.
func TestSupabaseNeedsEachOfItsRules(t *testing.T) {
	for _, api := range supabaseAPIs {
		routes, err := readRoutes(api.table)
		if err != nil {
			t.Fatal(err)
		}
		full, err := api.rules.Operations(routes)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, fewer Rules) {
			got, err := fewer.Operations(routes)
			if err != nil {
				t.Fatal(err)
			}
			if cmp.Equal(full, got) {
				t.Errorf("no operation of %s needs %q", api.file, what)
			}
		}
		for key := range api.rules.Types {
			fewer := api.rules
			fewer.Types = maps.Clone(fewer.Types)
			delete(fewer.Types, key)
			check(key, fewer)
		}
		for code := range api.rules.Names {
			fewer := api.rules
			fewer.Names = maps.Clone(fewer.Names)
			delete(fewer.Names, code)
			check(code, fewer)
		}
		for _, end := range api.rules.Identifiers {
			fewer := api.rules
			fewer.Identifiers = slices.DeleteFunc(slices.Clone(fewer.Identifiers), func(s string) bool { return s == end })
			check(end, fewer)
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

// The figure was counted in the description, apart from gencatalog.
func TestSupabaseKnowsWhichOperationsRequireACredential(t *testing.T) {
	const wantSecured = 141 // of the 145 whose description says so
	var secured int
	var unsecured []string
	for _, op := range Supabase().Catalog.operations {
		dashboard := strings.HasPrefix(op.Template, "/platform/")
		switch {
		case op.Secured && dashboard:
			t.Errorf("%s %s is secured, which no description says", op.Method, op.Template)
		case op.Secured:
			secured++
		case !dashboard:
			unsecured = append(unsecured, op.Method+" "+op.Template)
		}
	}
	if secured != wantSecured {
		t.Errorf("%d operations are secured, want %d", secured, wantSecured)
	}
	if diff := cmp.Diff([]string{
		"GET /v1/oauth/authorize", "GET /v1/oauth/authorize/project-claim", "POST /v1/oauth/revoke", "POST /v1/oauth/token",
		"GET /v1/projects/{ref}/config/database/pgbouncer",
	}, unsecured); diff != "" {
		t.Errorf("operations that require no credential (-want +got):\n%s", diff)
	}
}

func TestMatchSaysWhetherTheOperationRequiresACredential(t *testing.T) {
	for _, test := range []struct {
		method, path string
		want         bool
	}{
		{"GET", "/v1/projects/abc", true},
		{"HEAD", "/v1/projects/abc", true},
		{"OPTIONS", "/v1/projects/abc", false}, // whoever answers it need not have looked at a credential
		{"GET", "/v1/projects/abc/config/database/pgbouncer", false},
		{"GET", "/platform/organizations", false},
	} {
		var m Match
		if !Supabase().Catalog.Match(test.method, test.path, &m) || m.Operation.Secured != test.want {
			t.Errorf("%s %s matches %+v, want secured: %v", test.method, test.path, m.Operation, test.want)
		}
	}
}

func TestSupabaseIsBuiltOnce(t *testing.T) {
	if first, again := Supabase(), Supabase(); first != again || Supabase().Name != "supabase" {
		t.Errorf("Supabase() = %+v", Supabase())
	}
}

func TestReadRoutesRefusesALineOfAnotherLength(t *testing.T) {
	if _, err := readRoutes("method,template,operation_id,security\nGET,/a,get\n"); err == nil {
		t.Error("no error")
	}
}
