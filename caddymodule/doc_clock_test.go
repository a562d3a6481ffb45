package caddymodule

import (
	"testing"
	"time"
)

func TestWhatKeepsTheClockIsAskedOfTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		synced bool
		err    error
		want   diagnosisState
	}{"kept": {true, nil, diagnosisOK}, "not kept": {false, nil, diagnosisNotKnown}, "not said": {false, errNotSaid, diagnosisNotKnown}} {
		if d := syncedFinding(c.synced, time.Millisecond, c.err); d.State != c.want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
