//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	blockSize  = 4096
	sectorSize = 512
	imageName  = "disk.img"
)

// device is a disk in memory with a write cache that loses its power: what was
// flushed stays, and of what was written since, each sector stays or goes by
// chance. It is shown as one file of a filesystem of its own, for a loop device
// to stand on, so that it stops at one instant, which copying a file that is
// being written cannot do.
type device struct {
	fs.Inode
	rnd *rand.Rand
	// lies says that a flush does nothing, by which tests show that a cut loses
	// what was not flushed.
	lies bool

	mu   sync.Mutex
	data []byte
	// caches hold, for each block that was written since a flush, what it was
	// before. The last one gathers; one before it belongs to a flush that is
	// under way.
	caches []map[int64][]byte
	flush  uint64 // number of the gathering cache
	dead   bool
	// armed makes the next flush that is under way the moment of a cut.
	armed func()
}

func newDevice(size int64, seed uint64) (*device, error) {
	data, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("making a disk of %d bytes in memory: %w", size, err)
	}
	return &device{rnd: rand.New(rand.NewPCG(seed, 0)), data: data, caches: []map[int64][]byte{{}}}, nil
}

func (d *device) free() { _ = unix.Munmap(d.data) }

// survivor is the device as it is when the power is back. The dead one answers
// everything with an error from here on and must not be used otherwise.
func (d *device) survivor() *device {
	d.mu.Lock()
	defer d.mu.Unlock()
	data := d.data
	d.data, d.dead = nil, true
	return &device{rnd: d.rnd, lies: d.lies, data: data, caches: []map[int64][]byte{{}}}
}

// cut takes the power away. Each sector that was not flushed survives with
// that chance; one that does not is what it was before.
func (d *device) cut(survive float64) (lost int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.die(survive)
}

// cutFlushing is cut in the middle of the next flush, or after a while.
func (d *device) cutFlushing(survive float64) (lost int) {
	cut := make(chan int, 1)
	d.mu.Lock()
	d.armed = func() { cut <- d.die(survive) }
	d.mu.Unlock()
	select {
	case lost = <-cut:
		return lost
	case <-time.After(time.Second):
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = nil
	if d.dead {
		return <-cut
	}
	return d.die(survive)
}

func (d *device) die(survive float64) (lost int) {
	d.dead = true
	settled := map[int64]bool{} // a newer content of the sector survived
	for _, cache := range slices.Backward(d.caches) {
		for at, before := range cache {
			for s := at; s < at+blockSize; s += sectorSize {
				if settled[s] {
					continue
				}
				if d.rnd.Float64() < survive {
					settled[s] = true
					continue
				}
				copy(d.data[s:s+sectorSize], before[s-at:])
				lost++
			}
		}
	}
	d.caches = []map[int64][]byte{{}}
	return lost
}

// Read implements fs.NodeReader.
func (d *device) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, syscall.EIO
	}
	if off >= int64(len(d.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, d.data[off:])]), 0
}

// Write implements fs.NodeWriter.
func (d *device) Write(_ context.Context, _ fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	end := off + int64(len(b))
	switch {
	case d.dead:
		return 0, syscall.EIO
	case end > int64(len(d.data)):
		return 0, syscall.ENOSPC
	}
	cache := d.caches[len(d.caches)-1]
	for at := off &^ (blockSize - 1); at < end; at += blockSize {
		if cache[at] == nil {
			cache[at] = append([]byte(nil), d.data[at:at+blockSize]...)
		}
	}
	return uint32(copy(d.data[off:], b)), 0
}

// Fsync implements fs.NodeFsyncer: what was written before it came is on the
// disk when it returns. It takes about as long as a disk's, so that cuts find
// flushes under way.
func (d *device) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	if d.dead || d.lies {
		defer d.mu.Unlock()
		if d.dead {
			return syscall.EIO
		}
		return 0
	}
	mine := d.flush
	d.flush++
	d.caches = append(d.caches, map[int64][]byte{})
	wait := time.Duration(d.rnd.ExpFloat64() * float64(400*time.Microsecond))
	d.mu.Unlock()
	time.Sleep(wait)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.armed != nil {
		d.armed()
		d.armed = nil
	}
	if d.dead {
		return syscall.EIO
	}
	first := d.flush - uint64(len(d.caches)-1)
	if mine >= first { // one that came later may have ended earlier
		d.caches = d.caches[mine-first+1:]
	}
	return 0
}

// Open implements fs.NodeOpener.
func (d *device) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Getattr implements fs.NodeGetattrer.
func (d *device) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Mode, out.Size, out.Blksize = syscall.S_IFREG|0o600, uint64(len(d.data)), blockSize
	return 0
}

// Setattr implements fs.NodeSetattrer: a disk does not change its size.
func (d *device) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, f, out)
}

// root is the directory that the device is shown in.
type root struct {
	fs.Inode
	d *device
}

// OnAdd implements fs.NodeOnAdder.
func (r *root) OnAdd(ctx context.Context) {
	r.AddChild(imageName, r.NewPersistentInode(ctx, r.d, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// show mounts the device's file in dir.
func (d *device) show(dir string) (*fuse.Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	forever := time.Hour
	s, err := fs.Mount(dir, &root{d: d}, &fs.Options{
		AttrTimeout: &forever, EntryTimeout: &forever,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "powercut", Name: "powercut", MaxWrite: 1 << 20, DisableXAttrs: true},
	})
	if err != nil {
		return nil, fmt.Errorf("mounting the disk's file at %s (is there /dev/fuse?): %w", dir, err)
	}
	return s, nil
}

// keep writes the disk to a file, as evidence.
func (d *device) keep(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	errs := []error{f.Truncate(int64(len(d.data)))}
	zero := make([]byte, 1<<20)
	for at := 0; at < len(d.data); at += len(zero) {
		part := d.data[at:min(at+len(zero), len(d.data))]
		if string(part) != string(zero[:len(part)]) { // holes stay holes
			_, err := f.WriteAt(part, int64(at))
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

var (
	_ fs.NodeReader    = (*device)(nil)
	_ fs.NodeWriter    = (*device)(nil)
	_ fs.NodeFsyncer   = (*device)(nil)
	_ fs.NodeOpener    = (*device)(nil)
	_ fs.NodeGetattrer = (*device)(nil)
	_ fs.NodeSetattrer = (*device)(nil)
	_ fs.NodeOnAdder   = (*root)(nil)
)

func imagePath(dir string) string { return filepath.Join(dir, imageName) }
