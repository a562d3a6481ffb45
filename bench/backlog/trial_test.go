//go:build trials

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestBacklogOfTheRunningBuild(t *testing.T) {
	var out bytes.Buffer
	_, err := backlog(t.Context(), options{
		Entries: 200_000, Size: 600, Rounds: 1, Conns: 16, Duration: 500 * time.Millisecond, Read: 10 * time.Second, Drain: 3 * time.Second,
	}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// No bound is asserted: this machine may do a hundred things besides.
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var res result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &res); err != nil || res.Entries < 200_000 || res.Delivered == 0 || res.ReadRate == 0 || res.Append.Median == 0 {
		t.Errorf("%v: the last line is no result: %s", err, lines[len(lines)-1])
	}
}
