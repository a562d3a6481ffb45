package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used so far, and what it holds.
type usage struct {
	CPU     time.Duration
	Written uint64 // bytes sent towards the disk
	// Resident memory is all of it, with pages of files that the system takes back when
	// it likes; Own is what of it is none.
	Resident, Own uint64
}

func usageOf(pid int) (usage, error) {
	var u usage
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("reading the CPU time: %w", err)
	}
	// The name in parentheses may hold spaces; utime and stime are the 14th
	// and 15th field, in hundredths of a second on every Linux.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return u, fmt.Errorf("reading the CPU time: %q has too few fields", b)
	}
	for _, s := range f[11:13] {
		ticks, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return u, fmt.Errorf("reading the CPU time: %w", err)
		}
		u.CPU += time.Duration(ticks) * 10 * time.Millisecond
	}
	if u.Written, err = field(pid, "io", "write_bytes", ""); err != nil {
		return u, err
	}
	if u.Resident, err = field(pid, "status", "VmRSS", "kB"); err != nil {
		return u, err
	}
	if u.Own, err = field(pid, "status", "RssAnon", "kB"); err != nil {
		return u, err
	}
	u.Resident, u.Own = u.Resident<<10, u.Own<<10
	return u, nil
}

// field is a number that a file of /proc has on a line of its own.
func field(pid int, file, name, unit string) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, fmt.Errorf("reading %s of process %d: %w", name, pid, err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), unit)), 10, 64)
		}
	}
	return 0, fmt.Errorf("reading %s of process %d: it has none", name, pid)
}

func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// forget takes files out of the page cache, as if the machine had just started.
func forget(pattern string) error {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		// What is not on the disk yet cannot be taken out.
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		if err != nil {
			return fmt.Errorf("taking %s out of the page cache: %w", name, err)
		}
	}
	return nil
}
