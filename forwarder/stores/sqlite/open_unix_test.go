//go:build unix

package sqlite

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFilesArePrivateWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o277} {
		path := filepath.Join(t.TempDir(), "audit.db")
		before := syscall.Umask(umask)
		s, err := Open(t.Context(), Config{Path: path}, nil)
		if err == nil {
			err = s.Write(t.Context(), records(t, 1, 3))
		}
		syscall.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(private, modes(t, path)); diff != "" {
			t.Errorf("umask %#o (-want +got):\n%s", umask, diff)
		}
		s.Close()
	}
}
