//go:build linux

package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
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

// The programs' own proof: on a disk that says it has flushed and has not, a
// cut must be seen to lose what was answered.
func TestADiskThatLiesIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	var out bytes.Buffer
	v, err := powercut(t.Context(), options{
		Cuts: 1, Method: "copy", Clients: 8, Reads: 0.25, Size: 512, Seed: 5, Drain: time.Minute, Lies: true,
	}, &out)
	if err != nil || v.held() || v.Missing == 0 || v.Unrecorded == 0 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

// So must a product that answers before it has recorded, which here is told to.
func TestAProductThatDoesNotWaitIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	shipped, err := os.ReadFile("../../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	const rule = "rule @probes none"
	if !bytes.Contains(shipped, []byte(rule)) {
		t.Fatalf("the shipped Caddyfile has no %q", rule)
	}
	relaxed := filepath.Join(os.TempDir(), "Caddyfile")
	if err := os.WriteFile(relaxed, bytes.Replace(shipped, []byte(rule), []byte("@all path /*\n\t\trule @all metadata relaxed #"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	v, err := powercut(t.Context(), options{
		Setup: rig.Setup{Caddyfile: relaxed},
		Cuts:  2, Method: "both", Clients: 16, Reads: 0.25, Size: 512, Drain: time.Minute,
	}, &out)
	if err != nil || v.held() || v.Missing == 0 || v.Unrecorded == 0 {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

func TestPowercutOfTheRunningBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	var out bytes.Buffer
	v, err := powercut(t.Context(), options{
		Cuts: 4, Method: "both", Clients: 32, Reads: 0.5, Pause: 5 * time.Millisecond, Size: 512, Segment: "1MiB", Drain: time.Minute,
	}, &out)
	if err != nil || !v.held() {
		t.Errorf("got %+v, %v\n%s", v, err, out.String())
	}
	tidy(t)
}

func TestARunThatIsBrokenOffLeavesNothingMounted(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs cmd/caddy")
	}
	inTempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if mounts, _ := filepath.Glob(filepath.Join(os.TempDir(), "audit-powercut-*", "site", "audit", "buffer")); len(mounts) > 0 {
				return
			}
		}
	}()
	_, err := powercut(ctx, options{Cuts: 1000, Method: "both", Clients: 4, Size: 512}, &bytes.Buffer{})
	if err == nil {
		t.Error("a run that was broken off ended well")
	}
	tidy(t)
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

// inTempDir runs a test where the evidence of a run that has to fail does not
// stay behind.
func inTempDir(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "powercut-test-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
}

// tidy fails when something is still mounted.
func tidy(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), os.TempDir()) {
		t.Errorf("still mounted below %s:\n%s", os.TempDir(), b)
	}
}
