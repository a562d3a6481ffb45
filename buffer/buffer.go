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
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Defaults of Options.
const (
	DefaultMaxSize      = 8 << 30
	DefaultSegmentSize  = 64 << 20
	DefaultMaxWait      = 2 * time.Second
	DefaultPendingAfter = 30 * time.Second
	// DefaultMinFree is the free space that is left to others, or a twentieth of
	// the filesystem if that is less.
	DefaultMinFree = 256 << 20

	// tickEvery is how often the writer looks after what no commit does: positions
	// and counts that wait, intents that have been open for long, the space that
	// is free, and files that somebody has deleted.
	tickEvery = time.Second
	// openWithin is how long Open waits for the disk to take what it has found.
	openWithin = 5 * time.Second
	// retryEvery is how long the writer rests between attempts while the disk
	// fails.
	retryEvery = 100 * time.Millisecond
)

// Errors that a caller tells apart.
var (
	// ErrFull says that the entry of a call could not be kept within MaxSize, or
	// that the filesystem has no more than MinFree left.
	ErrFull = errors.New("buffer is full: its stores do not keep up, or its disk has no room")
	// ErrShare says that callers who are not known have used up their share, or
	// those of one network theirs of it.
	ErrShare = errors.New("the buffer's share for callers that are not known is used up")
	// ErrSlow says that the disk did not answer within MaxWait.
	ErrSlow = errors.New("buffer's disk did not answer in time")
	// ErrFailing says that the disk fails.
	ErrFailing = errors.New("buffer's disk fails")
	// ErrClosed says that the buffer was closed.
	ErrClosed = errors.New("buffer is closed")
	// ErrLocked says that another process, or this one, has the buffer open.
	ErrLocked = errors.New("another process is using it: stop that one or choose another directory")
	// ErrTooLarge says that a payload is beyond MaxPayload.
	ErrTooLarge = fmt.Errorf("payload is larger than %d bytes", MaxPayload)
)

// OnFault is what happens to calls that cannot be recorded because the buffer is
// full, failing or slow.
type OnFault int

const (
	// Reject lets none through.
	Reject OnFault = iota
	// Pass lets them through unrecorded. They are counted, a marker on the disk
	// says so from before the first one, and a gap follows when the buffer works
	// again.
	Pass
)

