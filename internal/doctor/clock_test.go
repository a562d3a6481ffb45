package doctor

import (
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

func TestWhatKeepsTheClockIsAskedOfTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		synced bool
		err    error
		want   State
	}{"kept": {true, nil, StateOK}, "not kept": {false, nil, StateNotKnown}, "not said": {false, machine.ErrNotSaid, StateNotKnown}} {
		if d := syncedFinding(c.synced, time.Millisecond, c.err); d.State != c.want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
