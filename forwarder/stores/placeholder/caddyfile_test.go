package placeholder

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyAPlaceholderAloneIsOne(t *testing.T) {
	for value, want := range map[string][2]bool{
		"{env.AUDIT_DSN}": {true, true}, "{file./run/secrets/dsn}": {true, true},
		"Bearer {env.TOKEN}": {false, true}, "{env.A}{env.B}": {false, true},
		"secret": {}, "": {}, "{env.}": {}, "{$AUDIT_DSN}": {}, "{http.request.uuid}": {}, "{ env.A}": {},
	} {
		if got := [2]bool{Is(value), Has(value)}; got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestAReplacedValueIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, want := range []string{"first", "second"} {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Replace("Bearer {file." + path + "}"); err != nil || got != "Bearer "+want {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if _, err := Replace("{env.NOBODY_HAS_SET_THIS}"); err == nil {
		t.Error("a variable that is not set is no credential")
	}
}
