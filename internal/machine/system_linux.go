package machine

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// namelessFile leaves nothing behind, whenever the process ends, and nobody who watches the
// directory sees it.
func namelessFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), dir), nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return temporaryFile(dir)
	}
	return nil, &fs.PathError{Op: "making a file in", Path: dir, Err: err}
}

func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// ClockSync asks the kernel whether something keeps its clock right, and by how much it may
// be wrong. It changes nothing.
func ClockSync() (synced bool, within time.Duration, err error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, 0, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, time.Duration(t.Maxerror) * time.Microsecond, nil
}

// maxLocks bounds what is read of the system's locks, in lines.
const maxLocks = 100_000

// LockHolder is the process that has a file locked, without taking the lock.
func LockHolder(path string) (pid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	inode := ":" + strconv.FormatUint(st.Ino, 10)
	lines := bufio.NewScanner(f)
	for n := 0; n < maxLocks && lines.Scan(); n++ {
		// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF; a file system may show another
		// device there than stat does.
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[1] != "FLOCK" || !strings.HasSuffix(fields[5], inode) {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && pid > 0 {
			return pid, true
		}
	}
	return 0, false
}
