package file

import (
	"errors"
	"fmt"
	"syscall"
)

// opening wraps an error of Open, with the cure.
func opening(path string, err error) error {
	return fmt.Errorf("opening audit store %q: %w%s", path, err, cure(err))
}

// cure is what to do about an error of the system, as the end of a message.
func cure(err error) string {
	var code syscall.Errno
	if !errors.As(err, &code) {
		return ""
	}
	switch code {
	case syscall.ENOSPC, syscall.EDQUOT:
		return ": free some space on its disk, or raise this user's quota"
	case syscall.EACCES, syscall.EPERM:
		return ": check that this user may read and write it, its lock and its directory"
	case syscall.EROFS:
		return ": its filesystem is read-only: mount it for writing, or name a file elsewhere"
	case syscall.ELOOP:
		return ": it is a symbolic link: name the file itself"
	case syscall.EIO:
		return ": its disk fails: look into the system's log"
	case syscall.EFBIG:
		return ": this user may not make files that large: raise its limit, or lower max_size"
	case syscall.EMFILE, syscall.ENFILE:
		return ": too many files are open: raise the limit"
	}
	return ""
}
