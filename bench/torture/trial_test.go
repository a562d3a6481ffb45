//go:build trials

package main

import (
	"bytes"
	"testing"
	"time"
)

func TestTortureOfTheRunningBuild(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v, err := torture(t.Context(), options{Kills: 3, Clients: 16, Reads: 0.5, Drain: time.Minute, Reloads: true}, &out)
	if err != nil || !v.held() {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
}
