package buffer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// passIdle is how long nobody must have passed for an episode to be over, and
	// passTell how long one may last before a gap tells of its beginning.
	passIdle = time.Second
	passTell = time.Minute

	// passNames is how many told episodes the state names. The marker speaks of two at a
	// time, and may be behind.
	passNames = 8

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
	first   time.Time // when it began; never changes
	began   time.Time // the same, to a test that turns the clock
	last    time.Time // when the newest call passed
	counted uint64    // of Count, in the terms of the calls
	marked  chan struct{}
	err     error // of the marker; set before marked is closed
}

// pass lets n calls through that cannot be recorded. Before the first one of an
// episode, the marker on the disk says that it has begun. Where the disk does not
// take even that, the state must have said before that it may come to this, or
// somebody must have ordered it, for whom a disk that takes nothing is the reason.
func (b *Buffer) pass(why error, n uint64) error {
	for {
		p, err := b.episode(why)
		if err != nil {
			return err
		}
		err = p.await(time.Duration(b.maxWait.Load()))
		b.mu.Lock()
		switch {
		case err != nil && !b.armed && b.Ordered().IsZero():
			b.mu.Unlock()
			return fmt.Errorf("writing the marker that calls pass: %w", err)
		case b.passing != p: // it was told of meanwhile, and its marker says nothing any more
			b.mu.Unlock()
			continue
		}
		p.Count += n
		p.last = time.Now()
		b.dirty = true
		b.mu.Unlock()
		return nil
	}
}

// await waits for the marker, but no longer than d after the episode has begun: a disk
// that hangs must not keep each call for so long.
func (p *passing) await(d time.Duration) error {
	t := time.NewTimer(max(0, d-time.Since(p.first)))
	defer t.Stop()
	select {
	case <-p.marked:
		return p.err
	case <-t.C:
	}
	select {
	case <-p.marked: // both, and the marker counts
		return p.err
	default:
		return ErrSlow
	}
}

// episode is the one that lasts, begun if there is none.
func (b *Buffer) episode(why error) (*passing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ending {
		return nil, ErrClosed
	}
	if b.passing == nil {
		now := time.Now()
		p := &passing{episode: episode{Since: now.UnixMicro(), Cause: b.causeOf(why)}, first: now, began: now, last: now, marked: make(chan struct{})}
		b.passing = p
		if b.passSaid.failed() {
			b.log().Error("calls pass unrecorded; a gap will say how many", "cause", p.Cause, "directory", b.dir)
		}
		go b.mark(p)
	}
	return b.passing, nil
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

// mark writes the marker of an episode and keeps its count up, until the next one
// begins or its gap is on the disk.
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
		over := b.passing != p && (b.passing != nil || b.telling.Since == 0)
		b.mu.Unlock()
		if over {
			return
		}
	}
}

// markerText is what the marker must say now.
func (b *Buffer) markerText() (say mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.passing != nil {
		say.Episode = b.passing.episode
	}
	say.Before, say.Ordered = b.telling, b.ordered.Load()
	return say
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
	b.passing, b.state.Passing = nil, nil
	b.passCount += p.Count
	b.tells(p.episode)
	if p.Count > 0 {
		b.tell(Gap{Reason: GapPassed, Cause: p.Cause, Count: p.Count, Since: time.UnixMicro(p.Since), Until: p.last})
	}
	return calls
}

// sayRecorded logs that no calls pass any more, when the gap of those that did is on the
// disk. An episode that has lasted for long is followed by the next, and is not the end.
func (b *Buffer) sayRecorded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.passing != nil || b.telling.Since != 0 {
		return
	}
	if after, ends := b.passSaid.ended(); ends {
		b.log().Info("calls are recorded again; a gap says how many passed", "passed", b.passCount, "after", after, "directory", b.dir)
		b.passCount = 0
	}
}

// tells notes that the next commit has an episode's gap. Until that is on the disk the
// marker goes on to speak of it, whatever passes meanwhile. The caller holds mu.
func (b *Buffer) tells(e episode) {
	if b.telling.Since == 0 {
		b.telling = e
	} else {
		b.telling.Count += e.Count
	}
	b.state.PassTold = append(slices.Clone(b.state.PassTold), e.Since)
	b.state.PassTold = b.state.PassTold[max(0, len(b.state.PassTold)-passNames):]
}

// recoverPassing tells of the calls that the process before let pass, as far as
// anything on the disk knows of them.
func (b *Buffer) recoverPassing() {
	said, err := b.marker.open(b.dir)
	if err != nil {
		b.log().Error("reading the marker of passed calls; it is made anew", "directory", b.dir, "error", err)
	}
	if said.Ordered > time.Now().UnixMicro() {
		b.ordered.Store(said.Ordered)
	}
	counted := b.state.Passing // its count is in the terms of the calls
	b.state.Passing = nil
	list := []episode{said.Before, said.Episode}
	if counted != nil {
		if i := slices.IndexFunc(list, func(e episode) bool { return e.Since == counted.Since }); i >= 0 {
			list[i].Count = max(list[i].Count, counted.Count)
		} else {
			list = append(list, *counted)
		}
	}
	for _, e := range list {
		if e.Since == 0 || slices.Contains(b.state.PassTold, e.Since) {
			continue
		}
		n := e.Count
		if counted != nil && counted.Since == e.Since {
			n -= counted.Count
		}
		b.state.Calls.Seen += n
		b.state.Calls.Passed += n
		b.tells(e)
		b.tell(Gap{
			Reason: GapPassed, Cause: e.Cause, Count: e.Count, AtLeast: true,
			Since: time.UnixMicro(e.Since), Until: time.Now(),
		})
	}
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

	making trouble // the file anew
}

// mark is what the marker says: the episode that lasts, if one does, the one before it
// whose gap is not on the disk yet, and until when calls may pass by order.
type mark struct {
	Episode episode `json:"passing"`
	Before  episode `json:"before"`
	Ordered int64   `json:"ordered"` // µs since the Unix epoch
}

// open opens the file, making it if it is not there, and reads what it says.
func (m *marker) open(dir string) (said mark, err error) {
	path := filepath.Join(dir, markerName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, segmentMode)
	if err != nil {
		return said, err
	}
	m.file, m.turn, m.said = f, 0, mark{}
	var block [2 * markerBlock]byte
	n, err := f.ReadAt(block[:], 0)
	if n < len(block) && (err == nil || errors.Is(err, io.EOF)) {
		// It is new, or a cut has kept it from being made.
		clear(block[:])
		if _, err := f.WriteAt(block[:], 0); err != nil {
			return said, err
		}
		if err := f.Sync(); err != nil {
			return said, err
		}
		return said, syncDir(dir)
	}
	if err != nil {
		return said, err
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
	return m.said, nil
}

// write makes the marker say what text says by the time it is written.
func (m *marker) write(text func() mark) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	say := text()
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
	if _, err := m.open(dir); err != nil {
		m.file = was
		if m.making.failed() {
			log.Error("making the marker of passed calls anew; it is tried again each second", "file", path, "error", err)
		}
		return
	}
	after, ends := m.making.ended()
	m.said = mark{} // whatever it says, it is written again
	switch {
	case was == nil && ends:
		log.Info("the marker of passed calls is made", "file", path, "after", after)
	case was != nil:
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
