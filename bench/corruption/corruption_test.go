package main

import (
	"os"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.InTempDir("corruption", m.Run)) }
