//go:build unix && trials

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestEveryPartOfTheRunningBuild(t *testing.T) {
	var out bytes.Buffer
	err := speed(t.Context(), options{
		Parts: "requests,appends,pending,growth", Rounds: 1, Warmup: 50 * time.Millisecond, Start: 200 * time.Millisecond, Duration: 200 * time.Millisecond,
		Entries: 10_000, Pending: 10_000, Rows: 10_000, Quick: true,
	}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var res result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &res); err != nil || len(res.Requests) != 2*len(variants) || res.Requests[0].Rate.Median <= 0 || len(res.Bars) < 10 || len(res.Growth) != 5 {
		t.Errorf("%v: the last line is no result: %s", err, lines[len(lines)-1])
	}
}
