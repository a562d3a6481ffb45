package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fakeBucket stands in for a bucket, so that every order of events can be tried. It is
// no S3: what a server does, and above all what it locks, is tried with a real one.
type fakeBucket struct {
	rng     *rand.Rand
	objects map[string]fakeObject
	sorted  []string // their names, nil when that has to be made anew
	// writes counts those of each name.
	writes map[string]int
	// late are uploads that were given up and still arrive.
	late []fakePut
	// unconditional ignores ifAbsent.
	unconditional bool
	// faults is how often something goes wrong, from 0 to 1, and dead says that this
	// process is: nothing it does has an effect.
	faults float64
	dead   bool
	// delays says which uploads are late.
	delays func(key string) bool
}

type fakeObject struct {
	body []byte
	meta map[string]string
}

type fakePut struct {
	key      string
	object   fakeObject
	ifAbsent bool
}

var (
	errFault = errors.New("a fault")
	errDead  = errors.New("dead")
)

func newFakeBucket(rng *rand.Rand) *fakeBucket {
	return &fakeBucket{rng: rng, objects: map[string]fakeObject{}, writes: map[string]int{}}
}

// arrive lets some of what is late arrive.
func (b *fakeBucket) arrive(part float64) {
	var left []fakePut
	for _, p := range b.late {
		if b.rng.Float64() >= part {
			left = append(left, p)
			continue
		}
		_ = b.apply(p)
	}
	b.late = left
}

func (b *fakeBucket) apply(p fakePut) error {
	if _, there := b.objects[p.key]; there && p.ifAbsent && !b.unconditional {
		return errExists
	}
	if _, there := b.objects[p.key]; !there {
		b.sorted = nil
	}
	b.objects[p.key] = p.object
	b.writes[p.key]++
	return nil
}

func (b *fakeBucket) put(_ context.Context, key string, body []byte, meta map[string]string, _ time.Time, ifAbsent bool) error {
	b.arrive(b.faults)
	p := fakePut{key, fakeObject{bytes.Clone(body), meta}, ifAbsent}
	if b.dead {
		return errDead
	}
	if b.delays != nil && b.delays(key) {
		b.late = append(b.late, p)
		return errFault
	}
	if b.rng.Float64() >= b.faults {
		return b.apply(p)
	}
	switch b.rng.IntN(4) {
	case 0: // it is lost
	case 1: // its answer is
		_ = b.apply(p)
	case 2:
		b.late = append(b.late, p)
	case 3: // killed while it is on its way
		b.late = append(b.late, p)
		b.dead = true
	}
	return errFault
}

func (b *fakeBucket) fails() error {
	b.arrive(b.faults)
	if b.dead {
		return errDead
	}
	if b.rng.Float64() < b.faults/4 {
		return errFault
	}
	return nil
}

func (b *fakeBucket) head(_ context.Context, key string) (info, error) {
	if err := b.fails(); err != nil {
		return info{}, err
	}
	o, there := b.objects[key]
	if !there {
		return info{}, errNotFound
	}
	return info{key: key, size: int64(len(o.body)), meta: o.meta}, nil
}

func (b *fakeBucket) get(_ context.Context, key string) (io.ReadCloser, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	o, there := b.objects[key]
	if !there {
		return nil, errNotFound
	}
	return io.NopCloser(bytes.NewReader(o.body)), nil
}

func (b *fakeBucket) list(_ context.Context, prefix, after string) iter.Seq2[info, error] {
	return func(yield func(info, error) bool) {
		if err := b.fails(); err != nil {
			yield(info{}, err)
			return
		}
		for _, key := range b.names() {
			if strings.HasPrefix(key, prefix) && key > after && !yield(info{key: key, size: int64(len(b.objects[key].body))}, nil) {
				return
			}
		}
	}
}

func (b *fakeBucket) prefixes(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := b.fails(); err != nil {
			yield("", err)
			return
		}
		seen := map[string]bool{}
		for _, key := range b.names() {
			rest, ok := strings.CutPrefix(key, prefix)
			dir, _, is := strings.Cut(rest, "/")
			if ok && is && !seen[dir] {
				seen[dir] = true
				if !yield(prefix+dir+"/", nil) {
					return
				}
			}
		}
	}
}

func (b *fakeBucket) names() []string {
	if b.sorted == nil {
		b.sorted = slices.Sorted(maps.Keys(b.objects))
	}
	return b.sorted
}
