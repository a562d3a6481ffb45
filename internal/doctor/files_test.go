package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhoLooksAsSomebodyElseIsTold(t *testing.T) {
	if d := userFinding(0, 0); d.State != StateOK {
		t.Errorf("%+v", d)
	}
	if d := userFinding(0, 12345); d.State != StateWarning || !strings.Contains(d.Cure, "uid 12345") {
		t.Errorf("%+v", d)
	}
}

func TestAFileThatOthersCanChangeAndOneThatIsNotThereAreFound(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "jwks.json")
	if err := errors.Join(os.WriteFile(keys, []byte("{}"), 0o600), os.Chmod(keys, 0o602)); err != nil {
		t.Fatal(err)
	}
	f := &Files{ctx: t.Context()}
	f.Writers(keys, "the keys of an issuer", "be anybody in the audit log")
	if len(f.list) != 1 || f.list[0].State != StateWrong {
		t.Errorf("%+v", f.list)
	}
	f = &Files{ctx: t.Context()}
	f.Secret(filepath.Join(dir, "absent"))
	if f.list[0].State != StateWrong {
		t.Errorf("%+v", f.list)
	}
}
