package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Offline is a buffer that no process has open. It is read as a server would read
// it, harmed files included, and nothing of it is changed.
type Offline struct {
	b *Buffer
	c contents
	q quarantineContents
}

// OpenOffline takes a buffer's lock and reads its newest segment. It fails with
// ErrLocked while a process has the buffer.
func OpenOffline(dir string) (_ *Offline, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("reading buffer %q: %w", dir, err)
		}
	}()
	f, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is none: %w", err)
	}
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(f)
	if err != nil {
		return nil, err
	}
	o := &Offline{b: &Buffer{dir: dir, lock: lock, open: map[uint64]*openIntent{}, done: make(chan struct{})}}
	b := o.b
	b.quarantine.begin(b)
	b.Configure(Options{}.withDefaults())
	segs, err := listSegments(dir, slog.New(slog.DiscardHandler))
	if err == nil && len(segs) == 0 {
		err = errors.New("it has no segment: no process has opened it whole yet")
	}
	if err == nil {
		o.c, err = loadNewest(segs)
	}
	if err != nil {
		_ = o.Close()
		return nil, err
	}
	b.segments = segs
	b.loadSums(segs)
	if !o.c.found {
		o.c.state = newState("")
	}
	if o.c.harm != nil {
		o.c.rebuild()
		newest := segs[len(segs)-1]
		newest.view = &view{file: newest.file, index: o.c.index}
	}
	b.state, b.head = o.c.state, o.c.head
	for n, p := range o.c.unresolved {
		b.open[n] = &openIntent{payload: p}
	}
	older := o.c.harm != nil || !o.c.found
	if o.q, err = b.quarantine.load(&b.state, older); err != nil {
		_ = o.Close()
		return nil, err
	}
	b.quarantine.fill(o.q, &b.state, older)
	b.used.Store(b.quarantine.size.Load())
	b.strangers.begin(b.state.Strangers, segs)
	for _, s := range segs {
		b.used.Add(s.size)
	}
	return o, nil
}

// Close gives the buffer free.
func (o *Offline) Close() error {
	for _, s := range o.b.segments {
		s.close()
	}
	o.b.quarantine.close()
	return o.b.lock.Close()
}

// Stats is what the buffer's last process left. Intents without an end are open:
// the next Open records them.
func (o *Offline) Stats() Stats {
	st := o.b.Stats()
	st.MaxBytes, st.MinFreeBytes = 0, 0 // nobody has said yet
	return st
}

// Clean reports whether the last process closed the buffer, and when it last
// committed anything.
func (o *Offline) Clean() (clean bool, at time.Time) { return o.c.found && o.c.state.Clean, o.c.at }

// Instance is the UUID of the buffer that recorded an entry.
func (o *Offline) Instance(sequence uint64) string { return o.b.Instance(sequence) }

// Read is Buffer.Read.
func (o *Offline) Read(from uint64, visit func(sequence uint64, payload []byte) bool) error {
	return o.b.Read(from, visit)
}

// ReadPast is Buffer.ReadPast.
func (o *Offline) ReadPast(from uint64, visit func(sequence uint64, payload []byte) bool, damaged func(*DamagedError)) error {
	return o.b.ReadPast(from, visit, damaged)
}

// Checksum is what a file's checksum says.
type Checksum string

// What a checksum can say.
const (
	ChecksumGood  Checksum = "good"
	ChecksumWrong Checksum = "wrong"
	ChecksumNone  Checksum = "none" // the newest has none, and one that was being sealed at a kill
)

// SegmentReport is what one file holds.
type SegmentReport struct {
	Name  string `json:"name"`
	First uint64 `json:"first"`
	// Last is the sequence of the last entry that the file must hold; First-1 if
	// it holds none.
	Last  uint64 `json:"last"`
	Bytes int64  `json:"bytes"`
	// Checksum is empty unless it was looked at.
	Checksum Checksum `json:"checksum,omitempty"`
	// Lost is how many entries cannot be read; AtLeast says that there may be
	// more, behind the last one that is known of.
	Lost    uint64      `json:"lost"`
	AtLeast bool        `json:"at_least,omitempty"`
	Ranges  [][2]uint64 `json:"ranges,omitempty"`
	// Harm says what is wrong with the file, though nothing may be lost.
	Harm string `json:"harm,omitempty"`
}

// Segments lists the files, oldest first, without reading them.
func (o *Offline) Segments() []SegmentReport {
	var list []SegmentReport
	for i, s := range o.b.segments {
		r := SegmentReport{Name: s.name(), First: s.first, Last: o.b.head, Bytes: s.size}
		if i+1 < len(o.b.segments) {
			r.Last = o.b.segments[i+1].first - 1
		}
		list = append(list, r)
	}
	return list
}

// Quarantined is Buffer.Quarantined.
func (o *Offline) Quarantined(store string, from uint64, visit func(Quarantined) bool) error {
	return o.b.Quarantined(store, from, visit)
}

// QuarantineReport is what quarantine.db holds.
type QuarantineReport struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// Stores are the entries by store: those that its position counts, and those of a time
	// before it began anew.
	Stores map[string]uint64 `json:"stores"`
	// Lost is how many entries were counted and cannot be read; the next server tells of
	// them. There may have been others, that no counter knows.
	Lost map[string]uint64 `json:"lost,omitempty"`
	// Harm says what is wrong with the file, though nothing may be lost.
	Harm string `json:"harm,omitempty"`
}

