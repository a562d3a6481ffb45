//go:build linux

// Package faultfs is a filesystem that does what the directory behind it does,
// until it is told to fail. It is mounted through FUSE, so that any process can
// use it, and its faults are set and healed while it is used.
//
// It stays coherent with memory maps: nothing is cached beside the kernel's
// pages, and what is written goes through them.
package faultfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Op is an operation that can be made to fail.
type Op string

// Operations.
const (
	Write    Op = "write"
	Fsync    Op = "fsync"
	SyncDir  Op = "syncdir" // fsync of a directory
	Rename   Op = "rename"
	Create   Op = "create"
	Unlink   Op = "unlink"
	Truncate Op = "truncate" // growing a file by its size is one too
	Allocate Op = "fallocate"
	All      Op = "all" // each of the above
)

// Kind is how an operation fails.
type Kind string

// Kinds of faults.
const (
	// Error does nothing and returns EIO.
	Error Kind = "error"
	// Full does nothing and returns ENOSPC.
	Full Kind = "full"
	// Slow takes Delay longer.
	Slow Kind = "slow"
	// Hang does not return before the fault is healed, and then does its work.
	Hang Kind = "hang"
	// Short does the first half of a write, and says so; after a write of one
	// byte there is no half. Other operations know no half and are done whole.
	Short Kind = "short"
	// Doubt does its work and then returns EIO all the same.
	Doubt Kind = "doubt"
)

// Fault is what is to go wrong.
type Fault struct {
	Op   Op
	Kind Kind
	// Delay is for Slow.
	Delay time.Duration
	// Chance is how likely an operation is hit; 0 is always.
	Chance float64
	// Nth lets only the n-th operation from now on be hit; 0 is any.
	Nth int
}

func (f Fault) String() string {
	s := string(f.Op) + " " + string(f.Kind)
	if f.Chance != 0 {
		s += fmt.Sprintf(", chance %g", f.Chance)
	}
	if f.Nth != 0 {
		s += fmt.Sprintf(", number %d", f.Nth)
	}
	return s
}

// FS is a mounted filesystem. Its methods are safe for concurrent use.
type FS struct {
	dir    string
	server *fuse.Server

	mu     sync.Mutex
	faults []Fault
	seen   []int // operations that each fault has met
	hits   int
	healed chan struct{} // closed by Heal
}

// Mount shows the directory behind at dir. It needs root and /dev/fuse.
//
// The process that mounts must not map a file there into its own memory: a
// page fault that waits for this process's answer can keep it from answering.
func Mount(dir, behind string) (*FS, error) {
	f := &FS{dir: dir, healed: make(chan struct{})}
	var st syscall.Stat_t
	if err := syscall.Stat(behind, &st); err != nil {
		return nil, fmt.Errorf("mounting %s at %s: %w", behind, dir, err)
	}
	data := &fs.LoopbackRoot{Path: behind, Dev: st.Dev}
	root := &node{LoopbackNode: &fs.LoopbackNode{RootData: data}, f: f}
	data.RootNode = root
	// What an operation in doubt has left behind must be seen at once, so no
	// name is remembered.
	var never time.Duration
	s, err := fs.Mount(dir, root, &fs.Options{
		AttrTimeout: &never, EntryTimeout: &never, NegativeTimeout: &never,
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, FsName: behind, Name: "faultfs", AllowOther: true,
			DisableXAttrs: true, ExplicitDataCacheControl: true, MaxWrite: 1 << 20,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mounting %s at %s (this needs root and /dev/fuse): %w", behind, dir, err)
	}
	f.server = s
	return f, nil
}

// Unmount heals and takes the filesystem away. Files that are still open there
// are an error, and give errors from then on.
func (f *FS) Unmount() error {
	f.Heal()
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f.server.Unmount(); err == nil {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("unmounting %s: %w", f.dir, err), unix.Unmount(f.dir, unix.MNT_DETACH))
}

// Set lets the given faults happen, and no others, from now on.
func (f *FS) Set(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.healed)
	f.healed = make(chan struct{})
	f.faults, f.seen, f.hits = faults, make([]int, len(faults)), 0
}

// Heal ends all faults.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.healed)
	f.healed = make(chan struct{})
	f.faults = nil
}

// Hits is how many operations were hit since the last Set.
func (f *FS) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// meet is called by each operation before its work. It waits as the faults
// say, and returns what else is to happen, and with which error.
//
// It does not end early when the caller is interrupted: a disk that hangs does
// not either, and Go's runtime interrupts its threads all the time.
func (f *FS) meet(op Op) (Kind, syscall.Errno) {
	f.mu.Lock()
	var hit Fault
	for i, ft := range f.faults {
		if ft.Op != op && ft.Op != All {
			continue
		}
		f.seen[i]++
		if ft.Nth != 0 && ft.Nth != f.seen[i] || ft.Chance != 0 && rand.Float64() >= ft.Chance {
			continue
		}
		hit = ft
		f.hits++
		break
	}
	healed := f.healed
	f.mu.Unlock()
	switch hit.Kind {
	case Error, Doubt:
		return hit.Kind, syscall.EIO
	case Full:
		return hit.Kind, syscall.ENOSPC
	case Slow:
		time.Sleep(hit.Delay)
	case Hang:
		<-healed
	case Short:
		return Short, 0
	}
	return "", 0
}

// do does the work of an operation that knows no half.
func (f *FS) do(op Op, work func() syscall.Errno) syscall.Errno {
	kind, errno := f.meet(op)
	if errno != 0 && kind != Doubt {
		return errno
	}
	if failed := work(); failed != 0 {
		return failed
	}
	return errno
}

// Possible says what is missing for a filesystem to be mounted.
func Possible() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("mounting a filesystem needs root"))
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		errs = append(errs, fmt.Errorf("mounting a filesystem: %w: give the container that device, or run on a real machine", err))
	}
	return errors.Join(errs...)
}
