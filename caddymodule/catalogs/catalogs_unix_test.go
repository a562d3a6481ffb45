//go:build unix

package catalogs

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestACatalogIsNotReadFromAPipeOrADevice(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{pipe, "/dev/zero"} {
		_, _, _, err := readCatalogs(t, &Catalog{Format: "openapi", Source: source})
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", source, err)
		}
	}
}
