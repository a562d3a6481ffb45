package caddymodule

import (
	"context"
	"time"
)

// bufferDir is the buffer's directory: the configuration's, or the running server's.
func (d *doctor) bufferDir() (dir string, ok bool) {
	switch {
	case d.app != nil:
		return d.app.dir, true
	case d.status != nil:
		return d.status.Directory, true
	}
	return "", false
}

// unread is what a check says that needs the configuration, where there is none.
func unread() []diagnosis {
	return []diagnosis{notKnown("the configuration was not read").mend("see configuration, above")}
}

// buffered is the buffer of the configuration, or the running server's.
func (d *doctor) buffered() (b buffered, ok bool) {
	switch {
	case d.app != nil:
		o := d.app.Buffer
		b = buffered{MaxSize: o.MaxSize, MinFree: o.MinFree, SegmentSize: o.SegmentSize, MaxWait: time.Duration(o.MaxWait)}
	case d.status != nil:
		b = buffered{MaxSize: d.status.BufferMaxBytes, MinFree: d.status.MinFreeBytes}
	}
	b.Directory, ok = d.bufferDir()
	return b, ok
}

// checkDisk looks at what the buffer lies on.
func checkDisk(_ context.Context, d *doctor) []diagnosis {
	b, ok := d.buffered()
	if !ok {
		return unread()
	}
	return b.disk()
}

// checkSync measures how fast the buffer's disk makes something durable.
func checkSync(ctx context.Context, d *doctor) []diagnosis {
	b, ok := d.buffered()
	if !ok {
		return unread()
	}
	return b.sync(ctx, d.within)
}

// checkUser compares who looks with whose the buffer is.
func checkUser(_ context.Context, d *doctor) []diagnosis {
	b, ok := d.buffered()
	if !ok {
		return unread()
	}
	return b.user()
}
