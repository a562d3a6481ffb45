package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func TestMain(m *testing.M) {
	if os.Getenv("FAKE_PRODUCT") != "" {
		runFake(os.Args[1:])
	}
	os.Exit(rig.InTempDir("diskfull", func() int { return max(m.Run(), mounted()) }))
}

// mounted is 1 if a run has left a filesystem mounted: whatever it found, it cleans up.
func mounted() (code int) {
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, os.TempDir()) {
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
