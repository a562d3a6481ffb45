package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.InTempDir("corruption", m.Run)) }

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
