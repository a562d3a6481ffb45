package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

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
