package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a process has used so far.
type usage struct {
	CPU     time.Duration
	Written uint64 // bytes sent towards the disk
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
	if b, err = os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)); err != nil {
		return u, fmt.Errorf("reading the bytes written: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			if u.Written, err = strconv.ParseUint(strings.TrimSpace(v), 10, 64); err != nil {
				return u, fmt.Errorf("reading the bytes written: %w", err)
			}
		}
	}
	return u, nil
}

func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
