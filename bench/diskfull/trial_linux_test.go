//go:build root || trials

package main

import (
	"bytes"
	"testing"
	"time"
)

// withoutRoom is a short run of the build, in both modes.
func withoutRoom(t *testing.T, cause string) {
	t.Helper()
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
