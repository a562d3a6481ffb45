package commands

import (
	"context"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// bufferDir is the buffer's directory: the configuration's, or the running server's.
func (d *examination) bufferDir() (dir string, ok bool) {
	switch {
	case d.app != nil:
		return d.app.Directory(), true
	case d.status != nil:
		return d.status.Directory, true
	}
	return "", false
}

// unread is what a check says that needs the configuration, where there is none.
func unread() []doctor.Diagnosis {
	return []doctor.Diagnosis{doctor.NotKnown("the configuration was not read").Mend("see configuration, above")}
}

// buffered is the buffer of the configuration, or the running server's.
func (d *examination) buffered() (b doctor.Buffer, ok bool) {
	switch {
	case d.app != nil:
		o := d.app.BufferOptions()
		b = doctor.Buffer{MaxSize: o.MaxSize, MinFree: o.MinFree, SegmentSize: o.SegmentSize, MaxWait: o.MaxWait}
	case d.status != nil:
		b = doctor.Buffer{MaxSize: d.status.BufferMaxBytes, MinFree: d.status.MinFreeBytes}
	}
	b.Directory, ok = d.bufferDir()
	return b, ok
}

// checkDisk looks at what the buffer lies on.
func checkDisk(_ context.Context, d *examination) []doctor.Diagnosis {
	b, ok := d.buffered()
	if !ok {
		return unread()
	}
	return b.Disk()
}

// checkSync measures how fast the buffer's disk makes something durable.
func checkSync(ctx context.Context, d *examination) []doctor.Diagnosis {
	b, ok := d.buffered()
	if !ok {
		return unread()
	}
	return b.Sync(ctx, d.within)
}

// checkUser compares who looks with whose the buffer is.
func checkUser(_ context.Context, d *examination) []doctor.Diagnosis {
	b, ok := d.buffered()
	if !ok {
		return unread()
	}
	return b.User()
}
