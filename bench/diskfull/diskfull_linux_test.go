package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("FAKE_PRODUCT") != "" {
		runFake(os.Args[1:])
	}
	os.Exit(inTempDir(m))
}

// inTempDir runs the tests where the evidence of runs that have to fail does
// not stay behind.

func inTempDir(m *testing.M) int {
	dir, err := os.MkdirTemp("", "diskfull-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	code := m.Run()
	// Whatever a run found, it has cleaned up.
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, dir) {
			fmt.Fprint(os.Stderr, "a filesystem is still mounted: ", line)
			code = 1
		}
	}
	return code
}

// withoutRoom is a short run of the build, in both modes.
func withoutRoom(t *testing.T, cause string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	var out bytes.Buffer
	v, err := diskfull(t.Context(), options{
		OnFault: both, Cause: cause, For: 3 * time.Second, Warm: time.Second, After: time.Second,
		Drain: time.Minute, Clients: 16, Reads: 0.5, Disk: 64, MinFree: "4MiB",
	}, &out)
	if err != nil || !v.Held {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestTheRunningBuildWithItsOwnBoundReached(t *testing.T) { withoutRoom(t, size) }
