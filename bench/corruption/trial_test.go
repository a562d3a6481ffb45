//go:build trials

package main

import (
	"bytes"
	"testing"
	"time"
)

func TestCorruptionOfTheRunningBuild(t *testing.T) {
	var out bytes.Buffer
	v, err := corruption(t.Context(), options{Damages: 20, Drain: time.Minute}, &out)
	if err != nil || !v.held() || v.Damages != 20 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
}
