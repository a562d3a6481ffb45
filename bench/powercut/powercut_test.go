//go:build linux

package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testDevice(t *testing.T) *device {
	t.Helper()
	d, err := newDevice(1<<20, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.data != nil {
			d.free()
		}
	})
	return d
}

func fill(t *testing.T, d *device, at int64, with byte) {
	t.Helper()
	b := bytes.Repeat([]byte{with}, blockSize)
	if n, errno := d.Write(t.Context(), nil, b, at); errno != 0 || int(n) != len(b) {
		t.Fatalf("writing: %d, %v", n, errno)
	}
}

// written counts the sectors of a block that hold b, and fails if one holds
// anything but b or other.
func written(t *testing.T, d *device, at int64, b, other byte) int {
	t.Helper()
	n := 0
	for s := at; s < at+blockSize; s += sectorSize {
		sector := d.data[s : s+sectorSize]
		switch {
		case bytes.Count(sector, []byte{b}) == sectorSize:
			n++
		case bytes.Count(sector, []byte{other}) != sectorSize:
			t.Errorf("the sector at %d is torn: %d and %d", s, sector[0], sector[sectorSize-1])
		}
	}
	return n
}

func TestACutKeepsWhatWasFlushedAndChanceTheRest(t *testing.T) {
	const all = blockSize / sectorSize
	for _, c := range []struct {
		survive  float64
		from, to int
	}{{0, 0, 0}, {1, all, all}, {0.5, 1, all - 1}} {
		d := testDevice(t)
		fill(t, d, 0, 1)
		fill(t, d, 8192, 1)
		if errno := d.Fsync(t.Context(), nil, 0); errno != 0 {
			t.Fatal(errno)
		}
		fill(t, d, 0, 2)
		fill(t, d, 4096, 3)
		lost := d.cut(c.survive)
		if n := written(t, d, 8192, 1, 0); n != all {
			t.Errorf("survive %g: of a flushed block %d sectors are left", c.survive, n)
		}
		newer, fresh := written(t, d, 0, 2, 1), written(t, d, 4096, 3, 0)
		for _, n := range []int{newer, fresh} {
			if n < c.from || n > c.to {
				t.Errorf("survive %g: %d sectors of an unflushed block did", c.survive, n)
			}
		}
		if lost != 2*all-newer-fresh {
			t.Errorf("survive %g: says that %d were lost, and %d were", c.survive, lost, 2*all-newer-fresh)
		}
		if _, errno := d.Write(t.Context(), nil, make([]byte, blockSize), 0); errno != unix.EIO {
			t.Errorf("writing to a dead disk: %v", errno)
		}
		if errno := d.Fsync(t.Context(), nil, 0); errno != unix.EIO {
			t.Errorf("flushing a dead disk: %v", errno)
		}
		if _, errno := d.Read(t.Context(), nil, make([]byte, 1), 0); errno != unix.EIO {
			t.Errorf("reading a dead disk: %v", errno)
		}
	}
}

// What comes while a flush is under way is not flushed by it, and a cut in its
// middle loses both.
func TestACutInTheMiddleOfAFlush(t *testing.T) {
	d := testDevice(t)
	fill(t, d, 0, 1)
	if errno := d.Fsync(t.Context(), nil, 0); errno != 0 {
		t.Fatal(errno)
	}
	fill(t, d, 0, 2)
	cut := make(chan int)
	go func() { cut <- d.cutFlushing(0) }()
	for armed := false; !armed; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		armed = d.armed != nil
		d.mu.Unlock()
	}
	if errno := d.Fsync(t.Context(), nil, 0); errno != unix.EIO {
		t.Errorf("a flush that was cut: %v", errno)
	}
	<-cut
	if n := written(t, d, 0, 1, 0); n != blockSize/sectorSize {
		t.Errorf("%d sectors are what was flushed before", n)
	}
}

// Flushes end in any order; nothing that an ended one covers may go.
func TestFlushesAtTheSameTime(t *testing.T) {
	d := testDevice(t)
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(1, 1))
	for n := range byte(200) {
		at := rnd.Int64N(8) * blockSize
		fill(t, d, at, n+1)
		other := make(chan unix.Errno)
		go func() { other <- d.Fsync(ctx, nil, 0) }()
		if errno := d.Fsync(ctx, nil, 0); errno != 0 {
			t.Fatal(errno)
		}
		d.mu.Lock()
		for _, c := range d.caches {
			if c[at] != nil {
				t.Errorf("what was flushed is still in a cache")
			}
		}
		d.mu.Unlock()
		<-other
	}
	if len(d.caches) != 1 {
		t.Errorf("%d caches are left", len(d.caches))
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, o := range []options{
		{Cuts: 1, Clients: 1, Size: 512, Method: "axe"},
		{Cuts: 0, Clients: 1, Size: 512, Method: "both"},
		{Cuts: 1, Clients: 1, Size: 1, Method: "both"},
	} {
		if _, err := powercut(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "-") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
