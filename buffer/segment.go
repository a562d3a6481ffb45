package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	formatVersion = 1
	segmentMode   = 0o600
	// growBy is how much a segment's file grows at a time. Each growth is one
	// more sync for one commit.
	growBy = 4 << 20
)

var (
	bucketEntries = []byte("e")
	bucketIntents = []byte("i")
	bucketState   = []byte("s")
	keyState      = []byte("state")
)

// segment is one file of the buffer: the entries from first up to the next
// segment's first. Only the newest is written to, by the writer alone.
type segment struct {
	path  string
	first uint64

	// Guarded by Buffer.segMu.
	db   *bolt.DB // nil while closed
	refs int
	dead bool  // unlinked; closed when refs is 0
	size int64 // bytes in use
}

func segmentName(first uint64) string { return fmt.Sprintf("seg-%020d.db", first) }

// listSegments returns the directory's segments, oldest first.
func listSegments(dir string) ([]*segment, error) {
	names, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil {
		return nil, err
	}
	segs := make([]*segment, 0, len(names))
	for _, path := range names {
		var first uint64
		name := filepath.Base(path)
		if _, err := fmt.Sscanf(name, "seg-%d.db", &first); err != nil || first == 0 || segmentName(first) != name {
			return nil, fmt.Errorf("listing segments: %q is not a name that the buffer gives: move the file elsewhere", path)
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		segs = append(segs, &segment{path: path, first: first, size: info.Size()})
	}
	slices.SortFunc(segs, func(a, b *segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
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

// syncNewName is syncDir, or what a test puts in its place.
var syncNewName = syncDir

// createSegment makes a segment durable under its final name, with a first
// transaction that holds what begin puts there, and leaves it open for
// appending. Until the rename the directory is as it was before; an error from
// there on is errInDoubt.
func createSegment(dir string, first uint64, bound int64, begin func(*bolt.Tx) error) (_ *segment, err error) {
	path := filepath.Join(dir, segmentName(first))
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("creating segment %q: %w", path, err)
	}
	db, err := bolt.Open(tmp, segmentMode, &bolt.Options{
		Timeout:      time.Second,
		FreelistType: bolt.FreelistMapType,
		// Beyond any size the segment reaches, so that the map never moves
		// and a reader never makes the writer wait. It is address space, not
		// memory.
		InitialMmapSize: int(2*bound) + 64<<20,
	})
	if err != nil {
		return nil, fmt.Errorf("creating segment %q: %w", path, err)
	}
	db.AllocSize = growBy
	defer func() {
		if err != nil {
			err = fmt.Errorf("creating segment %q: %w", path, err)
			_ = db.Close()
			_ = os.Remove(tmp)
		}
	}()
	s := &segment{path: path, first: first, db: db}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketEntries, bucketIntents, bucketState} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		s.size = tx.Size()
		return begin(tx)
	})
	if err != nil {
		return nil, err
	}
	if err := syncFile(tmp); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("%w: %w", errInDoubt, err)
	}
	if err := syncNewName(dir); err != nil {
		return nil, fmt.Errorf("%w: %w", errInDoubt, err)
	}
	return s, nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// openForReading opens a segment that nobody writes to.
func openForReading(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, segmentMode, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("opening segment %q: %w", path, err)
	}
	return db, nil
}

// contents is what a start learns from the newest segment.
type contents struct {
	state state
	head  uint64
	// unresolved are the intents that no entry completes, by number.
	unresolved map[uint64][]byte
}

// load reads all that a start needs from the newest segment. It checks every
// frame, so that a start never builds on a damaged one.
func (s *segment) load() (contents, error) {
	c := contents{head: s.first - 1, unresolved: map[uint64][]byte{}}
	db, err := openForReading(s.path)
	if err != nil {
		return c, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		e, i, st := tx.Bucket(bucketEntries), tx.Bucket(bucketIntents), tx.Bucket(bucketState)
		if e == nil || i == nil || st == nil {
			return errors.New("a bucket is missing")
		}
		var err error
		if c.state, err = decodeState(st.Get(keyState)); err != nil {
			return err
		}
		if err := i.ForEach(func(k, v []byte) error {
			f, err := parseFrame(v)
			if err != nil {
				return fmt.Errorf("intent %x: %w", k, err)
			}
			c.unresolved[f.intent] = bytes.Clone(f.payload)
			return nil
		}); err != nil {
			return err
		}
		return e.ForEach(func(k, v []byte) error {
			f, err := parseFrame(v)
			if err != nil {
				return fmt.Errorf("entry %x: %w", k, err)
			}
			if f.sequence != c.head+1 {
				return fmt.Errorf("entry %d follows entry %d", f.sequence, c.head)
			}
			c.head = f.sequence
			if f.flags&flagCompletes != 0 {
				delete(c.unresolved, f.intent)
			}
			return nil
		})
	})
	if err != nil {
		return c, fmt.Errorf("reading segment %q: %w", s.path, err)
	}
	return c, nil
}