// Options of a buffer. The zero value of each field is its default.
type Options struct {
	// MaxSize bounds the bytes of the segments and of quarantine together, in bytes. Default 8 GiB.
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
	// MinFree is how many bytes of the filesystem are left to others: with less
	// free, the buffer counts as full. Default DefaultMinFree.
	MinFree int64
	// OnFault is what happens to calls that cannot be recorded. Default Reject.
	OnFault OnFault
	// Adopt takes a directory over that was another machine's, or that was
	// copied, as what it is: it keeps its origin.
	Adopt bool
	// Gap makes the entry that tells of a gap. Nil, or an answer of nil, writes
	// none. It must be quick.
	Gap func(Gap) []byte
	// Pending makes the entry that says a call is still open, from its
	// intent's payload. Nil, or an answer of nil, writes none. It is called
	// by the writer and must be quick.
	Pending func(intent []byte) []byte
	// Logger gets one line when the disk begins to fail and one when it has
	// healed. Default: none.
	Logger *slog.Logger
	// OnCommit is called by the writer after each commit; it must be quick.
	OnCommit func(Commit)

	filling filling // what is usual, but for tests
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
	if o.filling == (filling{}) {
		o.filling = usualFilling
	}
	if o.PendingAfter == 0 {
		o.PendingAfter = DefaultPendingAfter
	}
	if o.MinFree == 0 {
		o.MinFree = DefaultMinFree
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Buffer is an open buffer. All methods are safe for concurrent use.
type Buffer struct {
	dir string

	// Configure changes these.
	logger  atomic.Pointer[slog.Logger]
	maxSize atomic.Int64
	segSize atomic.Int64 // Options.SegmentSize; see segmentSize
	maxWait atomic.Int64 // ns
	minFree atomic.Int64
	onFault atomic.Int32
	// ordered is until when calls pass whatever OnFault says, in µs since the
	// epoch; see PassUntil.
	ordered atomic.Int64

	pending  func([]byte) []byte
	gap      func(Gap) []byte
	pendAge  time.Duration
	onCommit func(Commit)

	wake   chan struct{}
	full   chan struct{} // enough wait for the next commit
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
	inFlight atomic.Int64 // calls between Admit and Release
	reserved atomic.Int64
	used     atomic.Int64 // bytes of all segments
	free     atomic.Int64 // bytes of the filesystem; -1 if that is not known
	total    atomic.Int64
	// suspect says that a reader has found the active segment harmed.
	suspect atomic.Bool

	strangers share

	mu         sync.Mutex
	ending     bool
	next       *group // gathers until the writer takes it
	lastGroup  int    // how many operations the one had that it took last
	nextIntent uint64
	state      state // as committed, but for positions that wait for a commit
	committed  map[string]Position
	inHand     Calls // of the commit in hand, those that no call waits for
	dirty      bool
	holding    map[string]int64 // stores whose position keeps segments, and how many bytes of them; 0 is no bound
	open       map[uint64]*openIntent
	recovered  Recovered // of Open
	head       uint64
	began      uint64          // the head that Open found
	headMoved  chan struct{}   // closed and replaced when head moves
	failing    error           // why the disk is failing now
	witnesses  map[string]bool // stores that were asked how far they are
	damaged    uint64          // entries that gaps of this process tell of
	armed      bool            // the disk knows that calls may pass
	passing    *passing        // the episode of passed calls; nil if there is none
	passSaid   trouble         // the log says that calls pass, also between two episodes
	passCount  uint64          // how many have since it says so
	telling    episode         // the gap of which the commit in hand has; Since is zero without one
	sums       map[uint64]sum  // of sealed files, for the next commit

	marker     marker
	quarantine quarantine

	// The writer's own.
	lock        *dirLock // set with mu: quarantine looks at it too
	entries     frames   // of the commit in hand
	intents     frames   // the same
	written     state    // as it was last committed; nobody changes it
	failedSince time.Time
	unlinking   trouble
	rotateAt    int64 // bytes in the active segment
	rotateFrom  int64 // no earlier than at so many, whoever wrote them
	mustReplace bool  // the active segment must not be appended to any more
	lastCommit  time.Time
	unconfirmed bool // the last commit holds something, and nothing came after it
	sealing     sync.WaitGroup
	filling     filling
	preparing   bool      // the next segment's file is being made, or is ready
	prepareFrom time.Time // not before
	// ready is the file, when it was made; with filled zero, that it could not be.
	ready atomic.Pointer[file]

	segMu    sync.Mutex
	segments []*segment // oldest first; the last is the active one, once there is one
}

type openIntent struct {
	payload []byte
	at      int64     // µs since the epoch, by the wall clock
	begun   time.Time // by the clock that does not jump
	told    bool      // a pending entry was written, or none is wanted
}

// Open opens the buffer in dir, creating it with mode 0700 if it is not there.
//
// It appends one entry for each call whose end was not recorded when the last
// process ended, the payload of the call's intent as Begin got it, and one for each
// gap that it finds. They are durable when it returns, unless the disk did not take
// them within five seconds: then it returns all the same, Stats says what is wrong, and
// the buffer works when the disk does.
//
// It fails with ErrLocked when another process has the buffer, and otherwise
// only for what makes the directory unusable. A harmed file is no such thing.
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
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	b := &Buffer{
		dir: dir, lock: lock, pending: o.Pending, gap: o.Gap, pendAge: o.PendingAfter, onCommit: o.OnCommit, filling: o.filling,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		clock: time.Now(), next: newGroup(0),
		holding: map[string]int64{}, open: map[uint64]*openIntent{}, headMoved: make(chan struct{}),
		sums: map[uint64]sum{}, witnesses: map[string]bool{},
	}
	b.quarantine.begin(b)
	b.Configure(o)
	b.measureFree()
	g := b.next
	if err := b.recover(o.Adopt); err != nil {
		_ = b.release()
		return nil, err
	}
	b.quarantine.keeping.Go(b.quarantine.keep)
	go b.write()
	if err := g.await(openWithin); err != nil {
		b.log().Error("the buffer's disk does not take anything yet; calls are not recorded until it does", "directory", dir, "error", b.Stats().Failing)
	}
	return b, nil
}

// makeDir makes the directory, and refuses one that everybody can look into.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: choose a directory that this user can write", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	// A group may have it: volumes are shared that way.
	if mode := info.Mode().Perm(); mode&0o007 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("its mode is %04o, so that every user of this machine can get at what it holds: chmod 0700 it", mode)
	}
	return syncDir(filepath.Dir(dir))
}

