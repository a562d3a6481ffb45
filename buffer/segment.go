package buffer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// FormatVersion is the version of a buffer's files that is written, and those from
// ReadsFormatFrom on are read. A directory of an older one has segments of both until those
// are delivered; one of a newer version is not opened.
const (
	FormatVersion   = 2
	ReadsFormatFrom = 1
)

const (
	segmentMode = 0o600
	// growBy is how much a segment's file grows at a time. Each growth is one
	// more sync for one commit.
	growBy = 4 << 20
	// keepFiles bounds the segments whose files stay open, so that one that is
	// deleted behind our back can be written again.
	keepFiles = 256
)

// filling says when a segment is begun in a file that has its size already, in bytes.
type filling struct {
	// least is what a segment must have, and step what is filled at a time.
	least, step int64
	// from is what a segment that grows has when the file of the next one is made, so that
	// a buffer that hardly anybody uses takes no room for it, and enough what it has when it
	// gives way.
	from, enough int64
	// beyond is what is filled for the commit with which a segment has its size.
	beyond int64
}

var usualFilling = filling{least: 16 << 20, step: 1 << 20, from: 256 << 10, enough: 1 << 20, beyond: 2 << 20}

var (
	bucketEntries = []byte("e")
	bucketIntents = []byte("i")
	bucketState   = []byte("s")
	bucketSums    = []byte("c")
	keyState      = []byte("state")
)

// errFormat says that a file is of a version that this program does not read.
var errFormat = errors.New("its format is not known")

// segment is one file of the buffer: the entries from first up to the next
// segment's first. Only the newest is written to, by the writer alone, through
// bbolt. All others are read through the page reader, which a harmed file cannot
// bring down.
type segment struct {
	path   string
	first  uint64
	filled int64 // bytes that its file had before it was begun; zero if it grows

	// Guarded by Buffer.segMu.
	db        *bolt.DB // the active one's; closed when it is sealed and refs is 0
	refs      int
	dead      bool  // unlinked; closed when refs is 0
	size      int64 // bytes in use
	sum       *sum  // of the sealed file; nil if none is known
	lost      bool  // it is harmed, and entries of it cannot be read
	strangers tally // what callers that were not known have in it; guarded by share.mu

	rescued sync.Mutex // held while the file is written again

	mu   sync.Mutex // guards what follows, and reading it for the first time
	file *os.File   // of the same inode as db; nil while closed
	keep bool       // file stays open
	view *view      // of a sealed segment that has been read
	// unreadable is since when the disk gives nothing of it.
	unreadable time.Time
	rescuing   trouble
}

func segmentName(first uint64) string { return fmt.Sprintf("seg-%020d.db", first) }

func (s *segment) name() string { return filepath.Base(s.path) }

