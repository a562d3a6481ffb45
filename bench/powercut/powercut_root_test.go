//go:build linux && root

package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// built is the build that all tests share, since making it takes as long as some
// of them.
var built string

func TestMain(m *testing.M) { os.Exit(withBuild(m)) }

func withBuild(m *testing.M) int {
	flag.Parse() // for Short
	if !testing.Short() {
		dir, err := os.MkdirTemp("", "powercut-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if built, err = rig.Build(context.Background(), dir); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

// The programs' own proof: on a disk that says it has flushed and has not, a
// cut must be seen to lose what was answered.
func TestADiskThatLiesIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	var out bytes.Buffer
	v, err := powercut(t.Context(), options{
		Setup: rig.Setup{Caddy: built},
		Cuts:  1, Method: "copy", Clients: 8, Reads: 0.25, Size: 512, Seed: 5, Drain: time.Minute, Lies: true,
	}, &out)
	if err != nil || v.held() || v.Missing == 0 || v.Unrecorded == 0 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

// So must a product that answers before it has recorded, which here is told to.
func TestAProductThatDoesNotWaitIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	shipped, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	const rule = "rule @probes none"
	if !bytes.Contains(shipped, []byte(rule)) {
		t.Fatalf("the shipped Caddyfile has no %q", rule)
	}
	relaxed := filepath.Join(os.TempDir(), "Caddyfile")
	if err := os.WriteFile(relaxed, bytes.Replace(shipped, []byte(rule), []byte("@all path /*\n\t\trule @all metadata relaxed #"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	v, err := powercut(t.Context(), options{
		Setup: rig.Setup{Caddy: built, Caddyfile: relaxed},
		Seed:  7, // both lives last until calls are answered
		Cuts:  2, Method: "both", Clients: 16, Reads: 0.25, Size: 512, Drain: time.Minute,
	}, &out)
	if err != nil || v.held() || v.Missing == 0 || v.Unrecorded == 0 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

func TestPowercutOfTheRunningBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	var out bytes.Buffer
	v, err := powercut(t.Context(), options{
		Setup: rig.Setup{Caddy: built},
		Cuts:  4, Method: "both", Clients: 32, Reads: 0.5, Pause: 5 * time.Millisecond, Size: 512, Segment: "1MiB", Drain: time.Minute,
	}, &out)
	if err != nil || !v.held() {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

func TestARunThatIsBrokenOffLeavesNothingMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if mounts, _ := filepath.Glob(filepath.Join(os.TempDir(), "audit-powercut-*", "site", "audit", "buffer")); len(mounts) > 0 {
				return
			}
		}
	}()
	_, err := powercut(ctx, options{Setup: rig.Setup{Caddy: built}, Cuts: 1000, Method: "both", Clients: 4, Size: 512}, &bytes.Buffer{})
	if err == nil {
		t.Error("a run that was broken off ended well")
	}
	tidy(t)
}

// inTempDir runs a test where the evidence of a run that has to fail does not
// stay behind.
func inTempDir(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "powercut-test-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
}

// tidy fails when something is still mounted.
func tidy(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), os.TempDir()) {
		t.Errorf("still mounted below %s:\n%s", os.TempDir(), b)
	}
}
