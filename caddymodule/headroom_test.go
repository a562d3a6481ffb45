package caddymodule

import (
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestHeadroomRespectsWhatTheOperatorHasSet(t *testing.T) {
	for _, c := range []struct {
		name  string
		gogc  bool
		limit int64
		want  int64
	}{
		{"nothing is set", false, math.MaxInt64, 16 << 20},
		{"GOGC is set", true, math.MaxInt64, 0},
		{"a container of 1 GiB", false, 1 << 30, 16 << 20},
		{"a container of 128 MiB", false, 128 << 20, 8 << 20},
		{"a limit that leaves nothing", false, 0, 0},
	} {
		if got := headroomFor(c.gogc, c.limit); got != c.want {
			t.Errorf("%s: holding %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// The process must not collect before the heap has grown by the headroom as well.
func TestHeadroomMovesTheCollector(t *testing.T) {
	live := func() (n uint64) {
		runtime.GC()
		runtime.GC() // what pools keep, they keep for one
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before := live()
	held := holdPieces(headroom)
	after := live()
	runtime.KeepAlive(held)
	if after < before+headroom/2 { // other tests' garbage may be gone now
		t.Errorf("the collector counts %d bytes in use with the headroom and %d without", after, before)
	}
}
