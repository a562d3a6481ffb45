package main

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(inTempDir(m)) }

// inTempDir runs the tests where the evidence of a run that failed does not
// stay behind.
func inTempDir(m *testing.M) int {
	dir, err := os.MkdirTemp("", "corruption-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	return m.Run()
}

func TestCorruptionOfTheRunningBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	var out bytes.Buffer
	v, err := corruption(t.Context(), options{Damages: 20, Drain: time.Minute}, &out)
	if err != nil || !v.held() || v.Damages != 20 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
}
