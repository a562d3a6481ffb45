//go:build trials

package main

import (
	"bytes"
	"testing"
)

// All trials, with every store, are CI's second stage: they take minutes.
func TestOutagesOfTheRunningBuild(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	v, err := outage(t.Context(), short(trialOutage+",quarantine", "http"), &out)
	if err != nil || !v.Held {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
}
