package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// world is a buffer and its forwarder before a bucket, with everything that can go
// wrong between them.
type world struct {
	testing.TB
	rng    *rand.Rand
	bucket *fakeBucket
	store  *Store
	notes  *worldNotes
	now    time.Time

	// all has the buffer's entries, from sequence 1 on.
	all []forwarder.Record
	// adopted is the first sequence of the second instance.
	adopted int
	// without is a class that the filter does not take; empty takes all.
	without string
	// aside are entries that went into quarantine, as what no store can be given.
	aside map[uint64]bool
	// position is the forwarder's, and kept what a crash goes back to at most.
	position, kept uint64
	acknowledged   map[string]bool
}

// worldNotes are synced when SetNote returns nil; a crash may come before and after.
type worldNotes struct {
	memoryNotes
	of *world
}

func (n *worldNotes) SetNote(note []byte) error {
	b := n.of.bucket
	if b.dead {
		return errDead
	}
	if b.rng.Float64() < b.faults/4 {
		if b.rng.IntN(2) == 0 {
			_ = n.memoryNotes.SetNote(note) // after an error either may be found
		}
		b.dead = b.rng.IntN(2) == 0
		return errFault
	}
	if err := n.memoryNotes.SetNote(note); err != nil {
		return err
	}
	b.dead = b.rng.Float64() < b.faults/8
	return nil
}

var classes = []string{"", "", "", "long", "short/.."}

// record appends some entries to the buffer.
func (w *world) record() {
	for range w.rng.IntN(30) {
		n := len(w.all) + 1
		e := entry{n: n, class: classes[w.rng.IntN(len(classes))], at: w.now.Add(-time.Duration(w.rng.IntN(100)) * time.Minute)}
		if n >= w.adopted {
			e.instance = otherInstance
		}
		w.all = append(w.all, e.make(w.TB))
		if w.rng.IntN(40) == 0 {
			w.aside[uint64(n)] = true
		}
	}
}

func (w *world) open() {
	w.bucket.dead = false
	w.store = newStore(Config{}, target{scheme: "https", host: "s3.example.com", bucket: "audit", prefix: "p"}, w.bucket, slog.New(slog.DiscardHandler))
	w.store.conditional = !w.bucket.unconditional
	w.store.now = func() time.Time { return w.now }
	w.store.KeepNotes(w.notes)
}

// crash starts again, at a position that may be late.
func (w *world) crash() {
	if w.rng.IntN(2) == 0 {
		w.position = w.kept + uint64(w.rng.Int64N(int64(w.position-w.kept)+1))
	}
	if w.rng.IntN(8) == 0 {
		w.position = uint64(w.rng.Int64N(int64(w.position) + 1)) // as where its name is new
	}
	w.kept = w.position
	if w.rng.IntN(5) == 0 {
		w.without = classes[w.rng.IntN(len(classes))]
	}
	w.open()
}

// deliver makes one attempt, as the forwarder does.
func (w *world) deliver() {
	var batch []forwarder.Record
	last := w.position
	for n := 1 + w.rng.IntN(25); n > 0 && int(last) < len(w.all); n-- {
		r := w.all[last]
		last++
		if w.aside[r.Sequence] || w.without != "" && r.Entry.Retention != nil && r.Entry.Retention.Class == w.without {
			continue
		}
		batch = append(batch, r)
	}
	if w.write(batch) {
		w.position = last
		if w.rng.IntN(2) == 0 {
			w.kept = last
		}
	}
}

// retry delivers an entry from quarantine.
func (w *world) retry() {
	if len(w.aside) == 0 {
		return
	}
	n := slices.Min(slices.Collect(maps.Keys(w.aside))) // and not any, so that a seed is one world
	if n <= w.position && w.write([]forwarder.Record{w.all[n-1]}) {
		delete(w.aside, n)
	}
}

func (w *world) write(batch []forwarder.Record) bool {
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	err := w.store.Write(ctx, batch)
	if err != nil {
		if !errors.Is(err, errFault) && !errors.Is(err, errDead) {
			w.Fatalf("an error that is none of the faults: %v", err)
		}
		return false
	}
	for _, r := range batch {
		w.acknowledged[string(r.JSON)] = true
	}
	return true
}

