package commands_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestAClockThatIsBehindWhatWasWrittenIsFound(t *testing.T) {
	p := newPatient(t)
	dir := filepath.Join(p.dir, "audit", "buffer")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	segment := write(t, filepath.Join(dir, "seg-00000000000000000001.db"), "")
	r, err := p.examined()
	r.want(t, "clock", doctor.StateOK, "not behind the file seg-")
	if exitCodeOf(err) != 0 {
		t.Error(err)
	}
	later := time.Now().Add(3 * time.Hour)
	if err := os.Chtimes(segment, later, later); err != nil {
		t.Fatal(err)
	}
	r, err = p.examined()
	r.want(t, "clock", doctor.StateWrong, "behind the file seg-00000000000000000001.db")
	if exitCodeOf(err) != 1 {
		t.Error(err)
	}
}
