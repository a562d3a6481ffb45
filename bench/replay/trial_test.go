//go:build trials

package main

import (
	"bytes"
	"testing"
)

func TestReplayOfTheRunningBuild(t *testing.T) {
	var out bytes.Buffer
	res, err := replay(t.Context(), options{}, &out)
	if err != nil || !res.ok() {
		t.Errorf("got %+v, %v\n%s", res, err, out.String())
	}
}
