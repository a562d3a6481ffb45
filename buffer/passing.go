package buffer

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// passIdle is how long nobody must have passed for an episode to be over, and
	// passTell how long one may last before a gap tells of its beginning.
	passIdle = time.Second
	passTell = time.Minute

	markerName = "PASS"
	// markerBlock is the size of one of the marker's two places, written in turn,
	// so that a cut leaves the other one whole. They are written when the file is
	// made: what is written over needs no room, which a full disk does not have.
	markerBlock = 4096
)

// episode is a stretch of time in which calls passed unrecorded.
type episode struct {
	Since int64  `json:"since"` // µs since the Unix epoch; it also is its name
	Cause string `json:"cause"`
	Count uint64 `json:"count"`
}

// passing is the episode that lasts.
type passing struct {
	episode
	began   time.Time
	last    time.Time // when the newest call passed
	counted uint64    // of Count, in the terms of the calls
	marked  chan struct{}
	err     error       // of the marker; set before marked is closed
	gaveUp  atomic.Bool // the marker did not come in time
}

// pass lets n calls through that cannot be recorded. Before the first one of an
// episode, the marker on the disk says that it has begun. Where the disk does not
// take even that, the state must have said before that it may come to this.
func (b *Buffer) pass(why error, n uint64) error {
	for {
		p, err := b.episode(why)
		if err != nil {
			return err
		}
		err = p.wait(time.Duration(b.maxWait.Load()))
		b.mu.Lock()
		switch {
		case b.passing != p: // a gap has told of it meanwhile
			b.mu.Unlock()
			continue
		case err != nil && !b.armed:
			b.mu.Unlock()
			return fmt.Errorf("writing the marker that calls pass: %w", err)
		}
		p.Count += n
		p.last = time.Now()
		b.dirty = true
		b.mu.Unlock()
		return nil
	}
}

// episode is the one that lasts, or a new one.
func (b *Buffer) episode(why error) (*passing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending {
		return nil, ErrClosed
	}
	if b.passing == nil {
		now := time.Now()
		p := &passing{episode: episode{Since: now.UnixMicro(), Cause: b.causeOf(why)}, began: now, last: now, marked: make(chan struct{})}
		b.passing = p
		b.log().Error("calls pass unrecorded; a gap will say how many", "cause", p.Cause, "directory", b.dir)
		go b.mark(p)
	}
	return b.passing, nil
}

// wait waits until the disk has the marker. Where it does not come in time, nobody
// after the first waits for it again.
func (p *passing) wait(d time.Duration) error {
	if p.gaveUp.Load() {
		d = 0
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.marked:
		return p.err
	case <-t.C:
	}
	select {
	case <-p.marked:
		return p.err
	default:
		p.gaveUp.Store(true)
		return ErrSlow
	}
}

// causeOf names a fault, as gaps do.
func (b *Buffer) causeOf(why error) string {
	switch {
	case errors.Is(why, ErrFull):
		return "full"
	case errors.Is(why, ErrFailing), b.failing != nil:
		return "failing"
	default:
		return "slow"
	}
}

// mark writes the marker of an episode and keeps its count up, until the episode is
// over.
func (b *Buffer) mark(p *passing) {
	p.err = b.marker.write(b.markerText)
	close(p.marked)
	if p.err != nil {
		b.log().Error("writing the marker that calls pass unrecorded", "directory", b.dir, "error", p.err)
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-b.done:
			return
		}
		if err := b.marker.write(b.markerText); err != nil {
			continue
		}
		b.mu.Lock()
		over := b.passing != p // the one after keeps its own count up
		b.mu.Unlock()
		if over {
			return
		}
	}
}

// markerText is what the marker must say now.
func (b *Buffer) markerText() (e episode, ordered int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.passing != nil {
		e = b.passing.episode
	}
	return e, b.ordered.Load()
}

// tellPassed counts the calls that have passed since the last commit, and ends the
// episode with its gap when it is over or has lasted for long. The caller holds mu
// and is about to commit: the disk works, or the commit waits until it does.
func (b *Buffer) tellPassed() (calls Calls) {
	p := b.passing
	if p == nil {
		return calls
	}
	n := p.Count - p.counted
	p.counted = p.Count
	calls = Calls{Seen: n, Passed: n}
	if now := time.Now(); !b.ending && now.Sub(p.last) < passIdle && now.Sub(p.began) < passTell {
		e := p.episode
		b.state.Passing = &e
		return calls
	}
	b.passing, b.state.Passing, b.state.PassTold = nil, nil, p.Since
	if p.Count > 0 {
		b.tell(Gap{Reason: GapPassed, Cause: p.Cause, Count: p.Count, Since: time.UnixMicro(p.Since), Until: p.last})
	}
	return calls
}

