package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// reads is how many reading system calls a process has made.
func reads(pid int) (int64, error) { return figure(pid, "io", "syscr:") }

// resident is how much memory a process holds of its own, in bytes. Pages of
// mapped files are not counted: the kernel takes them back when it likes.
func resident(pid int) (int64, error) {
	n, err := figure(pid, "status", "RssAnon:")
	return n << 10, err
}

func figure(pid int, file, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("watching the server: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(v)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("watching the server: %s has no %s", path, name)
}
