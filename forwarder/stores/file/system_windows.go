package file

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// nofollow is not known here.
const nofollow = 0

var errLocked = errors.New("it is locked")

// flock takes the lock or returns errLocked at once. It locks a byte beyond the
// content, so that others can read who holds it.
func flock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errLocked
	}
	return err
}

// syncDir does nothing: Windows has no sync of a directory.
func syncDir(string) error { return nil }
