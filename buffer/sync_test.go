package buffer

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// bbolt syncs a commit, or apply does: never neither.
func TestNoCommitEndsWithoutItsSync(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "buffer"), Options{MaxWait: time.Minute, SegmentSize: 3 << 20, filling: filling{least: 1 << 20, step: 1 << 20, from: 1, enough: 64 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	var flushed, once, twice atomic.Int64
	f := func(point string) error {
		switch point {
		case "append":
			flushed.Store(0)
		case "flush":
			flushed.Add(1)
		case "committed", "position": // the writer's own goroutine
			s := b.active()
			switch {
			case flushed.Load() == 1 && s.db.NoSync && s.filled > 0:
				once.Add(1)
			case flushed.Load() == 0 && !s.db.NoSync:
				twice.Add(1)
			default:
				t.Errorf("a commit to a segment of %d bytes, %d of them there before, was synced %d times by us; bbolt was told not to: %v", s.size, s.filled, flushed.Load(), s.db.NoSync)
			}
		}
		return nil
	}
	failpoint.Store(&f)
	for n := uint64(0); n < 20_000 && (once.Load() < 100 || twice.Load() < 1); n += 100 {
		busy(t, b, n, n+100, 700)
	}
	failpoint.Store(nil)
	if once.Load() == 0 || twice.Load() == 0 {
		t.Errorf("%d commits were synced once and %d twice: one of the two was not seen", once.Load(), twice.Load())
	}
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
