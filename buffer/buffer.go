// Package buffer is the durable queue between a call and the audit stores: a
// directory of bbolt segments with one writer. It knows bytes and sequence
// numbers, not entries, and nothing of HTTP or Caddy.
//
// What is durable when a method returns is the package's whole point, so each
// method says it. DESIGN.md describes the files and the reasons.
package buffer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
)

// Defaults of Options.
const (
	DefaultMaxSize      = 8 << 30
	DefaultSegmentSize  = 64 << 20
	DefaultMaxWait      = 2 * time.Second
	DefaultPendingAfter = 30 * time.Second

	// flushEvery bounds how long positions and counts that no commit carried
	// stay in memory alone.
	flushEvery = time.Second
	// retryEvery is how long the writer rests between attempts while the disk
	// fails.
	retryEvery = 100 * time.Millisecond
	// keepOpen bounds the sealed segments that stay open for reading.
	keepOpen = 4
)

// Errors that a caller tells apart.
var (
	// ErrFull says that the entry of a call could not be kept within MaxSize.
	ErrFull = errors.New("buffer is full: its stores do not keep up")
	// ErrSlow says that the disk did not answer within MaxWait.
	ErrSlow = errors.New("buffer's disk did not answer in time")
	// ErrClosed says that the buffer was closed.
	ErrClosed = errors.New("buffer is closed")
	// ErrLocked says that another process, or this one, has the buffer open.
	ErrLocked = errors.New("another process is using it: stop that one or choose another directory")
	// ErrTooLarge says that a payload is beyond MaxPayload.
	ErrTooLarge = fmt.Errorf("payload is larger than %d bytes", MaxPayload)
)

// Options of a buffer. The zero value of each field is its default.
type Options struct {
	// MaxSize bounds the segments' bytes together, in bytes. Default 8 GiB.
	MaxSize int64
	// SegmentSize is when a segment is sealed, in bytes. Default 64 MiB. It
	// counts as at most an eighth of MaxSize, since what stores have taken is
	// given back a segment at a time.
	SegmentSize int64
	// MaxWait is how long a caller waits for the disk. Default 2 s.
	MaxWait time.Duration
	// PendingAfter is how long an intent may be open before Pending is asked
	// for an entry about it. Default 30 s.
	PendingAfter time.Duration
	// Pending makes the entry that says a call is still open, from its
	// intent's payload. Nil, or an answer of nil, writes none. It is called
	// by the writer and must be quick.
	Pending func(intent []byte) []byte
	// Logger gets one line when the disk begins to fail and one when it has
	// healed. Default: none.
	Logger *slog.Logger
	// OnCommit is called by the writer after each commit; it must be quick.
	OnCommit func(Commit)
}

// Commit describes one commit, for metrics.
type Commit struct {
	Duration time.Duration
	// Err is why the disk did not take it; it is then written again.
	Err error
}

func (o Options) withDefaults() Options {
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.MaxWait == 0 {
		o.MaxWait = DefaultMaxWait
	}
	if o.PendingAfter == 0 {
		o.PendingAfter = DefaultPendingAfter
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Buffer is an open buffer. All methods are safe for concurrent use.
type Buffer struct {
	dir      string
	instance string
	lock     *os.File

	// Configure changes these.
	logger  atomic.Pointer[slog.Logger]
	maxSize atomic.Int64
	segSize atomic.Int64 // Options.SegmentSize; see segmentSize
	maxWait atomic.Int64 // ns

	pending  func([]byte) []byte
	pendAge  time.Duration
	onCommit func(Commit)

	wake   chan struct{}
	quit   chan struct{}
	done   chan struct{}
	close  sync.Once
	closed error // of the last flush; read after done

	// excluded are calls that no commit has counted yet. They are the only
	// thing that an excluded call touches.
	excluded atomic.Uint64
	// busySince is when the writer's commit in hand began, in ns of clock;
	// zero while there is none. It tells a slow disk from an idle one.
	busySince atomic.Int64
	clock     time.Time // busySince counts from here
	// slow says that a caller was sent away with ErrSlow and the disk has not
	// answered since.
	slow     atomic.Bool
	reserved atomic.Int64
	used     atomic.Int64 // bytes of all segments

	mu         sync.Mutex
	ending     bool
	next       *group // gathers until the writer takes it
	nextIntent uint64
	state      state // as committed, but for positions that wait for a commit
	committed  map[string]Position
	dirty      bool
	holding    map[string]bool // stores whose position keeps segments
	open       map[uint64]*openIntent
	recovered  Recovered // of Open
	head       uint64
	headMoved  chan struct{} // closed and replaced when head moves
	failing    error         // why the disk is failing now

	// The writer's own.
	arena       []byte // the frames of the commit in hand
	written     []byte // the state as it was last committed
	failedSince time.Time
	rotateAt    int64 // bytes in the active segment
	mustReplace bool  // the active segment must not be appended to any more

	segMu    sync.Mutex
	segments []*segment // oldest first; the last is the active one
}

type openIntent struct {
	payload []byte
	begun   time.Time
	told    bool // a pending entry was written, or none is wanted
}

// Open opens the buffer in dir, creating it with mode 0700 if it is not there.
// Before it returns it has made durable, in a new segment, one entry for each
// call whose end was not recorded when the last process ended: the payload of
// the call's intent as Begin got it.
//
// It fails with ErrLocked when another process has the buffer, and otherwise
// only for what makes the directory or its newest segment unusable.
func Open(dir string, o Options) (_ *Buffer, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening buffer %q: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening buffer %q: %w", dir, err)
		}
	}()
	o = o.withDefaults()
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if err := flock(lock); err != nil {
		return nil, ErrLocked
	}
	b := &Buffer{
		dir: dir, lock: lock, pending: o.Pending, pendAge: o.PendingAfter, onCommit: o.OnCommit,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		clock: time.Now(), next: newGroup(),
		holding: map[string]bool{}, open: map[uint64]*openIntent{}, headMoved: make(chan struct{}),
	}
	b.Configure(o)
	if err := b.recover(); err != nil {
		return nil, err
	}
	go b.write()
	return b, nil
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: choose a directory that this user can write", err)
	}
	return syncDir(filepath.Dir(dir))
}

