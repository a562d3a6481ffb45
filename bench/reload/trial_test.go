//go:build trials

package main

import (
	"bytes"
	"testing"
	"time"
)

func TestReloadsOfTheRunningBuild(t *testing.T) {
	var out bytes.Buffer
	v, err := reload(t.Context(), options{
		For: 3 * time.Second, Warm: 2 * time.Second, Every: 100 * time.Millisecond, Clients: 16, Rest: 10 * time.Millisecond,
	}, &out)
	if err != nil || !v.Held {
		t.Errorf("%v\n%s", err, out.String())
	}
}