// dirLock is a directory's lock that this process has.
type dirLock struct {
	*os.File
	is os.FileInfo // the file, which is no other one as long as it is open
}

// takeLock makes the directory this process's.
func takeLock(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return lockFile(f)
}

// lockFile takes the lock that a directory's file is, or closes it.
func lockFile(f *os.File) (*dirLock, error) {
	if err := flock(f); err != nil {
		_ = f.Close()
		return nil, ErrLocked
	}
	is, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &dirLock{f, is}, nil
}

const lockName = "LOCK"

// recover reads the newest segment and gathers what the first commit must hold: an
// entry for each intent without an end, and one for each gap.
func (b *Buffer) recover(adopt bool) error {
	if err := removeTemporaries(b.dir); err != nil {
		b.log().Warn("removing unfinished segments; it is tried again at the next start", "directory", b.dir, "error", err)
	}
	segs, err := listSegments(b.dir, b.log())
	if err != nil {
		return err
	}
	c := contents{state: newState(uuid.NewString()), found: true}
	if len(segs) > 0 {
		if c, err = loadNewest(segs); err != nil {
			return err
		}
		b.recovered = Recovered{
			Unclean: !c.found || !c.state.Clean, Unknown: len(c.unresolved), At: c.at, MayHavePassed: c.state.MayPass,
		}
		b.loadSums(segs)
	}
	b.segments = segs
	if c.torn != nil {
		b.log().Warn("the machine went down during a commit, which the disk does not have whole; nobody was answered on its account, and all before it is there",
			"segment", segs[len(segs)-1].path, "why", c.torn)
	}
	older := c.harm != nil || !c.found
	inQuarantine, err := b.quarantine.load(&c.state, older)
	if err != nil {
		return err
	}
	home := homeOf(b.lock.File)
	if !c.found {
		c.state = newState(uuid.NewString())
	}
	mayPass := b.state.MayPass
	b.state, b.head, b.began = c.state, c.head, c.head
	b.state.MayPass = mayPass
	b.state.Clean = false
	if c.harm != nil {
		// A new segment must not take the harmed one's name.
		b.head = max(c.head, segs[len(segs)-1].first, inQuarantine.highest())
		b.began = b.head
		c.rebuild()
		b.state.Calls, b.state.NextIntent = c.state.Calls, c.state.NextIntent
	}
	// What the new segment begins with must not say of any gap that it is told: the gap
	// comes with the commit after it.
	before := b.state.clone()
	before.MayPass = mayPass || c.state.MayPass
	before.Head, before.Open = b.head, len(c.unresolved)
	if c.harm != nil {
		newest := segs[len(segs)-1]
		newest.view = &view{file: newest.file, index: c.index}
		b.log().Error("the newest segment is harmed; what can be read of it is delivered, and a gap tells of the rest",
			"segment", newest.path, "lost", missing(c.index, newest.first, b.head).count, "error", c.harm)
		b.tellHarm(newest, b.head, c.index, c.uncertain)
	}
	switch {
	case !c.found:
		b.tell(Gap{Reason: GapOrigin, Cause: "state lost", Head: b.head, AtLeast: true})
	case !adopt && b.state.Home != "" && home != "" && b.state.Home != home:
		b.newOrigin(b.head+1, Gap{Cause: "copied"})
	case c.harm != nil && c.uncertain:
		// What came behind may be in a store, under the numbers that come next.
		b.newOrigin(b.head+1, Gap{Cause: "harmed"})
	}
	if !adopt && home != "" {
		b.state.Home = home
	}
	b.nextIntent = b.state.NextIntent
	for _, n := range sortedKeys(c.unresolved) {
		// They are copied to the new segment, whose next commit resolves them.
		b.open[n] = &openIntent{payload: c.unresolved[n], at: time.Now().UnixMicro(), begun: time.Now(), told: true}
		b.next.ops = append(b.next.ops, operation{
			kind: opEntry, completes: true, intent: n, payload: c.unresolved[n], at: time.Now().UnixMicro(), calls: Calls{Recorded: 1},
		})
	}
	// All of them from the start: with one that is attached before the others, what only
	// those need would be removed.
	for store, p := range b.state.Stores {
		b.holding[store] = 0
		if p.Until > 0 {
			b.holding[store] = b.maxSize.Load() / removedShare
		}
	}
	b.recoverPassing()
	b.recoverQuarantine(inQuarantine, older)
	b.state.Head, b.state.Open = b.head, len(b.open)
	b.written, b.committed = before, before.Stores
	b.strangers.begin(b.state.Strangers, segs)
	b.mustReplace, b.dirty = true, true
	b.measure()
	if n := len(c.unresolved); n > 0 {
		b.log().Warn("calls were in flight when the last process ended; they are recorded with outcome unknown", "calls", n)
	}
	return nil
}

