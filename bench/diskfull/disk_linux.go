package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// canMount says what is missing for a small filesystem.
func canMount() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting it needs root: run this as root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("mounting it needs loop devices: run this where they are, or load the module loop: %w", err)
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("install e2fsprogs and mount, and have /usr/sbin in PATH: %w", err)
		}
	}
	return nil
}

// smallDisk is an ext4 filesystem in a file, and the ballast on it.
type smallDisk struct {
	image string // the file
	dir   string // where it is mounted
	// fill is closed to end filling, filled when that has ended.
	fill   chan struct{}
	filled chan error
}

// newDisk makes and mounts a filesystem below dir.
func newDisk(dir string, mib int) (_ *smallDisk, err error) {
	d := &smallDisk{image: filepath.Join(dir, "disk.img"), dir: filepath.Join(dir, "disk")}
	defer func() {
		if err != nil {
			err = fmt.Errorf("making a small filesystem: %w", err)
		}
	}()
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Not sparse: a host that is full must not look like a disk that fails.
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(mib)<<20); err != nil {
		return nil, fmt.Errorf("allocating %d MiB for %s: %w", mib, d.image, err)
	}
	// Without blocks that are kept for root, as whom all of this runs.
	if err := tool("mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return nil, err
	}
	if err := tool("mount", "-o", "loop", d.image, d.dir); err != nil {
		return nil, err
	}
	return d, nil
}

// close unmounts it. Whoever has files open there should be gone.
func (d *smallDisk) close() error {
	err := d.release()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		busy := tool("umount", d.dir)
		if busy == nil {
			return err
		}
		if time.Since(began) > 5*time.Second {
			// Away from here at least; the rest goes with its last user.
			return errors.Join(err, busy, tool("umount", "--lazy", d.dir))
		}
	}
}

// tool is not tied to a context: a mount that is broken off leaves it open
// whether there is something to unmount.
func tool(name string, args ...string) error {
	if words, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("running %s: %w: %s", name, err, strings.TrimSpace(string(words)))
	}
	return nil
}

// press fills the disk, and goes on with whatever becomes free there: the
// build removes files that the store has taken.
func (d *smallDisk) press(context.Context) error {
	f, err := os.OpenFile(filepath.Join(d.dir, "ballast"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("filling the disk: %w", err)
	}
	size, err := grow(f, 0)
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	fill, filled := make(chan struct{}), make(chan error, 1)
	d.fill, d.filled = fill, filled
	go func() {
		var err error
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for full := true; full; {
			select {
			case <-fill:
				full = false
			case <-tick.C:
				if err == nil {
					size, err = grow(f, size)
				}
			}
		}
		filled <- errors.Join(err, f.Close(), os.Remove(f.Name()))
	}()
	return nil
}

// grow makes the ballast as large as it can become.
func grow(f *os.File, size int64) (int64, error) {
	for _, step := range []int64{1 << 20, 64 << 10, 4 << 10} {
		for {
			err := syscall.Fallocate(int(f.Fd()), 0, size, step)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			if err != nil {
				return size, fmt.Errorf("filling the disk: %w", err)
			}
			size += step
		}
	}
	return size, nil
}

// release frees what the ballast took.
func (d *smallDisk) release() error {
	if d.fill == nil {
		return nil
	}
	close(d.fill)
	d.fill = nil
	if err := <-d.filled; err != nil {
		return fmt.Errorf("freeing the disk: %w", err)
	}
	return nil
}
