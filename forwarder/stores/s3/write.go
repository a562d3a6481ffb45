package s3

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// How each entry comes into exactly one object, whatever happens between.
//
// An upload whose answer is lost may have arrived, and worse, may still arrive: after a
// restart, when the forwarder offers other batches than before (1 to 251 where it had
// been 1 to 250), or the same entries once more because the position was late. If what
// is offered were simply written, there would be two objects with the same entries, and
// in a locked bucket for years. Three things keep that away.
//
//   - A name is noted before it is used. The note is durable when SetNote returns, so
//     after a crash the one object that may be on its way is known. Nothing else is
//     written before it is settled, in one of three ways. Its entries are offered again:
//     they are cut out, have the same name and content, and are written; whichever upload
//     comes second is refused by the server (If-None-Match). Or the object is there. Or it
//     is not there and cannot be made any more, since entries are filtered now or the
//     forwarder makes smaller batches after a time-out: then its name is taken by an empty
//     object, which is void, so that the late upload is refused. There is no fourth.
//     That holds for an instance that is adopted too, since the note goes with its buffer.
//   - What may be in an object already is looked up, and an entry is left out only if an
//     object was read that has its very bytes. A listing alone would not do: with classes,
//     filters and holes a range does not say what is in it, a changed format makes other
//     bytes of an entry, and whoever may write to the bucket could keep entries out of it
//     by a name. So leaving out can never lose one.
//   - That is asked only where it can be true. An object's day is never before the arrival
//     of any of its entries. So for an entry of some arrival the objects of that day and
//     later ones are enough, which is what start-after is for; and an entry whose sequence
//     is higher than that of every object there is in none. That is every entry but in the
//     first batch after a start, after an error, and when quarantine is tried again.
//
// Where the server knows no If-None-Match, a repeat writes the same bytes under the same
// name, and a name cannot be taken. Then, and only then, a late upload of a batch that had
// to be made smaller can leave entries in two objects.

// note is what is kept beside the position.
type note struct {
	// Object is the name that was chosen last, below entriesDir.
	Object string `json:"object"`
	// Settled says that it is written, or void.
	Settled bool `json:"settled,omitempty"`
	// Closed is the last day of which a manifest may have been written: no object has it,
	// or an earlier one, any more. The manifest may be on its way too.
	Closed string `json:"closed,omitempty"`
}

// group is what becomes one object.
type group []forwarder.Record

// Write writes what of the batch is in no object yet: an object for each class and
// instance, with ascending sequences.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	if s.closed.Err() != nil {
		return s.failure(batch, errClosed)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	err := s.checkKept(batch)
	if err == nil {
		err = s.write(ctx, batch)
	}
	if err != nil {
		return s.failure(batch, err)
	}
	clear(s.written)
	s.keepManifests(ctx, batch)
	return nil
}

func (s *Store) write(ctx context.Context, batch []forwarder.Record) error {
	if err := s.settle(ctx, batch); err != nil {
		return err
	}
	left, err := s.missing(ctx, batch)
	if err != nil {
		return err
	}
	groups := divide(left)
	for i, g := range groups {
		if err := s.writeGroup(ctx, g); err != nil {
			for _, g := range groups[:i] {
				s.remember(g)
			}
			return err
		}
	}
	if !s.settled {
		// Only spares the next start a question.
		s.settled = s.keepNote(note{Object: s.noted, Settled: true}) == nil
	}
	return nil
}

func (s *Store) writeGroup(ctx context.Context, g group) error {
	body := plain(g)
	o := describe(g, body)
	var err error
	if o.day, err = s.day(ctx, g); err != nil {
		return err
	}
	if o, err = s.store(ctx, o, body, latest(g)); err != nil {
		return err
	}
	s.took(o)
	return nil
}

// maxRemembered bounds what is remembered of attempts that failed, in entries. What is
// not is looked for in the bucket.
const maxRemembered = 100_000

// maxTries bounds how many names of the same entries may be void.
const maxTries = 1000

// store notes the object's name and writes it, under another one if that is void.
func (s *Store) store(ctx context.Context, o object, body []byte, kept time.Time) (object, error) {
	for {
		if err := s.noteName(o); err != nil {
			return o, err
		}
		err := s.put(ctx, o, body, kept)
		if !errors.Is(err, errVoid) || o.try == maxTries {
			return o, err
		}
		o.try++
	}
}