// listSegments returns the directory's segments, oldest first. A file that only
// looks like one is left alone.
func listSegments(dir string, log *slog.Logger) ([]*segment, error) {
	names, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil {
		return nil, err
	}
	segs := make([]*segment, 0, len(names))
	for _, path := range names {
		var first uint64
		name := filepath.Base(path)
		info, err := os.Lstat(path)
		if err != nil {
			return nil, err
		}
		if _, err := fmt.Sscanf(name, "seg-%d.db", &first); err != nil || first == 0 || segmentName(first) != name || !info.Mode().IsRegular() {
			log.Warn("a file in the buffer's directory is none of the buffer's; it is left alone", "file", path)
			continue
		}
		segs = append(segs, &segment{path: path, first: first, size: info.Size()})
	}
	slices.SortFunc(segs, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
	for i, s := range segs {
		s.keep = i+keepFiles >= len(segs)
	}
	return segs, nil
}

// removeTemporaries deletes segments whose creation never finished. Nobody was
// answered on their account.
func removeTemporaries(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "seg-*.db.tmp"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// errInDoubt says that a new segment may or may not stand in the directory.
// Until it is known to, nothing may be appended to the one before: a start
// would take the new one for the whole truth.
var errInDoubt = errors.New("whether the new segment is in the directory is not known")

// file is a segment's file under its temporary name: bbolt's, with its buckets and nothing
// in them.
type file struct {
	path   string
	db     *bolt.DB
	file   *os.File // of the same inode
	size   int64    // bytes in use
	filled int64    // bytes that the file has on the disk, see fill; zero if it grows
}

// newFile makes one. bound is how large it becomes, about.
func newFile(path string, bound int64) (_ *file, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f := &file{path: path}
	defer func() {
		if err != nil {
			f.remove()
		}
	}()
	f.db, err = bolt.Open(path, segmentMode, &bolt.Options{
		Timeout:      time.Second,
		FreelistType: bolt.FreelistMapType,
		// Only who opens it for writing again would need the list, and nobody does.
		NoFreelistSync: true,
		// Beyond any size the segment reaches, so that the map never moves
		// and a reader never makes the writer wait. It is address space, not
		// memory.
		InitialMmapSize: int(2*bound) + 64<<20,
	})
	if err != nil {
		return nil, err
	}
	f.db.AllocSize = growBy
	err = guarded(func() error {
		err := f.db.Update(func(tx *bolt.Tx) error {
			for _, name := range [][]byte{bucketEntries, bucketIntents, bucketState, bucketSums} {
				if _, err := tx.CreateBucket(name); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return f.db.View(func(tx *bolt.Tx) error {
			f.size = tx.Size()
			return nil
		})
	})
	if err == nil {
		f.file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	return f, err
}

// fill writes zeros to all that the file will be and that no page has, and syncs them, so
// that a commit has nothing to sync but its own pages: without it the filesystem finds them
// room, and syncs that too. A step at a time, since commits to another file wait for each.
func (f *file) fill(bound, step int64, quit <-chan struct{}) error {
	zeros := make([]byte, step)
	for at := f.size; at < bound; at += step {
		select {
		case <-quit:
			return ErrClosed
		default:
		}
		if _, err := f.file.WriteAt(zeros, at); err != nil {
			return err
		}
		if err := fdatasync(f.file); err != nil {
			return err
		}
	}
	dropCache(f.file)
	f.filled = bound
	return nil
}

// remove closes and deletes it.
func (f *file) remove() {
	if f.file != nil {
		_ = f.file.Close()
	}
	if f.db != nil {
		_ = f.db.Close()
	}
	_ = os.Remove(f.path)
}

// createSegment makes a segment durable under its final name, with a first
// transaction that holds what begin puts there, and leaves it open for
// appending. Its file is the one that is ready, if there is one, and else a new one.
// Until the rename the directory is as it was before; an error from
// there on is errInDoubt.
func createSegment(dir string, first uint64, bound int64, ready *file, begin func(tx *bolt.Tx, boot string) error) (_ *segment, err error) {
	path := filepath.Join(dir, segmentName(first))
	defer func() {
		if err != nil {
			err = fmt.Errorf("creating segment %q: %w", path, err)
		}
	}()
	f := ready
	if err := at("create"); err != nil {
		if f != nil {
			f.remove()
		}
		return nil, err
	}
	if f == nil {
		if f, err = newFile(path+".tmp", bound); err != nil {
			return nil, err
		}
	}
	s := &segment{path: path, first: first, db: f.db, file: f.file, size: f.size, filled: f.filled, keep: true}
	defer func() {
		if err != nil {
			s.close()
			_ = os.Remove(f.path)
		}
	}()
	if err := guarded(func() error {
		return f.db.Update(func(tx *bolt.Tx) error { return begin(tx, s.boot()) })
	}); err != nil {
		return nil, err
	}
	if err := errors.Join(at("sync"), s.file.Sync()); err != nil {
		return nil, err
	}
	if err := at("rename"); err != nil {
		return nil, err
	}
	if err := os.Rename(f.path, path); err != nil {
		return nil, fmt.Errorf("%w: %w", errInDoubt, err)
	}
	if err := errors.Join(at("renamed"), syncDir(dir)); err != nil {
		return nil, fmt.Errorf("%w: %w", errInDoubt, err)
	}
	return s, nil
}

// boot identifies the machine's boot for the states of a segment of which a commit can be
// torn, because it is one sync. It is empty where each commit is synced twice: where a start
// cannot find out whether the machine went down; and in a file that grows, since what a sync
// of that has to do for the filesystem itself may be cut off without an error.
func (s *segment) boot() string {
	if s.filled == 0 {
		return ""
	}
	return thisBoot()
}

// syncOnce reports whether a commit of so many bytes is one sync: it is if it stays within
// what the file had before.
func (s *segment) syncOnce(bytes int64) bool {
	// Pages are fuller than half, and those of branches and the state are few.
	return s.size+2*bytes+1<<20 <= s.filled && s.boot() != ""
}

// close closes the files. Closing bbolt's can wait for a transaction that a fault
// has cut, and closing the last of an unlinked file for the disk, so nobody waits for
// either.
func (s *segment) close() {
	s.mu.Lock()
	if f := s.file; f != nil {
		s.file, s.view = nil, nil
		go func() { _ = f.Close() }()
	}
	s.mu.Unlock()
	if db := s.db; db != nil {
		s.db = nil
		go func() { _ = db.Close() }()
	}
}

// open returns the file for reading, opened if it is not. The caller holds mu.
func (s *segment) open() (*os.File, error) {
	if s.file == nil {
		f, err := os.Open(s.path)
		if err != nil {
			return nil, err
		}
		s.file = f
	}
	return s.file, nil
}
