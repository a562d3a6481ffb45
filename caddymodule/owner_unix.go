//go:build unix

package caddymodule

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf is the user that a file belongs to.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// deviceOf tells file systems apart.
func deviceOf(info fs.FileInfo) (device uint64, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return uint64(st.Dev), true //nolint:unconvert // it has another type on other systems
}

// thisUser is who runs the process.
func thisUser() (uid int, ok bool) { return os.Geteuid(), true }

// userName is a user's name, or its number.
func userName(uid int) string {
	number := strconv.Itoa(uid)
	u, err := user.LookupId(number)
	if err != nil {
		return "uid " + number
	}
	return u.Username
}
