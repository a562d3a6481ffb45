package description

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Read by the platform's own rules, the API's description says what the
// platform says already: its codes, targets and ids are the same, and nothing is
// added. The whole description is not ours to keep; MANAGEMENT_OPENAPI names it.
func TestSupabasesDescriptionAgreesWithThePlatform(t *testing.T) {
	files := []string{"testdata/supabase_excerpt.json"}
	if whole := os.Getenv("MANAGEMENT_OPENAPI"); whole != "" {
		files = append(files, whole)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		routes, warnings, err := OpenAPI(data)
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings)
		}
		p, err := audit.Supabase().WithRoutes(routes)
		if err != nil {
			t.Fatal(err)
		}
		before, after := slices.Collect(audit.Supabase().Catalog.Operations()), slices.Collect(p.Catalog.Operations())
		if len(after) != len(before) {
			t.Fatalf("%s: %d operations, want %d", file, len(after), len(before))
		}
		for i := range before {
			want, got := *before[i], *after[i]
			want.Name, got.Name = "", "" // the description's summary
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s %s (-platform +description):\n%s", file, want.Method, want.Template, diff)
			}
		}
		t.Logf("%s: %d operations", file, len(routes))
	}
}
