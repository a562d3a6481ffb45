//go:build linux

package buffer

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

// cut is a commit on its way to the disk: the newest segment's file before it and after
// it, and what was acknowledged before it began.
type cut struct {
	dir, name     string // of the buffer, which goes on
	before, after []byte
	acked         map[string]bool // entries
	begun         map[string]bool // intents without an end
}

// tear makes what a disk may hold when the power goes in the middle: of each sector that
// the commit wrote, the old or the new.
func (c *cut) tear(rng *rand.Rand) []byte {
	sector := []int{512, 4096}[rng.IntN(2)]
	share := []float64{0, 0.02, 0.1, 0.5, 0.9, 0.98, 1}[rng.IntN(7)]
	// The meta page alone is the worst: what it names is what was there at other times.
	meta := rng.IntN(2) == 0
	torn := slices.Clone(c.after) // its length is old or new, as of any other sector
	if len(c.after) != len(c.before) && rng.IntN(2) == 0 {
		torn = torn[:len(c.before)]
	}
	for at := 0; at < len(torn); at += sector {
		to := min(at+sector, len(torn))
		if rng.Float64() < share || meta && at < 8192 {
			continue // the new one is there
		}
		n := 0
		if at < len(c.before) {
			n = copy(torn[at:to], c.before[at:])
		}
		clear(torn[at+n : to])
	}
	return torn
}

// cuts runs a buffer and takes some of its commits, as they are at a failpoint.
func cuts(t *testing.T, rng *rand.Rand, o Options, taken string) (all []*cut) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "buffer")
	o.MaxWait = time.Minute // what a busy machine does to its disk is not asked here
	b, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	newest := func() string {
		names, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
		if err != nil || len(names) == 0 {
			t.Error("no segment", err)
			return ""
		}
		return slices.Max(names)
	}
	var mu sync.Mutex
	acked, begun := map[string]bool{}, map[string]bool{}
	var in *cut
	dice := rand.New(rand.NewPCG(rng.Uint64(), 3)) // the writer's
	f := func(point string) error {
		switch {
		case point == "append":
			in = nil
			if len(all) == 15 || dice.IntN(4) > 0 {
				return nil
			}
		case point != taken || in == nil:
			return nil
		}
		name := newest()
		content, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if point == "append" {
			in = &cut{dir: dir, name: filepath.Base(name), before: content, acked: maps.Clone(acked), begun: maps.Clone(begun)}
		} else if in.name == filepath.Base(name) {
			in.after = content
			all = append(all, in)
		}
		return nil
	}
	failpoint.Store(&f)
	defer failpoint.Store(nil)
	for round := range 60 {
		var callers sync.WaitGroup
		for g := range 1 + rng.IntN([]int{3, 30}[rng.IntN(2)]) {
			id := fmt.Sprintf("call-%d-%d", round, g)
			size, ends, strict := rng.IntN(3000), rng.IntN(10) > 0, rng.IntN(2) == 0
			callers.Go(func() {
				c, err := b.Admit(8000, Caller{Known: true})
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Release()
				payload := func(what string) []byte { return []byte(what + " " + id + " " + strings.Repeat("x", size)) }
				if strict || !ends {
					if err := c.Begin(payload("intent")); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					begun[id] = true
					mu.Unlock()
				}
				if !ends {
					return
				}
				if err := c.Append(payload("entry")); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[id] = true
				delete(begun, id)
				mu.Unlock()
			})
		}
		callers.Wait()
	}
	failpoint.Store(nil)
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return all
}