// pass lets time pass, and sometimes sets the clock.
func (w *world) pass() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(200)) * time.Minute)
	if w.rng.IntN(30) == 0 {
		w.now = w.now.AddDate(0, 0, w.rng.IntN(20)-10)
	}
}

// seeds is how many worlds are tried. More find more.
var seeds = flag.Int("seeds", 15, "how `many` worlds are tried")

func TestEachEntryComesIntoExactlyOneObjectWhateverHappens(t *testing.T) {
	voids, manifests := 0, 0
	for seed := range *seeds {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		w := &world{
			TB: t, rng: rng, bucket: newFakeBucket(rng), now: time.Date(2026, 2, 27, 20, 0, 0, 0, time.UTC),
			aside: map[uint64]bool{}, acknowledged: map[string]bool{}, adopted: 50 + rng.IntN(300),
		}
		w.notes = &worldNotes{of: w}
		w.bucket.faults = []float64{0, 0.05, 0.3}[seed%3]
		w.open()
		for range 80 {
			w.pass()
			w.record()
			switch {
			case w.bucket.dead || rng.IntN(12) == 0:
				w.crash()
			case rng.IntN(6) == 0:
				w.retry()
			default:
				w.deliver()
			}
		}
		w.bucket.faults = 0
		w.crash()
		w.without = ""
		for int(w.position) < len(w.all) {
			w.deliver()
		}
		w.bucket.arrive(1)
		w.now = w.now.AddDate(0, 0, 40)
		w.record()
		w.deliver()
		v, m := w.check(fmt.Sprintf("seed %d", seed))
		voids, manifests = voids+v, manifests+m
		if t.Failed() {
			return
		}
	}
	if voids == 0 || manifests == 0 {
		t.Errorf("%d void objects and %d manifests: the test does not try what it should", voids, manifests)
	}
	t.Logf("%d void objects, %d manifests", voids, manifests)
}

// TestADayWhoseManifestIsLateDoesNotComeBack is one that the test above finds only with
// many worlds.
func TestADayWhoseManifestIsLateDoesNotComeBack(t *testing.T) {
	w := &world{TB: t, rng: rand.New(rand.NewPCG(1, 1)), acknowledged: map[string]bool{}, now: time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)}
	w.bucket, w.notes = newFakeBucket(w.rng), &worldNotes{of: w}
	w.open()
	w.write(records(t, 1, 5))
	w.bucket.delays = func(key string) bool { return strings.Contains(key, manifestsDir) }
	w.now = w.now.AddDate(0, 0, 1)
	w.write(records(t, 6, 9)) // makes the manifest, whose answer is lost
	if len(w.bucket.late) != 1 {
		t.Fatalf("%d manifests are late", len(w.bucket.late))
	}
	w.bucket.delays = nil
	w.now = w.now.AddDate(0, 0, -1) // the clock is set back, and the server started again
	w.open()
	w.write(records(t, 10, 15))
	w.bucket.arrive(1)
	w.now = w.now.AddDate(0, 0, 3)
	w.write(records(t, 16, 17))
	if _, n := w.check("afterwards"); n != 2 {
		t.Errorf("%d manifests, want those of two days", n)
	}
}

func TestWithoutConditionalWritesNothingIsLost(t *testing.T) {
	for seed := range *seeds {
		rng := rand.New(rand.NewPCG(uint64(seed), 11))
		w := &world{
			TB: t, rng: rng, bucket: newFakeBucket(rng), now: time.Date(2026, 2, 27, 20, 0, 0, 0, time.UTC),
			aside: map[uint64]bool{}, acknowledged: map[string]bool{}, adopted: 200,
		}
		w.notes = &worldNotes{of: w}
		w.bucket.faults, w.bucket.unconditional = 0.2, true
		w.open()
		for range 60 {
			w.pass()
			w.record()
			if w.bucket.dead {
				w.crash()
			}
			w.deliver()
		}
		w.bucket.arrive(1)
		have := map[string]bool{}
		for _, o := range w.contents() {
			for _, doc := range o {
				have[doc] = true
			}
		}
		for doc := range w.acknowledged {
			if !have[doc] {
				t.Fatalf("seed %d: an entry was acknowledged and is in no object: %.200s", seed, doc)
			}
		}
	}
}

