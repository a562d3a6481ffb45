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
	// headroomShare bounds it where the process has a memory limit, as it has in a container:
	// so much of the limit, the 16th part.
	headroomShare = 16
)

// heldHeadroom is never read or written. The collector counts it as in use, and no page of it is
// in memory.
var heldHeadroom [][]byte

// holdHeadroom has garbage collected less often, for the life of the process.
//
// Go collects when the heap has doubled. That of a proxy is so small, 10 MiB, that it does so
// dozens of times a second under load, and each time looks at everything that is in use. What
// an audited call costs is for a good part that. So we pay with memory, which is cheap, instead of
// with processor time and with the calls that wait meanwhile. A fixed amount rather than a
// percentage: a heap that is large anyway does not get larger for it.
//
// Whoever has set GOGC has decided already. The memory limit that Caddy takes from its
// container holds in any case; the collector sees to that.
var holdHeadroom = sync.OnceFunc(func() {
	_, set := os.LookupEnv("GOGC")
	heldHeadroom = holdPieces(headroomFor(set, debug.SetMemoryLimit(-1)))
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
