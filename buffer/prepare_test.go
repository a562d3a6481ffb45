package buffer

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// sizes are those of the files that a pattern names.
func sizes(t *testing.T, dir, pattern string) (all []int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			all = append(all, info.Size())
		}
	}
	return all
}

// busy appends numbers with so many bytes each.
func busy(t *testing.T, b *Buffer, from, to uint64, bytes int) {
	t.Helper()
	var callers sync.WaitGroup
	numbers := make(chan uint64)
	for range 16 {
		callers.Go(func() {
			for n := range numbers {
				if err := b.Append(binary.BigEndian.AppendUint64(make([]byte, bytes), n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := from; n < to; n++ {
		numbers <- n
	}
	close(numbers)
	callers.Wait()
}

func TestABusyBufferGoesOnInFilesThatHaveTheirSize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "buffer")
	const bound = 16 << 20
	b, err := Open(dir, Options{MaxWait: time.Minute, SegmentSize: bound, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	more := func() { busy(t, b, n, n+100, 16<<10); n += 100 }
	filled := func() bool {
		b.segMu.Lock()
		defer b.segMu.Unlock()
		return b.segments[len(b.segments)-1].filled > 0
	}
	for deadline := time.Now().Add(time.Minute); !filled(); more() {
		if time.Now().After(deadline) {
			t.Fatalf("no segment was begun in a file that had its size, of %d entries", n)
		}
	}
	more()
	used := b.Stats().Bytes
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	var all int64
	for _, size := range sizes(t, dir, "seg-*.db") {
		all += size
	}
	// Those before grow in steps of their own.
	if all > used+growBy*int64(len(sizes(t, dir, "seg-*.db"))) {
		t.Errorf("the files have %d bytes, and %d of them are in use", all, used)
	}
	if left := sizes(t, dir, "*.tmp"); len(left) > 0 {
		t.Error("what was prepared is still there")
	}
	o, err := OpenOffline(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	seen := map[uint64]bool{}
	err = o.Read(1, func(_ uint64, payload []byte) bool {
		seen[binary.BigEndian.Uint64(payload[len(payload)-8:])] = true
		return true
	})
	if err != nil || uint64(len(seen)) != n {
		t.Errorf("%v: %d of %d entries are there", err, len(seen), n)
	}
}

func TestABufferThatHardlyAnybodyUsesTakesNoRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "buffer")
	b, err := Open(dir, Options{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	busy(t, b, 0, 50, 1000)
	time.Sleep(50 * time.Millisecond)
	if left := sizes(t, dir, nextName); len(left) > 0 {
		t.Error("a file was prepared that will not be needed for long")
	}
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