// contents are the entries of each object that is not void, by name.
func (w *world) contents() map[string][]string {
	all := map[string][]string{}
	for key, o := range w.bucket.objects {
		name, is := strings.CutPrefix(key, "p/"+entriesDir)
		if !is || len(o.body) == 0 {
			continue
		}
		parsed, ok := parseName(name)
		if !ok {
			w.Fatalf("%q is not a name", name)
		}
		if err := parsed.eachEntry(bytes.NewReader(o.body), func(doc []byte) error {
			all[name] = append(all[name], string(doc))
			return nil
		}); err != nil {
			w.Fatalf("%s: %v", name, err)
		}
	}
	return all
}

func (w *world) check(when string) (voids, manifests int) {
	where := map[string]string{}
	contents := w.contents()
	for name, docs := range contents {
		for _, doc := range docs {
			if other, twice := where[doc]; twice {
				w.Errorf("%s: an entry is in two objects, %s and %s", when, name, other)
			}
			where[doc] = name
		}
	}
	for doc := range w.acknowledged {
		if where[doc] == "" {
			w.Errorf("%s: an entry was acknowledged and is in no object: %.200s", when, doc)
		}
	}
	for key, n := range w.bucket.writes {
		if n > 1 {
			w.Errorf("%s: %s was written %d times", when, key, n)
		}
		if strings.Contains(key, "/entries/") && len(w.bucket.objects[key].body) == 0 {
			voids++
		}
	}
	for _, said := range w.damages(forwarder.Query{}) {
		w.Errorf("%s: whoever reads all is told of %s", when, said)
	}
	return voids, w.checkManifests(when)
}

// damages is what a reader of the bucket is told of.
func (w *world) damages(q forwarder.Query) (said []string) {
	w.Helper()
	reader := newStore(w.store.c, w.store.target, &fakeBucket{objects: w.bucket.objects, rng: w.rng}, slog.New(slog.DiscardHandler))
	err := reader.scan(w.Context(), q, func(name string, err error) { said = append(said, name+": "+err.Error()) }, func([]byte) bool { return true })
	if err != nil {
		w.Fatal(err)
	}
	return said
}

