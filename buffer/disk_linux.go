package buffer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// space is what the filesystem of a directory has for this user, in bytes.
func space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// readAhead has a file read into memory in large steps.
func readAhead(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL)
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED)
}

// dropCache lets go of what memory has of a file that is on the disk. What was written in
// large steps is kept in memory in large pieces, and whoever changes a page of one later has
// all of it looked through when it is synced.
func dropCache(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// homeOf identifies the place of a directory by its lock: a copy has another inode,
// or one that was made at another time, and a volume's image on another machine has
// another machine's id. Empty if the system does not say.
func homeOf(lock *os.File) string {
	var st unix.Statx_t
	if err := unix.Statx(int(lock.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return ""
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		id = nil
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%d %d.%d %s", st.Ino, st.Btime.Sec, st.Btime.Nsec, strings.TrimSpace(string(id))))
	return hex.EncodeToString(h[:8])
}

// bootID identifies the time since the machine was started. What a process has written is
// there for another one as long as that lasts, on the disk or not; a page that is not
// whole is then no page that did not get there. Empty if the system does not say.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
