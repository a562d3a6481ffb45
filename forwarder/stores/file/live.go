package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
)

// reserveStep is what is set aside at a time.
const reserveStep = 1 << 20

// live is the file that is appended to.
type live struct {
	f    *os.File
	info os.FileInfo // which file it is
	// size is where the last line ends that was synced. What is beyond it, no one
	// was told of.
	size int64
	// reserved is up to where the filesystem has set space aside.
	reserved int64
	// harmed says that an attempt failed, so that there may be something beyond size.
	harmed bool
}

// openLive opens the file, in which half a line is cut off, or creates it.
func openLive(path string, mode fs.FileMode, log *slog.Logger, beforeCreation func() error) (*live, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return createLive(path, mode, beforeCreation)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file: name another")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|nofollow, 0)
	if err != nil {
		return nil, err
	}
	l := &live{f: f}
	if err := l.adopt(mode, log); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func createLive(path string, mode fs.FileMode, before func() error) (*live, error) {
	if err := before(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL|nofollow, mode)
	if err != nil {
		return nil, fmt.Errorf("creating it: %w", err)
	}
	// The umask may have taken away too much.
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		f.Close()
		return nil, fmt.Errorf("creating it: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &live{f: f, info: info}, nil
}

// adopt takes a file as it was found.
func (l *live) adopt(mode fs.FileMode, log *slog.Logger) error {
	var err error
	if l.info, err = l.f.Stat(); err != nil {
		return err
	}
	if was := l.info.Mode().Perm(); was&^mode != 0 {
		if err := l.f.Chmod(mode); err != nil {
			return fmt.Errorf("narrowing its mode to %04o: %w", mode, err)
		}
		log.Warn("audit store was open to other users; its mode is narrowed", "was", was, "mode", mode)
	}
	return l.settle(log)
}

// settle cuts off what is behind the last newline, as a process leaves it that dies
// while it writes, and makes what is before it durable.
func (l *live) settle(log *slog.Logger) error {
	length, err := l.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	end, err := lastLine(l.f, length)
	if err != nil {
		return fmt.Errorf("looking for its last line: %w", err)
	}
	if end < length {
		log.Warn("half a line is cut off at the end of the audit store: a process died while it wrote; what it was told to write is written again",
			"bytes", length-end)
	}
	return l.cut(end)
}

// cut makes the file end there, and with it what was set aside.
func (l *live) cut(end int64) error {
	if err := l.f.Truncate(end); err != nil {
		return fmt.Errorf("cutting off what is behind its last line: %w", err)
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	l.size, l.reserved, l.harmed = end, end, false
	return nil
}

// append writes lines behind the last one and syncs them. If it fails, nothing of
// them is in the file, or harmed says that this could not be done yet.
func (l *live) append(lines []byte) error {
	n := int64(len(lines))
	if l.size+n > l.reserved {
		ahead := max(n, reserveStep)
		err := reserve(l.f, l.size, ahead)
		if err != nil && ahead > n {
			ahead = n
			err = reserve(l.f, l.size, ahead)
		}
		if err != nil {
			_ = l.cut(l.size) // part of it may be set aside
			return err
		}
		l.reserved = l.size + ahead
	}
	_, err := l.f.Write(lines)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		l.harmed = true
		_ = l.cut(l.size) // or before the next attempt
		return err
	}
	l.size += n
	return nil
}

// close gives back what was set aside and is not used.
func (l *live) close() error {
	var err error
	if l.harmed || l.reserved > l.size {
		err = l.cut(l.size)
	}
	return errors.Join(err, l.f.Close())
}

// lastLine is where the last line ends within the first length bytes.
func lastLine(r io.ReaderAt, length int64) (int64, error) {
	block := make([]byte, 64<<10)
	for length > 0 {
		n := min(length, int64(len(block)))
		if _, err := io.ReadFull(io.NewSectionReader(r, length-n, n), block[:n]); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return length - n + int64(i) + 1, nil
		}
		length -= n
	}
	return 0, nil
}