// recover reads the newest segment and begins a new one with what must go on:
// the state, and one entry for each intent without an end.
func (b *Buffer) recover() error {
	if err := removeTemporaries(b.dir); err != nil {
		return err
	}
	segs, err := listSegments(b.dir)
	if err != nil {
		return err
	}
	c := contents{state: state{
		Format: formatVersion, Instance: uuid.NewString(), NextIntent: 1, Stores: map[string]Position{},
	}}
	if len(segs) > 0 {
		if c, err = segs[len(segs)-1].load(); err != nil {
			return err
		}
		b.recovered = Recovered{Unclean: !c.state.Clean, Unknown: len(c.unresolved)}
		c.state.Clean = false
	}
	first, head := c.head+1, c.head
	c.state.Calls.Recorded += uint64(len(c.unresolved))
	active, err := createSegment(b.dir, first, b.segmentSize(), func(tx *bolt.Tx) error {
		e := tx.Bucket(bucketEntries)
		e.FillPercent = 1
		for _, n := range sortedKeys(c.unresolved) {
			head++
			f := frame{flags: flagCompletes, sequence: head, intent: n, time: time.Now().UnixMicro(), payload: c.unresolved[n]}
			if err := e.Put(putKey(new([8]byte), head), f.append(nil)); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketState).Put(keyState, c.state.encode())
	})
	if err != nil {
		return err
	}
	// A newest segment without entries had the same first, and is replaced.
	if n := len(segs); n > 0 && segs[n-1].first == first {
		segs = segs[:n-1]
	}
	b.segments = append(segs, active)
	b.measure()
	b.state, b.nextIntent, b.head = c.state, c.state.NextIntent, head
	b.instance = c.state.Instance
	b.written, b.rotateAt = c.state.encode(), b.segmentSize()
	b.committed = b.state.clone().Stores
	if n := len(c.unresolved); n > 0 {
		b.log().Warn("calls were in flight when the last process ended; they are recorded with outcome unknown", "calls", n)
	}
	return nil
}

// Configure changes what may change while the buffer is open: MaxSize,
// SegmentSize, MaxWait and Logger. The other options stay as Open got them.
func (b *Buffer) Configure(o Options) {
	o = o.withDefaults()
	b.logger.Store(o.Logger)
	b.maxSize.Store(o.MaxSize)
	b.segSize.Store(o.SegmentSize)
	b.maxWait.Store(int64(o.MaxWait))
}

func (b *Buffer) log() *slog.Logger { return b.logger.Load() }

// segmentSize is when a segment is sealed. MaxSize may change while the buffer
// is open, so it is asked for with each segment.
func (b *Buffer) segmentSize() int64 { return min(b.segSize.Load(), b.maxSize.Load()/8) }

// Instance is the buffer's UUID, made when its directory was.
func (b *Buffer) Instance() string { return b.instance }

// Recovered is what Open found of the process before.
type Recovered struct {
	// Unclean says that it did not close the buffer.
	Unclean bool
	// Unknown is the number of its calls that had no end.
	Unknown int
}

// Recovered is what Open found of the process before.
func (b *Buffer) Recovered() Recovered { return b.recovered }

// Close commits what waits, closes the files and gives the directory free.
// Calls that are still open keep their intents: the next Open records them as
// unknown. It waits for the writer until ctx ends; the error then says so,
// and the writer ends with its commit.
func (b *Buffer) Close(ctx context.Context) error {
	b.close.Do(func() {
		b.mu.Lock()
		b.ending = true
		b.mu.Unlock()
		close(b.quit)
	})
	select {
	case <-b.done:
		return b.closed
	case <-ctx.Done():
		return fmt.Errorf("closing buffer %q: %w", b.dir, ctx.Err())
	}
}

// release closes all files. The writer calls it last.
func (b *Buffer) release() error {
	var errs []error
	b.segMu.Lock()
	for _, s := range b.segments {
		if s.db != nil {
			errs = append(errs, s.db.Close())
			s.db = nil
		}
	}
	b.segments = nil
	b.segMu.Unlock()
	return errors.Join(append(errs, b.lock.Close())...) // which gives the lock up
}
