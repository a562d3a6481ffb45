//go:build unix

package machine

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// OwnerOf is the user that a file belongs to.
func OwnerOf(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// DeviceOf tells file systems apart.
func DeviceOf(info fs.FileInfo) (device uint64, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(st.Dev), true //nolint:unconvert // it has another type on other systems
}

// ThisUser is who runs the process.
func ThisUser() (uid int, ok bool) { return os.Geteuid(), true }

// UserName is a user's name, or its number.
func UserName(uid int) string {
	number := strconv.Itoa(uid)
	u, err := user.LookupId(number)
	if err != nil {
		return "uid " + number
	}
	return u.Username
}