// divide makes groups, in the order of their first entries.
func divide(records []forwarder.Record) (groups []group) {
	type key struct{ class, instance string }
	open := map[key]int{}
	for _, r := range records {
		k := key{class(r), instance(r)}
		i, is := open[k]
		if !is || groups[i][len(groups[i])-1].Sequence >= r.Sequence {
			i = len(groups)
			open[k] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

// day is that of the next object: today, but no day before any of its entries arrived,
// however the clock was set, and none that is closed by a manifest.
func (s *Store) day(ctx context.Context, g group) (time.Time, error) {
	_, to := span(g)
	day := dayOf(s.now())
	if at := dayOf(to); at.After(day) {
		day = at
	}
	closed, err := s.closedThrough(ctx, instance(g[0]))
	if err != nil {
		return day, err
	}
	if s.closedDay.After(closed) {
		closed = s.closedDay
	}
	if !day.After(closed) {
		day = closed.AddDate(0, 0, 1)
	}
	return day, nil
}

// noteName keeps the name of the object that is written next.
func (s *Store) noteName(o object) error {
	if err := s.keepNote(note{Object: o.name()}); err != nil {
		// Either note may be found after a crash now: the one before is settled, and nothing
		// was written under this name.
		return fmt.Errorf("noting the name of the next object: %w", err)
	}
	s.inDoubt, s.noted, s.settled = &o, o.name(), false
	return nil
}

// noteClosed keeps a day that gets a manifest.
func (s *Store) noteClosed(day time.Time) error {
	if !day.After(s.closedDay) {
		return nil
	}
	before := s.closedDay
	s.closedDay = day
	if err := s.keepNote(note{Object: s.noted, Settled: s.settled}); err != nil {
		s.closedDay = before
		return fmt.Errorf("noting that a day is closed: %w", err)
	}
	return nil
}

func (s *Store) keepNote(n note) error {
	if s.notes == nil {
		return nil // nobody keeps any: this is a check of the store, or a test
	}
	if !s.closedDay.IsZero() {
		n.Closed = s.closedDay.Format(manifestDay)
	}
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return s.notes.SetNote(b)
}

// KeepNotes implements forwarder.NoteKeeper.
func (s *Store) KeepNotes(n forwarder.Notes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = n
	b := n.Note()
	if len(b) == 0 {
		return
	}
	var kept note
	if err := json.Unmarshal(b, &kept); err != nil {
		s.log.Warn("the note of the last upload cannot be read: if that is still on its way, its entries may come to lie in two objects", "note", string(b))
		return
	}
	s.closedDay, _ = time.Parse(manifestDay, kept.Closed) // zero if there is none
	s.noted, s.settled = kept.Object, kept.Settled || kept.Object == ""
	if s.settled {
		return
	}
	if o, ok := parseName(kept.Object); ok {
		s.inDoubt = &o
		return
	}
	// Another version of this store may name its objects in another way.
	s.log.Warn("the name of the last upload cannot be read: if that is still on its way, its entries may come to lie in two objects", "object", kept.Object)
	s.settled = true
}

// settle makes sure what becomes of the object in doubt.
func (s *Store) settle(ctx context.Context, batch []forwarder.Record) error {
	if s.inDoubt == nil {
		return nil
	}
	o := *s.inDoubt
	var again group
	for _, r := range batch {
		if class(r) == o.class && instance(r) == o.instance && o.first <= r.Sequence && r.Sequence <= o.last &&
			(len(again) == 0 || again[len(again)-1].Sequence < r.Sequence) {
			again = append(again, r)
		}
	}
	if len(again) == o.entries {
		body := plain(again)
		made := describe(again, body)
		if made.day, made.try = o.day, o.try; made == o {
			err := s.put(ctx, o, body, latest(again))
			switch {
			case err == nil:
				s.took(o)
				s.remember(again)
			case errors.Is(err, errVoid): // by an upload of that, which was in doubt too
				s.inDoubt = nil
				err = nil
			}
			return err
		}
	}
	there, err := s.void(ctx, o)
	if err != nil {
		return err
	}
	if there {
		s.took(o)
	}
	s.inDoubt = nil
	return nil
}

// took notes that an object is there.
func (s *Store) took(o object) {
	s.inDoubt = nil
	if k := s.known[o.instance]; k != nil {
		k.highest = max(k.highest, o.last)
		k.classes[o.class] = true
	}
}

// remember spares looking for what was written in an attempt that failed later.
func (s *Store) remember(g group) {
	if len(s.written) > maxRemembered {
		clear(s.written)
	}
	for _, r := range g {
		s.written[sha256.Sum256(r.JSON)] = true
	}
}

// checkKept notes until when the entries are kept, where the lock depends on it.
func (s *Store) checkKept(batch []forwarder.Record) error {
	if l := s.c.Lock; l.Mode == "" || l.Term > 0 {
		return nil
	}
	for _, r := range batch {
		kept := keptUntil(r)
		if kept.IsZero() {
			return fmt.Errorf("class %q keeps its entries forever, and no lock lasts forever: give the lock a term, as in: lock compliance 3650d, or the class one in keep", class(r))
		}
		if kept.After(s.kept) {
			s.kept = kept
		}
	}
	return nil
}

// keptUntil is until when an entry is kept; zero is forever.
func keptUntil(r forwarder.Record) time.Time {
	if t := r.Entry.Retention; t != nil && t.KeepUntil > 0 {
		return time.UnixMicro(t.KeepUntil)
	}
	return time.Time{}
}

// latest is until when the last of some entries is kept.
func latest(g group) (kept time.Time) {
	for _, r := range g {
		if at := keptUntil(r); at.After(kept) {
			kept = at
		}
	}
	return kept
}

// put writes an object. Nil says that it is there.
func (s *Store) put(ctx context.Context, o object, body []byte, kept time.Time) error {
	name := entriesDir + o.name()
	meta := map[string]string{
		"entries": fmt.Sprint(o.entries), "sha256": o.sum,
		"first-arrival": o.from.Format(time.RFC3339), "last-arrival": o.to.Format(time.RFC3339),
	}
	if !s.conditional {
		// The same bytes would only make another version.
		if there, err := s.isThere(ctx, o); there || err != nil {
			return err
		}
	}
	err := s.create(ctx, name, encoder.EncodeAll(body, nil), meta, kept)
	if !errors.Is(err, errExists) {
		return err
	}
	there, err := s.isThere(ctx, o)
	if err == nil && !there {
		err = fmt.Errorf("object %q is refused because it is there, and it is not there: try again; if that stays so, look at what stands before the endpoint", s.key(name))
	}
	return err
}

// create writes an object that is not there. Where the server knows no condition it
// finds that out, and writes all the same.
func (s *Store) create(ctx context.Context, name string, body []byte, meta map[string]string, kept time.Time) error {
	err := s.bucket.put(ctx, s.key(name), body, meta, kept, s.conditional)
	if errors.Is(err, errNoCondition) && s.conditional {
		s.withoutCondition()
		err = s.bucket.put(ctx, s.key(name), body, meta, kept, false)
	}
	return err
}

// errVoid says that a name is taken by an empty object, or by one that is damaged.
var errVoid = errors.New("its name is taken by an object that is void or damaged")

// isThere reports whether an object is, and fails if it is another one, with errVoid if
// that is a void one.
func (s *Store) isThere(ctx context.Context, o object) (bool, error) {
	name := s.key(entriesDir + o.name())
	i, err := s.bucket.head(ctx, name)
	switch {
	case errors.Is(err, errNotFound):
		return false, nil
	case err != nil:
		return false, err
	case i.size == 0 || s.damaged[o.name()]:
		return false, errVoid
	case i.meta["sha256"] != o.sum:
		return false, fmt.Errorf("object %q is not this store's: find out who else writes to the bucket, and give the store another prefix", name)
	}
	return true, nil
}

// void takes the name of an object that cannot be made any more, unless it is there.
func (s *Store) void(ctx context.Context, o object) (there bool, err error) {
	name := entriesDir + o.name()
	look := func() (is, empty bool, err error) {
		i, err := s.bucket.head(ctx, s.key(name))
		if errors.Is(err, errNotFound) {
			return false, false, nil
		}
		return err == nil, i.size == 0, err
	}
	is, empty, err := look()
	if err != nil || is {
		return is && !empty, err
	}
	if !s.conditional {
		s.log.Warn("an upload was given up that may still arrive: then its entries lie in two objects", "object", s.key(name))
		return false, nil
	}
	err = s.bucket.put(ctx, s.key(name), nil, map[string]string{"void": "the entries are in other objects"}, s.kept, true)
	switch {
	case errors.Is(err, errNoCondition):
		s.withoutCondition()
		return false, nil
	case errors.Is(err, errExists):
		is, empty, err = look()
		if err == nil && !is {
			err = fmt.Errorf("object %q is refused because it is there, and it is not there: try again", s.key(name))
		}
		return is && !empty, err
	case err == nil:
		s.log.Info("an upload was given up, and its name is taken by an empty object so that it cannot arrive any more", "object", s.key(name))
	}
	return false, err
}