// recoverPassing tells of the calls that the process before let pass, as far as
// anything on the disk knows of them.
func (b *Buffer) recoverPassing() {
	e, ordered, err := b.marker.open(b.dir)
	if err != nil {
		b.log().Error("reading the marker of passed calls; it is made anew", "directory", b.dir, "error", err)
	}
	if ordered > time.Now().UnixMicro() {
		b.ordered.Store(ordered)
	}
	if p := b.state.Passing; p != nil && (e.Since == 0 || e.Since == p.Since && e.Count < p.Count) {
		e = *p
	}
	if e.Since == 0 || e.Since == b.state.PassTold {
		b.state.Passing = nil
		return
	}
	n := e.Count
	if p := b.state.Passing; p != nil && p.Since == e.Since {
		n -= p.Count
	}
	b.state.Calls.Seen += n
	b.state.Calls.Passed += n
	b.state.Passing, b.state.PassTold = nil, e.Since
	b.tell(Gap{
		Reason: GapPassed, Cause: e.Cause, Count: e.Count, AtLeast: true,
		Since: time.UnixMicro(e.Since), Until: time.Now(),
	})
}

// PassUntil lets calls pass that cannot be recorded, whatever OnFault says, until
// a time; a time that is over ends it. It outlives the process if the disk takes
// it. The caller records who asked for it, and why.
func (b *Buffer) PassUntil(t time.Time) {
	b.ordered.Store(t.UnixMicro())
	go func() {
		if err := b.marker.write(b.markerText); err != nil {
			b.log().Error("writing until when calls may pass; a restart ends it", "directory", b.dir, "error", err)
		}
	}()
}

// Ordered is until when PassUntil lets calls pass; zero if it does not.
func (b *Buffer) Ordered() (until time.Time) {
	if n := b.ordered.Load(); n > time.Now().UnixMicro() {
		until = time.UnixMicro(n)
	}
	return until
}

// marker is the file that says that calls pass. It is written in place.
type marker struct {
	mu   sync.Mutex
	file *os.File
	turn int64 // counts what was written
	said mark  // what the disk has
}

// mark is what the marker says: the episode that lasts, if one does, and until when
// calls may pass by order.
type mark struct {
	Episode episode `json:"passing"`
	Ordered int64   `json:"ordered"` // µs since the Unix epoch
}

// open opens the file, making it if it is not there, and reads what it says.
func (m *marker) open(dir string) (e episode, ordered int64, err error) {
	path := filepath.Join(dir, markerName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, segmentMode)
	if err != nil {
		return e, 0, err
	}
	m.file, m.turn, m.said = f, 0, mark{}
	var block [2 * markerBlock]byte
	n, err := f.ReadAt(block[:], 0)
	if n < len(block) {
		// It is new, or a cut has kept it from being made.
		clear(block[:])
		if _, err := f.WriteAt(block[:], 0); err != nil {
			return e, 0, err
		}
		if err := f.Sync(); err != nil {
			return e, 0, err
		}
		return e, 0, syncDir(dir)
	}
	if err != nil {
		return e, 0, err
	}
	for i := range int64(2) {
		f, err := parseFrame(block[i*markerBlock : (i+1)*markerBlock])
		if err != nil || int64(f.sequence) <= m.turn {
			continue
		}
		var said mark
		if json.Unmarshal(f.payload, &said) == nil {
			m.turn, m.said = int64(f.sequence), said
		}
	}
	return m.said.Episode, m.said.Ordered, nil
}

// write makes the marker say what text says by the time it is written.
func (m *marker) write(text func() (episode, int64)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	say := mark{}
	say.Episode, say.Ordered = text()
	if m.file == nil {
		return errors.New("the file could not be opened at the start")
	}
	return m.put(say)
}

// put writes what is to be said, if the disk does not have it. The caller holds mu.
func (m *marker) put(say mark) error {
	if say == m.said {
		return nil
	}
	if err := at("marker"); err != nil {
		return err
	}
	payload, err := json.Marshal(say)
	if err != nil {
		return err
	}
	f := frame{flags: flagState, sequence: uint64(m.turn) + 1, time: time.Now().UnixMicro(), payload: payload}
	if _, err := m.file.WriteAt(f.append(nil), (m.turn+1)%2*markerBlock); err != nil {
		return err
	}
	if err := fdatasync(m.file); err != nil {
		return err
	}
	m.turn++
	m.said = say
	return nil
}

// rescue makes the file anew if somebody has deleted or replaced it, with what it said.
func (m *marker) rescue(dir string, log *slog.Logger) {
	path := filepath.Join(dir, markerName)
	if !m.mu.TryLock() {
		return // it is being written; the next time will do
	}
	defer m.mu.Unlock()
	if m.file != nil && same(path, m.file) {
		return
	}
	was := m.file
	said := m.said
	if _, _, err := m.open(dir); err != nil {
		m.file = was
		log.Error("making the marker of passed calls anew; it is tried again", "file", path, "error", err)
		return
	}
	m.said = mark{} // whatever it says, it is written again
	if was != nil {
		log.Error("the marker of passed calls was deleted or replaced behind our back; it is made anew", "file", path)
		_ = was.Close()
	}
	if err := m.put(said); err != nil {
		log.Error("writing the marker of passed calls", "file", path, "error", err)
	}
}

func (m *marker) close() {
	// A write that hangs must not keep the process.
	if m.mu.TryLock() {
		defer m.mu.Unlock()
		if m.file != nil {
			_ = m.file.Close()
			m.file = nil
		}
	}
}
