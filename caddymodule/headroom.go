package caddymodule

import (
	"math"
	"os"
	"runtime/debug"
	"sync"
)

const (
	// headroom is by how many bytes more than without an audit log the heap may grow before
	// garbage is collected.
	headroom = 16 << 20
	// headroomPiece is small enough that pages which the heap has used already, and which
	// Go would write zeros to, are few.
	headroomPiece = 1 << 20
	// headroomShare bounds it where the process has a memory limit, as in a container: to the
	// 16th part of that.
	headroomShare = 16
)

// holdHeadroom has garbage collected less often, for the life of the process.
//
// Go collects when the heap has doubled. That of a proxy is so small that it does so many times
// a second under load, and each time looks at everything that is in use. So we pay with memory,
// which is cheap, instead of with processor time and with the calls that wait meanwhile. It is
// a fixed amount rather than a percentage, so that a heap that is large anyway does not get
// much larger. docs/performance.md has what it is worth.
//
// Whoever has set GOGC has decided already. The memory limit that Caddy takes from its
// container holds in any case; the collector sees to that.
//
// What it returns, and keeps, is never read or written: the collector counts it as in use, and no
// page of it is in memory.
var holdHeadroom = sync.OnceValue(func() [][]byte {
	_, set := os.LookupEnv("GOGC")
	return holdPieces(headroomFor(set, debug.SetMemoryLimit(-1)))
})

func holdPieces(bytes int64) (held [][]byte) {
	for range bytes / headroomPiece {
		held = append(held, make([]byte, headroomPiece))
	}
	return held
}

// headroomFor is how many bytes are held in a process with a memory limit, or with
// math.MaxInt64 for none.
func headroomFor(gogcSet bool, limit int64) int64 {
	if gogcSet || limit <= 0 {
		return 0
	}
	if limit == math.MaxInt64 {
		return headroom
	}
	return min(headroom, limit/headroomShare)
}