// Quarantine is what quarantine.db holds. OpenOffline has read all of it.
func (o *Offline) Quarantine() QuarantineReport {
	q := &o.b.quarantine
	r := QuarantineReport{Name: quarantineName, Bytes: q.size.Load(), Stores: map[string]uint64{}, Lost: map[string]uint64{}}
	for store, of := range q.index {
		r.Stores[store] = uint64(len(of))
	}
	for store, p := range o.b.state.Stores {
		if is := q.counted(store, p); is < p.Quarantined {
			r.Lost[store] = p.Quarantined - is
		}
	}
	if o.q.harm != nil {
		r.Harm = o.q.harm.Error()
	}
	return r
}

// Verify reads every byte: checksums, pages, frames and the order of the entries. The
// file of quarantine is listed only if it is harmed, last and without a range. It
// reports progress in bytes.
func (o *Offline) Verify(ctx context.Context, progress func(done, total int64)) ([]SegmentReport, error) {
	list, done, total := o.Segments(), int64(0), o.b.used.Load()
	for i := range list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, r := o.b.segments[i], &list[i]
		if err := s.verify(r, o); err != nil {
			return nil, fmt.Errorf("verifying segment %q: %w", s.path, err)
		}
		done += s.size
		progress(done, total)
	}
	q := o.Quarantine() // it was read when it was opened
	var lost uint64
	for _, n := range q.Lost {
		lost += n
	}
	if q.Harm != "" || lost > 0 {
		list = append(list, SegmentReport{
			Name: q.Name, First: 1, Bytes: q.Bytes, Checksum: ChecksumNone, Lost: lost, AtLeast: true,
			Harm: cmp.Or(q.Harm, errMissing.Error()),
		})
	}
	progress(total, total)
	return list, nil
}

func (s *segment) verify(r *SegmentReport, o *Offline) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.open()
	if err != nil {
		return err
	}
	v := &view{file: f}
	r.Checksum = ChecksumNone
	if s.sum != nil {
		r.Checksum = ChecksumGood
	}
	harm := v.check(s.sum)
	if harm != nil && s.sum != nil && v.tree == nil {
		r.Checksum = ChecksumWrong
	}
	if s == o.b.segments[len(o.b.segments)-1] {
		harm = o.c.harm
		r.AtLeast = o.c.uncertain
	}
	if harm == nil {
		_, _, harm = v.walk(s.first, r.Last, func(frame) bool { return true })
	}
	if harm == nil {
		return nil
	}
	r.Harm = harm.Error()
	index, err := scanEntries(f, s.first, r.Last)
	lost := missing(index, s.first, r.Last)
	r.Lost, r.Ranges = lost.count, lost.ranges
	return err
}

// Repair opens a buffer as a server would, with all that this records of unknown
// ends and gaps, and writes each harmed segment, and the file of quarantine if it is
// harmed, again from what can be read of it.
// The harmed file stays beside it under a name that ends with ".damaged".
func Repair(ctx context.Context, dir string, o Options, progress func(done, total int64)) (repaired []string, err error) {
	b, err := Open(dir, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	if why := b.Stats().Failing; why != nil {
		return nil, fmt.Errorf("repairing buffer %q: %w", dir, why)
	}
	b.segMu.Lock()
	segs := slices.Clone(b.segments[:len(b.segments)-1])
	b.segMu.Unlock()
	total, done := b.used.Load(), int64(0)
	for i, s := range segs {
		if err := ctx.Err(); err != nil {
			return repaired, err
		}
		last := b.active().first - 1
		if i+1 < len(segs) {
			last = segs[i+1].first - 1
		}
		if err := b.readSealed(s, s.first, last, func(frame) bool { return true }); err != nil {
			if _, damaged := errors.AsType[*DamagedError](err); !damaged {
				return repaired, err
			}
		}
		if s.view.index != nil {
			if err := b.rewrite(s, last); err != nil {
				return repaired, fmt.Errorf("repairing segment %q: %w", s.path, err)
			}
			repaired = append(repaired, s.name())
		}
		done += s.size
		progress(done, total)
	}
	again, err := b.quarantine.repair()
	if again {
		repaired = append(repaired, quarantineName)
	}
	progress(total, total)
	return repaired, err
}

// rewrite makes a harmed segment's file anew. What is lost has an empty frame in its
// place, so that the file is whole; a reader takes it for what it stands for.
func (b *Buffer) rewrite(s *segment, last uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tmp := s.path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(tmp, segmentMode, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		e, err := tx.CreateBucket(bucketEntries)
		if err != nil {
			return err
		}
		e.FillPercent = 1
		for next := s.first; next <= last; {
			put := func(f frame) error { return e.Put(putKey(new([8]byte), f.sequence), f.append(nil)) }
			var bad error
			err := s.view.find(s.path, next, last, func(f frame) bool {
				next, bad = f.sequence+1, put(f)
				return bad == nil
			})
			if damaged, is := errors.AsType[*DamagedError](err); is {
				for ; next <= damaged.Last && bad == nil; next++ {
					bad = put(frame{flags: flagLost, sequence: next})
				}
				err = nil
			}
			if err := errors.Join(err, bad); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(s.path, s.path+setAside); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(tmp, s.path); err != nil {
		return err
	}
	if err := syncDir(b.dir); err != nil {
		return err
	}
	_ = s.file.Close()
	s.file, s.view = nil, nil
	f, err := s.open()
	if err != nil {
		return err
	}
	got, err := sumOf(f)
	if err != nil {
		return err
	}
	got.Last = last
	b.segMu.Lock()
	s.sum, s.lost = &got, false
	b.segMu.Unlock()
	b.mu.Lock()
	b.sums[s.first], b.dirty = got, true
	b.mu.Unlock()
	return nil
}

// Inspect is the Stats of a buffer that no process has open.
func Inspect(dir string) (Stats, error) {
	o, err := OpenOffline(dir)
	if err != nil {
		return Stats{}, err
	}
	return o.Stats(), o.Close()
}
