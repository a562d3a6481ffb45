package buffer

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// errNotOwned says that the lock is not where it was.
var errNotOwned = errors.New("the buffer's lock was removed")

// owned reports whether the directory was still this process's when a commit had
// ended, to its segments or to quarantine. A lock that somebody has deleted keeps nobody out, and another process that
// has opened the directory since may not have seen what was committed: one that
// opens it later does.
func (b *Buffer) owned() error {
	b.mu.Lock()
	lock := b.lock
	b.mu.Unlock()
	// It comes with each commit, so the file that is open is not asked what it is.
	is, err := os.Stat(filepath.Join(b.dir, lockName))
	if err != nil || !os.SameFile(is, lock.is) {
		return errNotOwned
	}
	return nil
}

// own sees to it that the directory is there and that the lock in it is ours.
func (b *Buffer) own() error {
	if b.owned() == nil {
		return nil
	}
	path := filepath.Join(b.dir, lockName)
	if err := makeDir(b.dir); err != nil {
		return err
	}
	lock, err := takeLock(b.dir)
	if err != nil {
		return fmt.Errorf("taking the lock %q again, which was removed: %w", path, err)
	}
	if err := b.foreign(); err != nil {
		_ = lock.Close()
		return err
	}
	b.log().Error("the buffer's lock was removed; it is made anew", "lock", path)
	_ = b.lock.Close()
	b.mu.Lock()
	b.lock = lock
	if home := homeOf(lock.File); b.state.Home != "" && home != "" {
		b.state.Home, b.dirty = home, true
	}
	b.mu.Unlock()
	return nil
}

// foreign looks for a segment that another process has begun while the lock was away.
// Its entries are numbered as ours would be, so nothing more can be appended here.
func (b *Buffer) foreign() error {
	segs, err := listSegments(b.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	b.segMu.Lock()
	defer b.segMu.Unlock()
	for _, s := range segs {
		if !slices.ContainsFunc(b.segments, func(o *segment) bool { return o.first == s.first }) {
			return fmt.Errorf("another process has written segment %q since the lock was removed: restart this one", s.path)
		}
	}
	return nil
}

// same reports whether a path still names an open file.
func same(path string, f *os.File) bool {
	is, err := os.Stat(path)
	if err != nil {
		return false
	}
	was, err := f.Stat()
	return err == nil && os.SameFile(is, was)
}

// watch looks for files that somebody has deleted or put another in the place of.
// As long as they are open here nothing is lost: the active segment is given up for
// a new one, and the others are written again. Only the writer calls it.
func (b *Buffer) watch() {
	if err := b.own(); err != nil {
		b.fails(err)
		b.mustReplace = true
		return
	}
	b.marker.rescue(b.dir, b.log())
	b.segMu.Lock()
	segs := slices.Clone(b.segments)
	for _, s := range segs {
		s.refs++
	}
	b.segMu.Unlock()
	for i, s := range segs {
		active := i == len(segs)-1 && s.db != nil
		gone := false
		// One that is being read is looked at the next time: a reader may take long, and
		// calls wait for the writer.
		if s.mu.TryLock() {
			gone = s.file != nil && !same(s.path, s.file)
			s.mu.Unlock()
		}
		switch {
		case !gone:
		case active:
			b.log().Error("the active segment was deleted or replaced behind our back; a new one is begun", "segment", s.path)
			b.mustReplace = true
			b.mu.Lock()
			b.dirty = true // so that it happens now
			b.mu.Unlock()
		case s.rescued.TryLock():
			// Not by the writer: calls would wait for gigabytes.
			b.sealing.Go(func() {
				defer b.releaseSegment(s)
				defer s.rescued.Unlock()
				b.rescue(s)
			})
			continue
		}
		b.releaseSegment(s)
	}
}

// rescue writes a sealed segment again whose file was deleted, from the file as it
// is still open here. Another file in its place is set aside.
func (b *Buffer) rescue(s *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil || same(s.path, s.file) {
		return
	}
	err := func() error {
		if _, err := os.Lstat(s.path); err == nil {
			if err := os.Rename(s.path, s.path+".replaced"); err != nil {
				return err
			}
		}
		tmp := s.path + ".tmp"
		f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, segmentMode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, io.NewSectionReader(s.file, 0, 1<<62))
		if err = errors.Join(err, f.Sync()); err == nil {
			err = os.Rename(tmp, s.path)
		}
		if err == nil {
			err = syncDir(b.dir)
		}
		if err != nil {
			return errors.Join(err, f.Close(), os.Remove(tmp))
		}
		_ = s.file.Close()
		s.file, s.view = f, nil
		return nil
	}()
	if err != nil {
		if s.rescuing.failed() {
			b.log().Error("writing a segment again that was deleted behind our back; it is tried again each second", "segment", s.path, "error", err)
		}
		return
	}
	s.rescuing.ended()
	b.log().Error("a segment was deleted or replaced behind our back; it is written again", "segment", s.path)
}
