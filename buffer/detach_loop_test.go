package buffer

import (
	"bytes"
	"testing"
	"time"
)

// The gap that tells that a store is detached must not be what detaches it again.
func TestADeadStoreWithASmallShareMakesNoGapsForEver(t *testing.T) {
	t.Parallel()
	var g gaps
	b := open(t, newDir(t), Options{Gap: g.entry, MaxSize: 1 << 20, SegmentSize: 1 << 20})
	if err := b.Attach("s", Attachment{Destination: "host-a", MaxLag: 1 << 20 / 1000}); err != nil { // detachable 0.1%
		t.Fatal(err)
	}
	if err := b.Append(bytes.Repeat([]byte("x"), 2000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(12 * tickEvery)
	g.mu.Lock()
	n := len(g.list)
	g.mu.Unlock()
	if n > 5 {
		t.Errorf("one entry was recorded, and %d gaps tell of it and of each other", n)
	}
	shut(t, b)
}
