package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// lock keeps two processes from appending to one file. It is a file of its own,
// since the live file goes elsewhere when it is rotated, and remembers beside that
// what the live file itself cannot say.
type lock struct {
	path string
	mode fs.FileMode
	f    *os.File
	notes
}

// notes are the content of the lock's file.
type notes struct {
	// PID is who holds it, for the message to who would like to.
	PID int `json:"pid"`
	// Begun is when the live file was.
	Begun time.Time `json:"begun,omitzero"`
}

// takeLock takes the lock, or says who has it.
func takeLock(path string, mode fs.FileMode) (*lock, error) {
	l := &lock{path: path, mode: mode}
	return l, l.take()
}

func (l *lock) take() error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|nofollow, l.mode)
	if err != nil {
		return fmt.Errorf("opening its lock: %w", err)
	}
	if err := flock(f); err != nil {
		holder := read(f)
		f.Close()
		if !errors.Is(err, errLocked) {
			return fmt.Errorf("locking %q: %w: put it on a local disk", l.path, err)
		}
		return fmt.Errorf("process %d holds %q, as another server or a second store of this one with the same file: stop it, or name another file",
			holder.PID, l.path)
	}
	l.f = f
	l.notes = read(f)
	l.PID = os.Getpid()
	if err := l.write(); err != nil {
		return err
	}
	if !l.held() {
		// Removed between opening and locking it: what is locked is no one's way any more.
		l.release()
		return fmt.Errorf("locking %q: it was removed at the same time", l.path)
	}
	return nil
}

// read returns what the lock's file says. It says nothing if a power cut has torn it.
func read(f *os.File) notes {
	var n notes
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil || json.Unmarshal(b, &n) != nil {
		return notes{}
	}
	return n
}

func (l *lock) write() error {
	b, err := json.Marshal(l.notes)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := l.f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("writing to its lock: %w", err)
	}
	if err := errors.Join(l.f.Truncate(int64(len(b))), l.f.Sync()); err != nil {
		return fmt.Errorf("writing to its lock: %w", err)
	}
	return nil
}

// begin notes when the live file was begun.
func (l *lock) begin(at time.Time) error {
	before := l.Begun
	l.Begun = at.Round(0).UTC()
	err := l.write()
	if err != nil {
		l.Begun = before
	}
	return err
}

// hold takes the lock again if somebody has removed its file, which would let
// another process in.
func (l *lock) hold() error {
	if l.f != nil && l.held() {
		return nil
	}
	begun := l.Begun
	l.release()
	if err := l.take(); err != nil {
		return err
	}
	if l.Begun.IsZero() && !begun.IsZero() {
		return l.begin(begun)
	}
	return nil
}

// held says whether the path still names what is locked.
func (l *lock) held() bool {
	named, err := os.Lstat(l.path)
	if err != nil {
		return false
	}
	locked, err := l.f.Stat()
	return err == nil && os.SameFile(named, locked)
}

// release lets others have it. The file stays: removing it would let two in.
func (l *lock) release() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}
