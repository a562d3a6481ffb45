package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// memory is what a process holds of memory, in bytes.
type memory struct {
	Resident int64 // now
	Peak     int64
	// Own is what of Resident is no page of a file, which the system takes
	// back when it likes.
	Own int64
}

func memoryOf(pid int) (m memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, fmt.Errorf("reading the resident memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		p := map[string]*int64{"VmRSS": &m.Resident, "VmHWM": &m.Peak, "RssAnon": &m.Own}[name]
		if p == nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return m, fmt.Errorf("reading the resident memory: %w", err)
		}
		*p = n << 10
	}
	return m, nil
}

// dropCaches empties the page cache, which only root may, and only outside of
// most containers.
func dropCaches() error {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
		return fmt.Errorf("emptying the page cache: %w", err)
	}
	return nil
}

// room is what the filesystem of a directory has left.
func room(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("asking for the room in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