// newOrigin makes what begins at a sequence a new buffer's, with a gap that says
// why. The caller holds mu, or nobody else has the buffer yet.
func (b *Buffer) newOrigin(first uint64, g Gap) {
	g.Reason, g.AtLeast, g.Instance, g.Head = GapOrigin, true, b.state.instance(), first-1
	b.state.Origins = append(b.state.Origins, origin{Instance: uuid.NewString(), First: first})
	b.log().Warn("this buffer is a copy, older than what a store has, or harmed at its end; it begins a new origin", "directory", b.dir, "cause", g.Cause, "before", g.Instance)
	b.tell(g)
}

// Witness is told the highest sequence that a store has of this buffer, before
// this process has delivered anything to it. If the buffer had never reached that
// when it was opened, the directory was put back to a time before, and a new origin
// begins with what this process has recorded. Only the first call for a store
// counts: from then on it has what this process delivers.
func (b *Buffer) Witness(store string, sequence uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.began + 1
	asked := b.witnesses[store]
	b.witnesses[store] = true
	if asked || sequence < first || b.state.Origins[len(b.state.Origins)-1].First >= first {
		return // it was reached, or another store has told
	}
	for _, p := range b.state.Stores {
		first = max(first, p.Position+1)
	}
	b.newOrigin(first, Gap{Cause: "ahead", Store: store, Last: sequence})
}

// Configure changes what may change while the buffer is open: MaxSize,
// SegmentSize, MaxWait, MinFree, OnFault and Logger. The other options stay as Open
// got them.
func (b *Buffer) Configure(o Options) {
	o = o.withDefaults()
	b.logger.Store(o.Logger)
	b.maxSize.Store(o.MaxSize)
	b.segSize.Store(o.SegmentSize)
	b.maxWait.Store(int64(o.MaxWait))
	b.minFree.Store(o.MinFree)
	b.onFault.Store(int32(o.OnFault))
	b.mu.Lock()
	b.state.MayPass, b.dirty = o.OnFault == Pass, true
	b.mu.Unlock()
}

func (b *Buffer) log() *slog.Logger { return b.logger.Load() }

// segmentSize is when a segment is sealed. MaxSize may change while the buffer
// is open, so it is asked for with each segment.
func (b *Buffer) segmentSize() int64 { return min(b.segSize.Load(), b.maxSize.Load()/8) }

// Instance is the UUID of the buffer that recorded an entry. A directory has one
// of its own, and a further one from where it was found to be a copy.
func (b *Buffer) Instance(sequence uint64) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.instanceOf(sequence)
}

// Recovered is what Open found of the process before.
type Recovered struct {
	// Unclean says that it did not close the buffer.
	Unclean bool
	// Unknown is the number of its calls that had no end.
	Unknown int
	// At is when it last committed anything.
	At time.Time
	// MayHavePassed says that OnFault was Pass: if its disk failed, calls may have
	// passed after At with no marker to say so.
	MayHavePassed bool
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

// release closes all files but those that somebody reads, who then closes them. The
// writer calls it last.
func (b *Buffer) release() error {
	b.sealing.Wait()
	if f := b.ready.Swap(nil); f != nil && f.filled > 0 {
		f.remove()
	}
	b.segMu.Lock()
	segs := b.segments
	b.segments = nil
	if n := len(segs); n > 0 && segs[n-1].filled > 0 && segs[n-1].db != nil && !b.mustReplace {
		_ = segs[n-1].file.Truncate(segs[n-1].size) // else it keeps its room
	}
	for _, s := range segs {
		s.dead = true
		if db := s.db; db != nil && s.refs == 0 && !b.mustReplace {
			_ = db.Close()
			s.db = nil
		}
		b.closeIdle(s)
	}
	b.segMu.Unlock()
	b.marker.close()
	b.quarantine.close()
	return b.lock.Close() // which gives the lock up
}
