//go:build linux && root

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func fakeRun(ctx context.Context, t *testing.T, mode, fault string) (v *verdict, out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	v, err = diskfull(ctx, options{
		Setup:   rig.Setup{Caddy: self, Caddyfile: "../../Caddyfile", Env: []string{"FAKE_PRODUCT=1", "FAKE_FAULT=" + fault}},
		OnFault: mode, Cause: disk, For: time.Second, Warm: 300 * time.Millisecond, After: 500 * time.Millisecond,
		// Far more than the fake, which removes nothing, can fill by itself.
		Drain: time.Minute, Clients: 64, Reads: 0.5, Disk: 128, MinFree: "4MiB",
	}, &b)
	return v, b.String(), err
}

func TestWholeRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts filesystems and fills them")
	}
	for _, c := range []struct {
		mode, fault string
		count       func(*result) int // nil: the promise is kept
	}{
		{both, "", nil},
		{both, "stored twice", func(v *result) int { return v.Duplicates }},
		{both, "late ones are lost", func(v *result) int { return v.Missing + v.WrongCounts }},
		{reject, "refuses what was done", func(v *result) int { return v.RefusedReached }},
		{reject, "withholds what was done", func(v *result) int { return v.RefusedReached }},
		{reject, "hides what it withheld", func(v *result) int { return v.RefusedReached }},
		{reject, "miscounts", func(v *result) int { return v.WrongCounts }},
		{pass, "counts too few", func(v *result) int { return v.WrongCounts }},
	} {
		t.Run(c.mode+" "+c.fault, func(t *testing.T) {
			t.Parallel()
			v, out, err := fakeRun(t.Context(), t, c.mode, c.fault)
			if err != nil || v.Held != (c.count == nil) {
				t.Errorf("%v\n%s", err, out)
			}
			for _, r := range v.Trials {
				if c.count != nil && c.count(r) == 0 {
					t.Errorf("%s was not noticed: %+v", c.fault, r)
				}
			}
		})
	}
}

func TestARunThatIsBrokenOffCleansUp(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts a filesystem and fills it")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // while there is no room
	defer cancel()
	v, out, err := fakeRun(ctx, t, reject, "never again")
	if err == nil || v.Held || errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v\n%s", err, out)
	}
}

func TestTheRunningBuildOnAFullDisk(t *testing.T) { withoutRoom(t, disk) }