// TestWhatIsMissingFromAnArchiveIsTold takes objects away, as an owner of a bucket without
// a lock can, and as a delete marker does in one with.
func TestWhatIsMissingFromAnArchiveIsTold(t *testing.T) {
	for what, c := range map[string]struct {
		harm func(b *fakeBucket, entries, manifests []string)
		from int // days after the first
		want []string
	}{
		"nothing": {func(*fakeBucket, []string, []string) {}, 0, nil},
		"an object": {func(b *fakeBucket, entries, _ []string) { delete(b.objects, entries[2]) }, 0, []string{
			"manifests/" + testInstance + "/2026-02-28.json", "1 of the 2 objects that it lists are not there, such as",
		}},
		"an object of a day that is not asked for": {func(b *fakeBucket, entries, _ []string) { delete(b.objects, entries[0]) }, 1, nil},
		"all objects of a day": {func(b *fakeBucket, entries, _ []string) {
			delete(b.objects, entries[4])
			delete(b.objects, entries[5])
		}, 0, []string{"/2026-03-01.json", "2 of the 2 objects that it lists are not there"}},
		"an object that was put there": {func(b *fakeBucket, entries, _ []string) {
			name, _ := parseName(strings.TrimPrefix(entries[0], "p/"+entriesDir))
			name.try = 7
			b.objects["p/"+entriesDir+name.name()] = b.objects[entries[0]]
		}, 0, []string{"/2026-02-27.json", "1 objects are there that it does not list, such as", "put there later"}},
		"a manifest": {func(b *fakeBucket, _, manifests []string) { delete(b.objects, manifests[1]) }, 0, []string{
			"/2026-03-01.json", "the manifest before it is not that of 2026-02-27 which is there",
		}},
		"a manifest that was exchanged": {func(b *fakeBucket, _, manifests []string) {
			b.objects[manifests[0]] = fakeObject{body: bytes.Replace(b.objects[manifests[0]].body, []byte(`"entries":9`), []byte(`"entries":8`), 1)}
		}, 0, []string{"/2026-02-28.json", "the manifest before it is not that of 2026-02-27 which is there"}},
		"a manifest that is none": {func(b *fakeBucket, _, manifests []string) {
			b.objects[manifests[2]] = fakeObject{body: []byte("[]")}
		}, 0, []string{"/2026-03-01.json", "not the manifest that its name says"}},
		"a name that is none": {func(b *fakeBucket, _, _ []string) {
			b.objects["p/"+manifestsDir+"x/2026-13-01.json"] = fakeObject{}
		}, 0, []string{"x/2026-13-01.json", "its name is none"}},
	} {
		t.Run(what, func(t *testing.T) {
			w := &world{TB: t, rng: rand.New(rand.NewPCG(1, 1)), acknowledged: map[string]bool{}, now: time.Date(2026, 2, 27, 12, 0, 0, 0, time.UTC)}
			w.bucket, w.notes = newFakeBucket(w.rng), &worldNotes{of: w}
			w.open()
			first := dayOf(w.now)
			for n := range 4 {
				w.write(records(t, 10*n+1, 10*n+5))
				w.write(records(t, 10*n+6, 10*n+9))
				w.now = w.now.AddDate(0, 0, 1)
			}
			var entries, manifests []string
			for _, name := range w.bucket.names() {
				switch {
				case strings.HasPrefix(name, "p/"+entriesDir):
					entries = append(entries, name)
				case strings.HasPrefix(name, "p/"+manifestsDir):
					manifests = append(manifests, name)
				}
			}
			if len(entries) != 8 || len(manifests) != 3 {
				t.Fatal(entries, manifests)
			}
			c.harm(w.bucket, entries, manifests)
			var q forwarder.Query
			if c.from > 0 {
				q.From = first.AddDate(0, 0, c.from)
			}
			said := w.damages(q)
			if len(said) != min(len(c.want), 1) {
				t.Fatalf("told: %q", said)
			}
			for _, want := range c.want {
				if !strings.Contains(said[0], want) {
					t.Errorf("told %q, which does not say %q", said[0], want)
				}
			}
		})
	}
}

// checkManifests compares each day's manifest with the objects of that day.
func (w *world) checkManifests(when string) (n int) {
	last := map[string]*ManifestLink{}
	for _, key := range slices.Sorted(maps.Keys(w.bucket.objects)) {
		if !strings.HasPrefix(key, "p/"+manifestsDir) {
			continue
		}
		n++
		body := w.bucket.objects[key].body
		var m Manifest
		if err := json.Unmarshal(body, &m); err != nil {
			w.Fatalf("%s: %v", key, err)
		}
		if (m.Previous == nil) != (last[m.Instance] == nil) || m.Previous != nil && *m.Previous != *last[m.Instance] {
			w.Errorf("%s: %s: the manifest before is %+v, and it says %+v", when, key, last[m.Instance], m.Previous)
		}
		sum := sha256.Sum256(body)
		last[m.Instance] = &ManifestLink{m.Day, hex.EncodeToString(sum[:])}
		listed := map[string]bool{}
		for _, o := range m.Objects {
			listed[o.Name] = true
		}
		for _, name := range m.Void {
			listed[name] = true
		}
		for key := range w.bucket.objects {
			name, is := strings.CutPrefix(key, "p/"+entriesDir)
			if o, ok := parseName(name); is && ok && o.instance == m.Instance && o.day.Format(manifestDay) == m.Day && !listed[entriesDir+name] {
				w.Errorf("%s: %s does not list %s", when, m.Day, name)
			}
			delete(listed, entriesDir+name)
		}
		if len(listed) > 0 {
			w.Errorf("%s: %s lists what is not there: %v", when, m.Day, listed)
		}
	}
	return n
}
