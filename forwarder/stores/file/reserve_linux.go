package file

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve has the filesystem set n bytes from offset on aside without making the
// file longer, so that a full disk is known before half a batch is in the file.
func reserve(f *os.File, offset, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, n)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		}
		return err
	}
}