// whatIsLeft opens what is left of a segment after a cut and says which calls have an entry, and
// which of them are known by their intent alone.
func whatIsLeft(t *testing.T, c *cut, torn []byte) (entries, unknown map[string]bool, gaps []Gap) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "buffer")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, c.name), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(c.dir, "seg-*.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if filepath.Base(name) < c.name {
			if err := os.Link(name, filepath.Join(dir, filepath.Base(name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := Open(dir, Options{Adopt: true, Gap: func(g Gap) []byte {
		gaps = append(gaps, g)
		return []byte("gap")
	}})
	if err != nil {
		t.Fatal(err)
	}
	entries, unknown = map[string]bool{}, map[string]bool{}
	err = b.ReadPast(1, func(_ uint64, payload []byte) bool {
		words := bytes.Fields(payload)
		switch string(words[0]) {
		case "entry":
			entries[string(words[1])] = true
		case "intent":
			unknown[string(words[1])] = true
		}
		return true
	}, func(*DamagedError) {})
	if err != nil {
		t.Error(err)
	}
	if err := b.Close(context.Background()); err != nil {
		t.Error(err)
	}
	return entries, unknown, gaps
}

// bootAgain is as if the machine had been down.
func bootAgain(t *testing.T, id string) {
	t.Helper()
	before := thisBoot()
	boot.Store(&id)
	t.Cleanup(func() { boot.Store(&before) })
}

func TestACommitThatThePowerCutTearsTakesNothingWithItThatWasAcknowledged(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	all := cuts(t, rng, busyOptions, "flush")
	if len(all) == 0 {
		t.Fatal("no commit was taken")
	}
	tears := trials.Rounds(5, 10)
	bootAgain(t, "the machine was started again")
	var went, whole int
	for _, c := range all {
		for range tears {
			entries, unknown, gaps := whatIsLeft(t, c, c.tear(rng))
			for id := range c.acked {
				if !entries[id] {
					t.Fatalf("%s: the entry of %s was acknowledged and is not there", c.name, id)
				}
			}
			for id := range c.begun {
				// It may have ended in the commit that was cut.
				if !unknown[id] && !entries[id] {
					t.Fatalf("%s: the intent of %s was acknowledged and there is no trace of it", c.name, id)
				}
			}
			if len(gaps) > 0 {
				t.Fatalf("%s: nothing that was acknowledged is missing, and a gap says so: %+v", c.name, gaps)
			}
			if len(entries) == len(c.acked) && len(unknown) == len(c.begun) {
				went++
			} else {
				whole++
			}
		}
	}
	if went == 0 || whole == 0 {
		t.Errorf("of the commits that were cut %d were not there and %d were: nothing was shown", went, whole)
	}
}

// busyOptions have nearly each commit go into a file that had its size.
var busyOptions = Options{SegmentSize: 3 << 20, filling: soonFilled}

// As long as the machine is up nothing that was written can be missing; nor is it ever in a
// file that grows, of which each commit is synced twice. What looks like a torn commit is a
// harmed file then, and nobody may think that nothing is lost.
func TestAHarmedLastCommitIsTold(t *testing.T) {
	for _, c := range []struct {
		name, taken string
		options     Options
		rebooted    bool
	}{
		{"while the machine is up", "flush", busyOptions, false},
		{"in a file that grows", "committed", Options{SegmentSize: 3 << 20}, true}, // too small to be filled before
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 2))
			all := cuts(t, rng, c.options, c.taken)
			if c.rebooted {
				bootAgain(t, "the machine was started again")
			}
			lost := 0
			// Few of the harms hit anything, so one round may show nothing.
			for round := 0; round < trials.Rounds(1, 3) || lost == 0 && round < 5; round++ {
				for _, c := range all {
					torn := c.tear(rng)
					if bytes.Equal(torn, c.after) || bytes.Equal(torn, c.before) {
						continue
					}
					entries, _, gaps := whatIsLeft(t, c, torn)
					for id := range c.acked {
						if !entries[id] && len(gaps) == 0 {
							t.Fatalf("%s: the entry of %s is not there, and no gap says so", c.name, id)
						}
					}
					if len(gaps) > 0 {
						lost++
					}
				}
			}
			if lost == 0 {
				t.Error("of no harm a gap told: nothing was shown")
			}
		})
	}
}
