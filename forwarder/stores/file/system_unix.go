//go:build unix

package file

import (
	"errors"
	"os"
	"syscall"
)

// nofollow makes opening a symbolic link an error.
const nofollow = syscall.O_NOFOLLOW

var errLocked = errors.New("it is locked")

// flock takes the lock or returns errLocked at once.
func flock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// syncDir makes renames and new files in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
