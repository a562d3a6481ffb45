// Package file is the audit store in plain files, for log shippers: one JSON entry
// a line, synced before it is acknowledged, rotated by size and age, and
// compressed and removed only where that is asked for.
//
// Files that belong to a store at audit.ndjson, all in its directory:
//
//	audit.ndjson                                  the live file, which is appended to
//	audit-20261128T174530.123456789Z.ndjson       rotated, by the time of its rotation
//	audit-20261128T174530.123456789Z.ndjson.zst   rotated and compressed; or .gz
//	.audit.ndjson.lock                            who writes, and since when the live file is
//	.audit-….ndjson.zst.tmp, .audit.ndjson.probe- unfinished, removed at the next Open
//
// Rotated files sort by name in the order in which they were written, also if the
// clock goes back. All of them and then the live file, one after the other, hold
// every entry that Write has returned nil for, in order. Entries are repeated only
// where a process died or a Write failed.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The defaults of Config.
const (
	// DefaultMode is the mode of new files: their owner's alone.
	DefaultMode fs.FileMode = 0o600
	// DefaultMaxSize is when a file is rotated, 100 MiB.
	DefaultMaxSize = 100 << 20
	// DefaultMaxAge is when a file is rotated however small it is.
	DefaultMaxAge = 24 * time.Hour
)

// Compression is how rotated files are compressed.
type Compression string

// The kinds of compression. The zero value is CompressNone.
const (
	CompressNone Compression = "none"
	CompressZstd Compression = "zstd"
	CompressGzip Compression = "gzip"
)

// Config of a Store. Only Path has no default.
type Config struct {
	// Path of the live file. It is created if it does not exist, and so is its
	// directory, for those who may read the file. It must lie on a local disk,
	// where a lock holds and a sync means something.
	Path string
	// Mode of the files. Zero is DefaultMode. A file that lets more users in is
	// narrowed, with a warning.
	Mode fs.FileMode
	// MaxSize is what a file may grow to, in bytes; a batch that would make it
	// larger begins the next one. One that is larger alone has a file to itself.
	// Zero is DefaultMaxSize.
	MaxSize int64
	// MaxAge is how long a file is appended to, from when it was begun and across
	// restarts. It is looked at when a batch arrives, which the heartbeats see to.
	// Zero is DefaultMaxAge.
	MaxAge time.Duration
	// Compress is how rotated files are compressed: all but the newest, which
	// those that follow the live file have still to read to its end.
	Compress Compression
	// Keep is how many rotated files are kept, KeepFor how long after their
	// rotation. Zero, the default of both, removes nothing. A file is removed when
	// one of them says so.
	Keep    int
	KeepFor time.Duration

	// now is the clock and step is told what was done last, in tests.
	now  func() time.Time
	step func(string)
}

func (c Config) withDefaults() Config {
	if c.Mode == 0 {
		c.Mode = DefaultMode
	}
	if c.MaxSize <= 0 {
		c.MaxSize = DefaultMaxSize
	}
	if c.MaxAge <= 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.step == nil {
		c.step = func(string) {}
	}
	return c
}

// Store appends entries to a file. It is a forwarder.Store, with delivery
// at_least_once: a batch that is written again is in the file again.
//
// What Write has returned from is synced to disk. Describe may be called from any
// goroutine.
type Store struct {
	Config
	names names
	log   *slog.Logger

	// mu lets Close wait for a Write, so that the file is free afterwards.
	mu     sync.Mutex
	closed bool
	lock   *lock
	live   *live  // nil until it is needed, and while it is rotated
	lines  []byte // of the last batch; its memory is used again

	tidying tidying
}

var _ forwarder.Store = (*Store)(nil)

// Open opens the file, or creates it, and takes up the compression that was under
// way when the last process died. A nil logger discards.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.Path == "" {
		return nil, errors.New("opening audit store: its path is empty: name a file, as in ./audit-data/audit.ndjson")
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, opening(c.Path, err)
	}
	c.Path = path
	s := &Store{Config: c.withDefaults(), names: namesOf(path), log: log.With("file", path)}
	if err := s.open(ctx); err != nil {
		_ = s.release() // what it says is a consequence of err
		return nil, opening(path, err)
	}
	s.tidying.start(s)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := makeDir(s.names.dir, s.Mode); err != nil {
		return err
	}
	var err error
	if s.lock, err = takeLock(s.names.lock(), s.Mode); err != nil {
		return err
	}
	if err := s.names.removeTemporaries(); err != nil {
		return fmt.Errorf("removing what the last process left unfinished: %w", err)
	}
	return s.ready()
}

// Describe says which file it is.
func (s *Store) Describe() forwarder.Description { return describe(s.Path) }

func describe(path string) forwarder.Description {
	return forwarder.Description{Kind: "file", Location: path, Delivery: forwarder.DeliveryAtLeastOnce}
}

// Close waits for a Write that is under way, breaks off compression, which the next
// Open takes up, and lets others have the file.
func (s *Store) Close() error {
	s.tidying.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.release(); err != nil {
		return fmt.Errorf("closing audit store %q: %w", s.Path, err)
	}
	return nil
}

func (s *Store) release() error {
	var err error
	if s.live != nil {
		err = s.live.close()
		s.live = nil
	}
	if s.lock != nil {
		s.lock.release()
		s.lock = nil
	}
	return err
}

// makeDir creates the directory, for those who may read the files, and makes its
// name durable. One that exists keeps its mode: it is the operator's.
func makeDir(dir string, mode fs.FileMode) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%q is not a directory: name another file", dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking for its directory: %w", err)
	}
	perm := 0o700 | (mode&0o044)>>2 | mode&0o044
	if err := os.MkdirAll(dir, perm); err != nil {
		return fmt.Errorf("creating its directory: %w", err)
	}
	// The umask may have taken away too much.
	if err := os.Chmod(dir, perm); err != nil {
		return fmt.Errorf("creating its directory: %w", err)
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}
