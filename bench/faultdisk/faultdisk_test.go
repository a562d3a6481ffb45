//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/faultfs"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// brief is a run of a few seconds.
func brief(only string) options {
	return options{
		OnFault: "reject", Only: only, Clients: 16, Reads: 0.3, Pause: 2 * time.Millisecond,
		Ill: time.Second, Well: 300 * time.Millisecond, Heal: 20 * time.Second, MaxWait: 500 * time.Millisecond,
		Segment: "1MiB", Drain: time.Minute,
	}
}

func TestFaultdiskOfTheRunningBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	var out bytes.Buffer
	v, err := faultdisk(t.Context(), brief("write error,fsync error,fsync hang,syncdir doubt,rename hang,create error,unlink error,truncate full"), &out)
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
	o.Caddyfile = blind
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
	v, err := faultdisk(t.Context(), o, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %+v, %v", v, err)
	}
	tidy(t)
}

// mortal is a command that is the build, and ends when the disk fails.
func mortal(t *testing.T) string {
	t.Helper()
	setup, _, err := rig.Setup{}.Complete(t.Context(), "faultdisk")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(os.TempDir(), "mortal")
	script := fmt.Sprintf("#!/bin/sh\n%s \"$@\" 2>&1 &\nwhile ! grep -q 'disk fails' caddy.log 2>/dev/null; do sleep 0.05; kill -0 $! || exit; done\nkill -9 $!\n", setup.Caddy)
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
	o.Ill = time.Hour
	if _, err := faultdisk(ctx, o, &bytes.Buffer{}); err == nil {
		t.Error("a run that was broken off ended well")
	}
	tidy(t)
}

func TestEveryOperationHasItsFaults(t *testing.T) {
	has := map[string]bool{}
	for _, f := range table() {
		if has[f.String()] {
			t.Errorf("%s is there twice", f)
		}
		has[f.String()] = true
		if f.Kind == faultfs.Slow && f.Delay == 0 {
			t.Errorf("%s takes no longer", f)
		}
	}
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Fsync, faultfs.SyncDir, faultfs.Rename, faultfs.Create, faultfs.Unlink, faultfs.Truncate} {
		for _, k := range []faultfs.Kind{faultfs.Error, faultfs.Slow, faultfs.Hang, faultfs.Doubt} {
			if f := (faultfs.Fault{Op: op, Kind: k}); !has[f.String()] {
				t.Errorf("%s is missing", f)
			}
		}
	}
}

func TestFaultsAreChosenByName(t *testing.T) {
	for only, want := range map[string]int{"": len(table()), "rename hang": 1, "rename hang, fsync slow": 2, "fallocate": 3, "nothing": 0, ",": 0} {
		if got := chosen(only); len(got) != want {
			t.Errorf("%q: got %d: %v", only, len(got), got)
		}
	}
	for _, f := range chosen("all") {
		if f.Op != faultfs.All {
			t.Errorf("\"all\" chose %s", f)
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, change := range []func(*options){
		func(o *options) { o.OnFault = "shrug" },
		func(o *options) { o.Only = "nothing" },
		func(o *options) { o.Clients = 0 },
		func(o *options) { o.Reads = 2 },
	} {
		o := brief("")
		change(&o)
		if _, err := faultdisk(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "-") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestAnUnhealedOrHollowRunDoesNotHold(t *testing.T) {
	held := func() *verdict {
		v := &verdict{Faults: []illness{{Fault: "fsync error", Hits: 1}}}
		v.Acked = 1
		return v
	}
	if !held().held() {
		t.Error("a good run does not hold")
	}
	for name, spoil := range map[string]func(*verdict){
		"calls were not recorded again": func(v *verdict) { v.Unhealed = 1 },
		"a fault met nothing":           func(v *verdict) { v.Unhit = 1 },
		"no fault":                      func(v *verdict) { v.Faults = nil },
		"an answer is missing":          func(v *verdict) { v.Missing = 1 },
	} {
		v := held()
		if spoil(v); v.held() {
			t.Errorf("%s: was not noticed", name)
		}
	}
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
