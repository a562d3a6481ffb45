package file

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// idleLines is how much memory for lines is kept between batches.
const idleLines = 8 << 20

// Write appends the batch, a line for each entry, and syncs it. After an error
// nothing of it is in the file, or what is there is cut off before the next attempt.
// Every error is one to try again. The context is looked at before the first byte;
// what delays the end beyond that is the disk.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(ctx, batch); err != nil {
		return fmt.Errorf("writing to audit store %q: %w%s", s.Path, err, cure(err))
	}
	return nil
}

func (s *Store) write(ctx context.Context, batch []forwarder.Record) error {
	if s.closed {
		return errors.New("it is closed")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(batch) == 0 {
		return nil
	}
	if cap(s.lines) > idleLines {
		s.lines = nil
	}
	s.lines = appendLines(s.lines[:0], batch)
	if err := s.lock.hold(); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.dateLive(); err != nil {
		return err
	}
	if s.isDue(len(s.lines)) {
		if err := s.rotate(); err != nil {
			return fmt.Errorf("rotating it: %w", err)
		}
		if err := s.ready(); err != nil {
			return err
		}
	}
	if err := s.live.append(s.lines); err != nil {
		return err
	}
	s.step("appended")
	// Whoever removed it meanwhile has removed this batch too.
	if !s.inPlace() {
		return errors.New("it was removed or replaced while it was written to: let this store rotate it, and exclude it from other programs that do")
	}
	return nil
}

// appendLines adds a line for each entry. A newline inside a document can only be
// space between its parts, where a blank does as well.
func appendLines(lines []byte, batch []forwarder.Record) []byte {
	for _, r := range batch {
		start := len(lines)
		lines = append(lines, r.JSON...)
		for i, c := range lines[start:] {
			if c == '\n' || c == '\r' {
				lines[start+i] = ' '
			}
		}
		lines = append(lines, '\n')
	}
	return lines
}

// inPlace says whether the path still names the file that is appended to.
func (s *Store) inPlace() bool {
	named, err := os.Lstat(s.Path)
	return err == nil && os.SameFile(named, s.live.info)
}

// ready sees to it that the live file is open, is what the path names, and ends
// where the last synced line does.
func (s *Store) ready() error {
	if s.live != nil && !s.inPlace() {
		s.log.Warn("audit store was removed or replaced by another program; a new file is begun. " +
			"What was in it and not shipped is wherever that program put it: let this store rotate")
		// What was written to it is synced, wherever it is now.
		s.live.f.Close()
		s.live = nil
	}
	if s.live == nil {
		return s.openLive()
	}
	info, err := s.live.f.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() == s.live.size:
		return nil
	case s.live.harmed && info.Size() > s.live.size:
		return s.live.cut(s.live.size)
	}
	s.log.Warn("audit store was truncated or written to by another program: exclude it there, and let this store rotate",
		"size", s.live.size, "found", info.Size())
	return s.live.settle(s.log)
}

// openLive opens or creates the live file, and finds out when it was begun.
func (s *Store) openLive() error {
	created := false
	l, err := openLive(s.Path, s.Mode, s.log, func() error {
		created = true
		// Before there is a file: whoever finds one knows when it was begun.
		return s.lock.begin(s.now())
	})
	if err != nil {
		return err
	}
	if err := syncDir(s.names.dir); err != nil {
		return errors.Join(err, l.close())
	}
	s.live = l
	if created {
		s.step("created")
	}
	return nil
}

// dateLive begins a file now that is empty, or whose beginning cannot be: there is no
// note of it, or it is yet to come since the clock went back.
func (s *Store) dateLive() error {
	now, begun := s.now(), s.lock.Begun
	if s.live.size > 0 && !begun.IsZero() && !begun.After(now) || s.live.size == 0 && begun.Equal(now) {
		return nil
	}
	return s.lock.begin(now)
}

// isDue says whether the live file is to be rotated before n bytes more.
func (s *Store) isDue(n int) bool {
	if s.live.size == 0 {
		return false
	}
	return s.live.size+int64(n) > s.MaxSize || s.now().Sub(s.lock.Begun) >= s.MaxAge
}

// rotate gives the live file its name for good. Killed at any point, either it has
// it or it is the live file still.
func (s *Store) rotate() error {
	name, err := s.names.next(s.now())
	if err != nil {
		return err
	}
	l := s.live
	s.live = nil // whatever comes of it, the path is asked again
	if err := l.close(); err != nil {
		return err
	}
	s.step("closed")
	if err := os.Rename(s.Path, s.names.path(name)); err != nil {
		return err
	}
	s.step("renamed")
	if err := syncDir(s.names.dir); err != nil {
		return err
	}
	s.log.Info("audit store rotated", "rotated", name, "bytes", l.size)
	s.tidying.wake()
	return nil
}
