//go:build linux

package faultfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or directory of the directory behind.
type node struct {
	*fs.LoopbackNode
	f *FS
}

// WrapChild implements fs.NodeWrapChilder.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), f: n.f}
}

// keepPages says that the kernel's pages stay when a file is opened again. All
// changes come through them.
const keepPages = fuse.FOPEN_KEEP_CACHE

// Open implements fs.NodeOpener.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	open := func() (fs.FileHandle, syscall.Errno) {
		fh, _, errno := n.LoopbackNode.Open(ctx, flags)
		return fh, errno
	}
	var fh fs.FileHandle
	var errno syscall.Errno
	if flags&syscall.O_TRUNC != 0 {
		errno = n.f.do(Truncate, func() (errno syscall.Errno) {
			fh, errno = open()
			return errno
		})
	} else {
		fh, errno = open()
	}
	if errno != 0 {
		if lf, ok := fh.(*fs.LoopbackFile); ok {
			_ = lf.Release(ctx) // its opening is in doubt, and nobody has it
		}
		return nil, 0, errno
	}
	return &file{behind: fh.(*fs.LoopbackFile), f: n.f}, keepPages, 0
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (inode *fs.Inode, fh fs.FileHandle, fuseFlags uint32, errno syscall.Errno) {
	errno = n.f.do(Create, func() (errno syscall.Errno) {
		inode, fh, _, errno = n.LoopbackNode.Create(ctx, name, flags, mode, out)
		return errno
	})
	if errno != 0 {
		if lf, ok := fh.(*fs.LoopbackFile); ok {
			_ = lf.Release(ctx)
		}
		return nil, nil, 0, errno
	}
	return inode, &file{behind: fh.(*fs.LoopbackFile), f: n.f}, keepPages, 0
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(ctx context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	return n.f.do(Rename, func() syscall.Errno { return n.LoopbackNode.Rename(ctx, name, to, newName, flags) })
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.f.do(Unlink, func() syscall.Errno { return n.LoopbackNode.Unlink(ctx, name) })
}

// Setattr implements fs.NodeSetattrer.
func (n *node) Setattr(ctx context.Context, fh fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	set := func() syscall.Errno {
		if f, ok := fh.(*file); ok {
			return f.behind.Setattr(ctx, in, out)
		}
		return n.LoopbackNode.Setattr(ctx, nil, in, out)
	}
	if _, sizes := in.GetSize(); sizes {
		return n.f.do(Truncate, set)
	}
	return set()
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fh, _, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &dir{stream: fh.(stream), f: n.f}, 0, 0
}

// stream is an open directory of the directory behind.
type stream interface {
	fs.FileReleasedirer
	fs.FileSeekdirer
	fs.FileFsyncdirer
	fs.FileReaddirenter
}

type dir struct {
	stream
	f *FS
}

// Fsyncdir implements fs.FileFsyncdirer.
func (d *dir) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return d.f.do(SyncDir, func() syscall.Errno { return d.stream.Fsyncdir(ctx, flags) })
}

// file is an open file. It does not embed what it stands for: that knows ways
// around Write, which the server would take.
type file struct {
	behind *fs.LoopbackFile
	f      *FS
}

// Read implements fs.FileReader.
func (o *file) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return o.behind.Read(ctx, dest, off)
}

// Write implements fs.FileWriter.
func (o *file) Write(ctx context.Context, b []byte, off int64) (uint32, syscall.Errno) {
	kind, errno := o.f.meet(Write)
	switch {
	case kind == Short && len(b) < 2:
		return 0, syscall.EIO
	case kind == Short:
		b = b[:len(b)/2]
	case kind == Doubt:
		if _, failed := o.behind.Write(ctx, b, off); failed != 0 {
			return 0, failed
		}
		return 0, errno
	case errno != 0:
		return 0, errno
	}
	return o.behind.Write(ctx, b, off)
}

// Fsync implements fs.FileFsyncer.
func (o *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	return o.f.do(Fsync, func() syscall.Errno { return o.behind.Fsync(ctx, flags) })
}

// Allocate implements fs.FileAllocater.
func (o *file) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	return o.f.do(Allocate, func() syscall.Errno { return o.behind.Allocate(ctx, off, size, mode) })
}

// Getattr implements fs.FileGetattrer.
func (o *file) Getattr(ctx context.Context, out *fuse.AttrOut) syscall.Errno {
	return o.behind.Getattr(ctx, out)
}

// Lseek implements fs.FileLseeker.
func (o *file) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	return o.behind.Lseek(ctx, off, whence)
}

// Flush implements fs.FileFlusher.
func (o *file) Flush(ctx context.Context) syscall.Errno { return o.behind.Flush(ctx) }

// Release implements fs.FileReleaser.
func (o *file) Release(ctx context.Context) syscall.Errno { return o.behind.Release(ctx) }

var (
	_ fs.NodeWrapChilder    = (*node)(nil)
	_ fs.NodeOpener         = (*node)(nil)
	_ fs.NodeCreater        = (*node)(nil)
	_ fs.NodeRenamer        = (*node)(nil)
	_ fs.NodeUnlinker       = (*node)(nil)
	_ fs.NodeSetattrer      = (*node)(nil)
	_ fs.NodeOpendirHandler = (*node)(nil)
	_ fs.FileFsyncdirer     = (*dir)(nil)
	_ fs.FileReader         = (*file)(nil)
	_ fs.FileWriter         = (*file)(nil)
	_ fs.FileFsyncer        = (*file)(nil)
	_ fs.FileAllocater      = (*file)(nil)
	_ fs.FileGetattrer      = (*file)(nil)
	_ fs.FileLseeker        = (*file)(nil)
	_ fs.FileFlusher        = (*file)(nil)
	_ fs.FileReleaser       = (*file)(nil)
)
