package commands_test

import (
	"os"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

func TestABufferInMemoryIsFound(t *testing.T) {
	if f, err := machine.FilesystemOf("/dev/shm"); err != nil || f.Kind != "tmpfs" {
		t.Fatalf("there must be memory at /dev/shm for this test: mount a tmpfs there (%v, %+v)", err, f)
	}
	dir, err := os.MkdirTemp("/dev/shm", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := newPatient(t, "buffer %DIR%/audit/buffer", "buffer "+dir+"/buffer").examined()
	r.want(t, "disk", doctor.StateWrong, "tmpfs: it is gone")
	if exitCodeOf(err) != 1 {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
