//go:build linux && root

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
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
		dir, err := os.MkdirTemp("", "faultdisk-test-")
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

func TestFaultdiskOfTheRunningBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	var out bytes.Buffer
	o := brief("write error,fsync error,fsync hang,syncdir doubt,rename hang,create error,unlink error,truncate full")
	o.Caddy = built
	v, err := faultdisk(t.Context(), o, &out)
	if err != nil || !v.held() || v.Refused == 0 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

// A product that does not record what passes must be noticed, which here is
// told not to.
func TestAProductThatDoesNotRecordIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	shipped, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	const probes = "@probes path "
	if !bytes.Contains(shipped, []byte(probes)) {
		t.Fatalf("the shipped Caddyfile has no %q", probes)
	}
	blind := filepath.Join(os.TempDir(), "Caddyfile")
	if err := os.WriteFile(blind, bytes.Replace(shipped, []byte(probes), []byte(probes+"/v1/branches/* "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	o := brief("fsync error")
	o.Caddy, o.Caddyfile = built, blind
	var out bytes.Buffer
	v, err := faultdisk(t.Context(), o, &out)
	if err != nil || v.held() || v.Missing == 0 || v.Unrecorded == 0 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

// A product that dies of a fault must be noticed.
func TestAProductThatDiesIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	o := brief("fsync error")
	o.Caddy = mortal(t)
	o.Ill = time.Minute // which its end cuts short
	v, err := faultdisk(t.Context(), o, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %+v, %v", v, err)
	}
	tidy(t)
}

// mortal is a command that is the build, and ends when the disk fails.
func mortal(t *testing.T) string {
	t.Helper()
	path := filepath.Join(os.TempDir(), "mortal")
	script := fmt.Sprintf("#!/bin/sh\n%s \"$@\" 2>&1 &\nwhile ! grep -q 'disk fails' caddy.log 2>/dev/null; do sleep 0.05; kill -0 $! || exit; done\nkill -9 $!\n", built)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestARunThatIsBrokenOffLeavesNothingMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			segments, _ := filepath.Glob(filepath.Join(os.TempDir(), "audit-faultdisk-*", "behind", "seg-*.db"))
			if len(segments) > 0 {
				time.Sleep(time.Second) // into the fault
				cancel()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	o := brief("fsync hang")
	o.Caddy = built
	o.Ill = time.Hour
	if _, err := faultdisk(ctx, o, &bytes.Buffer{}); err == nil {
		t.Error("a run that was broken off ended well")
	}
	tidy(t)
}

// inTempDir runs a test where the evidence of a run that has to fail does not
// stay behind.
func inTempDir(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "faultdisk-test-") // t.TempDir is too long for a socket
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
