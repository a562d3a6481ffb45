package buffer

import (
	"os"

	"golang.org/x/sys/windows"
)

// flock takes the lock or says at once that another process has it.
func flock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
}

// syncDir does nothing: Windows has no sync of a directory.
func syncDir(string) error { return nil }
