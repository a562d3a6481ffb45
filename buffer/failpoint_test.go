//go:build unix

package buffer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// points are all failpoints: each change of what is on the disk.
var points = []string{
	"create", "sync", "rename", "renamed", "append", "commit", "flush", "committed", "position", "seal", "unlink", "marker", "salvage",
}

// ledger is what somebody was told: which calls were begun and ended, and what a
// store has taken, which the buffer may then remove.
type ledger struct {
	mu                  sync.Mutex
	begun, ended, taken map[string]bool
	passed              int
	noted               int64 // the highest that a store's note was set to
}

func newLedger() *ledger {
	return &ledger{begun: map[string]bool{}, ended: map[string]bool{}, taken: map[string]bool{}}
}

func (l *ledger) note(word, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch word {
	case "begun":
		l.begun[id] = true
	case "ended":
		l.ended[id] = true
	case "taken":
		l.taken[id] = true
	case "passed":
		l.passed++
	case "noted":
		n, _ := strconv.ParseInt(id, 10, 64)
		l.noted = max(l.noted, n)
	}
}

// work does everything that changes the disk, with 8 callers at a time and one
// store, and tells what it was told. Before and after it something passes, if
// OnFault lets it.
func work(b *Buffer, name string, rounds int, tell func(word, id string)) {
	b.Hold("store")
	for round := range rounds {
		var callers sync.WaitGroup
		for g := range 8 {
			callers.Go(func() {
				id := fmt.Sprintf("%s-%d-%d", name, round, g)
				c, err := b.Admit(2000, Caller{Known: true})
				if err != nil {
					return
				}
				defer c.Release()
				if err := c.Begin([]byte("intent " + id)); err != nil {
					_ = c.Refuse([]byte("refused " + id))
					return
				}
				switch {
				case c.Passed():
					tell("passed", id)
					return
				case c.Intended():
					tell("begun", id)
				}
				if c.Append([]byte("entry "+id+strings.Repeat(" x", 500))) == nil {
					tell("ended", id)
				}
			})
		}
		callers.Wait()
		idle := round%20 == 19
		if note := strconv.FormatInt(time.Now().UnixNano(), 10); round%5 == 0 && b.SetNote("store", []byte(note)) == nil {
			tell("noted", note)
		}
		if round%3 == 0 || idle {
			_ = b.ReadPast(b.Position("store")+1, func(seq uint64, p []byte) bool {
				tell("taken", strings.Join(strings.Fields(string(p) + " .")[:2], " "))
				b.Advance("store", seq, 1, 0, 0)
				return true
			}, func(d *DamagedError) { b.Damaged("store", d.Last) })
		}
		if idle {
			time.Sleep(tickEvery + tickEvery/10) // the position is committed on its own
		}
	}
}

// settle holds what was told against what a store has and what is in the buffer.
func (l *ledger) settle(t *testing.T, b *Buffer) {
	t.Helper()
	if n, _ := strconv.ParseInt(string(b.Note("store")), 10, 64); n < l.noted {
		t.Errorf("the store's note is %d, after it was kept as %d", n, l.noted)
	}
	stored := map[string]string{}
	keep := func(e string) {
		kind, id, _ := strings.Cut(e, " ")
		if stored[id] != "entry" {
			stored[id] = kind
		}
	}
	for e := range l.taken {
		keep(e)
	}
	got, _ := taken(t, b, b.Position("store")+1)
	for _, p := range got {
		keep(strings.Join(strings.Fields(p + " .")[:2], " "))
	}
	for id := range l.begun {
		if stored[id] == "" {
			t.Errorf("%s was begun and is nowhere", id)
		}
	}
	for id := range l.ended {
		if stored[id] != "entry" {
			t.Errorf("%s ended and is stored as %q", id, stored[id])
		}
	}
	checkConserved(t, b)
}

func failOptions(g *gaps, point string) Options {
	o := Options{SegmentSize: 64 << 10, MaxWait: 300 * time.Millisecond, OnFault: Pass, Gap: g.entry}
	if point == "flush" { // only files that had their size are synced there
		o.SegmentSize, o.filling = 2<<20, soonFilled
	}
	return o
}

// soonFilled has nearly all that is written go into files that had their size before.
var soonFilled = filling{least: 1 << 20, step: 1 << 20, from: 1, enough: 1}

