//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// shutdown is EXT4_IOC_SHUTDOWN; noLogFlush leaves the journal as it is,
	// as a power cut does.
	shutdown   = 0x8004587d
	noLogFlush = 2
	// patience is how long the kernel gets to let go of a loop device.
	patience = 20 * time.Second
)

// disk is an ext4 on a loop device on a device.
type disk struct {
	dev   *device
	image string // directory that shows the device
	mount string // where the ext4 is
	shown *fuse.Server
	up    bool // the ext4 is mounted
}

// possible says what is missing for a disk to be made.
func possible() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("mounting a disk needs root"))
	}
	for _, dev := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(dev); err != nil {
			errs = append(errs, fmt.Errorf("mounting a disk: %w: give the container that device, or run on a real machine", err))
		}
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		errs = append(errs, fmt.Errorf("making a filesystem: %w: install e2fsprogs", err))
	}
	return errors.Join(errs...)
}

// newDisk makes an ext4 at mount; what it stands on is shown below dir.
func newDisk(ctx context.Context, dir, mount string, size int64, seed uint64, lies bool) (_ *disk, err error) {
	dev, err := newDevice(size, seed)
	if err != nil {
		return nil, err
	}
	d := &disk{dev: dev, image: filepath.Join(dir, "device"), mount: mount}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.remove())
		}
	}()
	if err := os.MkdirAll(mount, 0o700); err != nil {
		return nil, err
	}
	if d.shown, err = dev.show(d.image); err != nil {
		return nil, err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", imagePath(d.image)); err != nil {
		return nil, err
	}
	if err := d.attach(ctx); err != nil {
		return nil, err
	}
	root, err := os.Open(mount)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return nil, fmt.Errorf("flushing the new disk: %w", err)
	}
	dev.mu.Lock()
	defer dev.mu.Unlock()
	dev.lies = lies
	return d, nil
}

// attach mounts the ext4. The loop device goes when it is unmounted.
func (d *disk) attach(ctx context.Context) error {
	if err := command(ctx, "mount", "-t", "ext4", "-o", "loop,noatime,noinit_itable", imagePath(d.image), d.mount); err != nil {
		return err
	}
	d.up = true
	return nil
}

// detach unmounts the ext4.
func (d *disk) detach() error {
	if !d.up {
		return nil
	}
	err := insist(func() error { return unix.Unmount(d.mount, 0) })
	if err != nil {
		return errors.Join(fmt.Errorf("unmounting %s: %w", d.mount, err), unix.Unmount(d.mount, unix.MNT_DETACH))
	}
	d.up = false
	return nil
}

func (d *disk) hide() error {
	if d.shown == nil {
		return nil
	}
	// The loop device holds the file until the kernel has cleared it.
	if err := insist(d.shown.Unmount); err != nil {
		return errors.Join(fmt.Errorf("unmounting %s: %w", d.image, err), unix.Unmount(d.image, unix.MNT_DETACH))
	}
	d.shown = nil
	return nil
}

// method is a way to cut the power.
type method string

const (
	byIoctl method = "ioctl"
	byCopy  method = "copy"
)

// cut takes the power away at this instant. Whoever still has files open there
// gets errors from now on.
func (d *disk) cut(m method, survive float64, flushing bool) (note string, err error) {
	switch {
	case m == byCopy && flushing:
		return fmt.Sprintf("in a flush, %d sectors lost", d.dev.cutFlushing(survive)), nil
	case m == byCopy:
		return fmt.Sprintf("%d sectors lost", d.dev.cut(survive)), nil
	}
	root, err := os.Open(d.mount)
	if err != nil {
		return "", fmt.Errorf("cutting the power of %s: %w", d.mount, err)
	}
	defer root.Close()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), shutdown, noLogFlush); err != nil {
		return "", fmt.Errorf("cutting the power of %s: %w", d.mount, err)
	}
	return "journal not flushed", nil
}

// restore brings the disk back as the cut has left it. Nobody may have a file
// open there.
func (d *disk) restore(ctx context.Context, m method) error {
	if err := d.detach(); err != nil {
		return err
	}
	if m == byCopy {
		// A new file, since the kernel knows the old one's contents.
		if err := d.hide(); err != nil {
			return err
		}
		d.dev = d.dev.survivor()
		var err error
		if d.shown, err = d.dev.show(d.image); err != nil {
			return err
		}
	}
	return d.attach(ctx)
}

// remove takes everything away again.
func (d *disk) remove() error {
	if err := errors.Join(d.detach(), d.hide()); err != nil {
		return err
	}
	d.dev.free()
	return nil
}

// insist repeats what fails while something is busy.
func insist(f func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
