package oracle

import "testing"

func TestIDsAreUniqueInTheShapeOfTheirParameter(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint64(2000) {
		for _, f := range []func(uint64) string{slug, uuid, ref} {
			if id := f(n); seen[id] {
				t.Fatalf("id %s twice", id)
			} else {
				seen[id] = true
			}
		}
	}
	if r := ref(123456); len(r) != 20 {
		t.Errorf("a project ref of %d letters", len(r))
	}
}
