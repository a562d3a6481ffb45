package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// maxListed bounds one listing, in names.
	maxListed = 10_000_000
	// maxClasses bounds the classes that a store has.
	maxClasses = 1000
)

// known is what is known of an instance's objects.
type known struct {
	// from is the first day whose objects were listed, and highest the highest sequence
	// in them and in all that were written since.
	from    time.Time
	highest uint64
	// classes are all in the bucket.
	classes map[string]bool

	// closed is the last day that has a manifest, zero if there is none, and checked when
	// manifests were last made, or tried to be.
	closed      time.Time
	closedKnown bool
	checked     time.Time
	retry       time.Time
	failing     bool // a manifest could not be written, and the log says so
}

// missing are the records that are in no object, without repeats.
func (s *Store) missing(ctx context.Context, batch []forwarder.Record) ([]forwarder.Record, error) {
	compare, look, err := s.doubtful(ctx, batch)
	if err != nil {
		return nil, err
	}
	there := map[[sha256.Size]byte]bool{}
	for of, records := range look {
		if err := s.find(ctx, of, records, there); err != nil {
			return nil, err
		}
	}
	left := make([]forwarder.Record, 0, len(batch))
	for _, r := range batch {
		if compare[instance(r)] {
			sum := sha256.Sum256(r.JSON)
			if there[sum] || s.written[sum] {
				continue
			}
			there[sum] = true
		}
		left = append(left, r)
	}
	return left, nil
}

// doubtful are the instances whose records have to be compared with what was written or
// with each other, and those records that have to be looked for in the bucket.
func (s *Store) doubtful(ctx context.Context, batch []forwarder.Record) (compare map[string]bool, look map[string][]forwarder.Record, err error) {
	earliest := map[string]time.Time{}
	for _, r := range batch {
		if at, is := earliest[instance(r)]; !is || arrival(r).Before(at) {
			earliest[instance(r)] = arrival(r)
		}
	}
	for of, at := range earliest {
		if k := s.known[of]; k == nil || dayOf(at).Before(k.from) {
			if err := s.learn(ctx, of, dayOf(at)); err != nil {
				return nil, nil, err
			}
		}
	}
	compare, look = map[string]bool{}, map[string][]forwarder.Record{}
	highest := map[string]uint64{} // of this batch so far
	for _, r := range batch {
		of := instance(r)
		if r.Sequence <= s.known[of].highest {
			compare[of] = true
			if !s.written[sha256.Sum256(r.JSON)] {
				look[of] = append(look[of], r)
			}
		}
		if r.Sequence <= highest[of] {
			compare[of] = true // the forwarder makes no such batches
		}
		highest[of] = max(highest[of], r.Sequence)
	}
	return compare, look, nil
}

// learn lists an instance's objects from a day on.
func (s *Store) learn(ctx context.Context, of string, from time.Time) error {
	k := &known{from: from, classes: map[string]bool{}}
	for dir, err := range s.bucket.prefixes(ctx, s.key(entriesDir)) {
		if err != nil {
			return err
		}
		if len(k.classes) == maxClasses {
			return fmt.Errorf("%q has more than %d directories, and there should be one for each retention class: give the store a prefix of its own", s.key(entriesDir), maxClasses)
		}
		if c, err := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(dir, s.key(entriesDir)), "/")); err == nil {
			k.classes[c] = true
		}
	}
	for o, err := range s.objects(ctx, k, of, from) {
		if err != nil {
			return err
		}
		if o.size > 0 {
			k.highest = max(k.highest, o.last)
		}
	}
	if old := s.known[of]; old != nil {
		k.highest = max(k.highest, old.highest)
		k.closed, k.closedKnown, k.checked, k.failing = old.closed, old.closedKnown, old.checked, old.failing
	}
	s.known[of] = k
	return nil
}

// listed is an object with its size; one of size zero is void.
type listed struct {
	object
	size int64
}

// objects lists those of an instance from a day on. What has a name that is none is
// passed over: it is not ours.
func (s *Store) objects(ctx context.Context, k *known, of string, from time.Time) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		n := 0
		for c := range k.classes {
			dir := s.key(entriesDir + escape(c) + "/" + escape(of) + "/")
			for i, err := range s.bucket.list(ctx, dir, dir+from.Format(dayForm)) {
				if err != nil {
					yield(listed{}, err)
					return
				}
				if n++; n > maxListed {
					yield(listed{}, fmt.Errorf("listing %q: it has more than %d names", dir, maxListed))
					return
				}
				o, ok := parseName(strings.TrimPrefix(i.key, s.key(entriesDir)))
				if !ok || o.instance != of {
					continue
				}
				if !yield(listed{o, i.size}, nil) {
					return
				}
			}
		}
	}
}

// find reads the objects that may have any of the records and adds the hashes of all
// entries that they have.
func (s *Store) find(ctx context.Context, of string, records []forwarder.Record, there map[[sha256.Size]byte]bool) error {
	if len(records) == 0 {
		return nil
	}
	from, _ := span(records)
	var candidates []listed
	for o, err := range s.objects(ctx, s.known[of], of, dayOf(from)) {
		if err != nil {
			return err
		}
		for _, r := range records {
			if o.size > 0 && o.first <= r.Sequence && r.Sequence <= o.last {
				candidates = append(candidates, o)
				break
			}
		}
	}
	for _, o := range candidates {
		sums := make([][sha256.Size]byte, 0, min(o.entries, 100_000))
		err := s.read(ctx, o.object, func(doc []byte) error {
			sums = append(sums, sha256.Sum256(doc))
			return nil
		})
		if bad, damaged := errors.AsType[*damagedError](err); damaged {
			// What it should have had is written once more, under another name.
			s.damaged[o.name()] = true
			s.log.Error("an object is damaged, or is not this store's", "object", s.key(entriesDir+o.name()), "error", bad.err)
			continue
		}
		if errors.Is(err, errArchived) || errors.Is(err, errNotFound) { // by a lifecycle rule
			s.log.Warn("an object cannot be compared with what is to be written: its entries may come to lie in two", "object", s.key(entriesDir+o.name()), "error", err)
			continue
		}
		if err != nil {
			return err
		}
		for _, sum := range sums {
			there[sum] = true
		}
	}
	return nil
}

// damagedError says that an object is not what its name says.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// read reads an object whole. A *damagedError says that all of it came, and is not what
// it should be.
func (s *Store) read(ctx context.Context, o object, yield func(doc []byte) error) error {
	return readObject(ctx, s.bucket, s.key(entriesDir+o.name()), o, yield)
}

// readObject reads an object whole.
func readObject(ctx context.Context, b bucket, key string, o object, yield func(doc []byte) error) error {
	body, err := b.get(ctx, key)
	if err != nil {
		return err
	}
	defer body.Close()
	from := &noting{r: body}
	var stopped error
	err = o.eachEntry(from, func(doc []byte) error {
		stopped = yield(doc)
		return stopped
	})
	switch {
	case err == nil || stopped != nil:
		return stopped
	case from.err != nil:
		return fmt.Errorf("reading object %q: %w", key, from.err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &damagedError{err}
}