// harmSealed harms an entry of a sealed segment, so that it has to be salvaged.
func harmSealed(t *testing.T, dir string) {
	t.Helper()
	fill(t, dir, 400, true)
	files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 300), 60<<10); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeThatFailsLosesNothing(t *testing.T) {
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			dir := newDir(t)
			if point == "salvage" {
				harmSealed(t, dir)
			}
			told, l := &gaps{}, newLedger()
			b := open(t, dir, failOptions(told, point))
			var hits, failures atomic.Int64
			failAt(t, func(name string) error {
				// A marker is only written when calls pass.
				if name == point || point == "marker" && name == "commit" {
					if n := hits.Add(1); n%3 != 0 && failures.Load() < 10 {
						failures.Add(1)
						return fmt.Errorf("planted at %s", name)
					}
				}
				return nil
			})
			work(b, "w", 22, l.note)
			failpoint.Store(nil)
			if failures.Load() == 0 {
				t.Fatal("it was never reached")
			}
			awaitTrue(t, "health", func() bool { return b.Stats().Failing == nil && !b.Stats().Passing })
			o := failOptions(told, point)
			o.MaxWait = time.Minute // what follows a rotation waits for all its syncs
			b.Configure(o)
			if err := b.Append([]byte("entry after")); err != nil {
				t.Errorf("after the fault: %v", err)
			}
			l.settle(t, b)
			var passed uint64
			for _, g := range told.of(GapPassed) {
				passed += g.Count
			}
			if passed != uint64(l.passed) || b.Stats().Calls.Passed != passed {
				t.Errorf("%d passed, gaps tell of %d, and %d are counted", l.passed, passed, b.Stats().Calls.Passed)
			}
			shut(t, b)
			b = open(t, dir, failOptions(told, point))
			l.settle(t, b)
		})
	}
}

// killedAt is the process that a failpoint kills: "point n" of the environment.
func killedAt(dir, spec string) {
	var point string
	var nth int64
	if _, err := fmt.Sscan(spec, &point, &nth); err != nil {
		panic(err)
	}
	var hits atomic.Int64
	f := func(name string) error {
		if name == point && hits.Add(1) == nth {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if point == "marker" && name == "commit" && hits.Load() < nth {
			return errors.New("planted")
		}
		return nil
	}
	failpoint.Store(&f)
	if seed, err := strconv.ParseUint(os.Getenv("BUFFER_TEST_PICKY"), 10, 64); err == nil {
		pickyVictim(dir, seed)
		return
	}
	o := failOptions(&gaps{}, point)
	if point != "marker" { // no call is to pass because the disk is busy
		o.MaxWait = time.Minute
	}
	b, err := Open(dir, o)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	work(b, fmt.Sprint(os.Getpid()), 60, func(word, id string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(word, id)
	})
	_ = b.Close(context.Background())
	fmt.Println("survived", spec)
}

// runVictim runs a process that a failpoint kills, notes what it says, and reports
// whether it was killed: it may not come by there so often.
func runVictim(t *testing.T, dir, kill, picky string, note func(word, what string)) (killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "BUFFER_TEST_VICTIM="+dir, "BUFFER_TEST_KILL="+kill, "BUFFER_TEST_PICKY="+picky)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch word, what, _ := strings.Cut(lines.Text(), " "); word {
		case "begun", "ended", "taken", "passed", "survived", "keep", "kept", "resolve", "resolved", "noted":
			note(word, what)
		default:
			t.Error(lines.Text())
		}
	}
	return cmd.Wait() != nil
}

// often is how often work comes by a failpoint, at least.
func often(point string) int {
	switch point {
	case "append", "commit", "flush", "committed":
		return 100
	case "create", "sync", "rename", "renamed", "seal", "unlink":
		return 8
	default:
		return 1
	}
}

func TestAKillAtAnyChangeLosesNothing(t *testing.T) {
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir, l := newDir(t), newLedger()
			if point == "salvage" {
				harmSealed(t, dir)
			}
			seed := rand.Uint64()
			t.Log("seed", seed)
			rnd := rand.New(rand.NewPCG(seed, 1))
			reached := false
			for range 4 {
				nth := 1 + rnd.IntN(often(point))
				if runVictim(t, dir, fmt.Sprintf("%s %d", point, nth), "", l.note) {
					reached = true
				}
			}
			if !reached {
				t.Error("it was never reached")
			}
			told := &gaps{}
			o := failOptions(told, point)
			o.MaxWait = time.Minute
			b := open(t, dir, o)
			l.settle(t, b)
			var atLeast uint64
			for _, g := range told.of(GapPassed) {
				atLeast += g.Count
			}
			if atLeast > uint64(l.passed)+8 { // those whose note the kill cut off
				t.Errorf("%d passed, and a gap tells of at least %d", l.passed, atLeast)
			}
		})
	}
}
