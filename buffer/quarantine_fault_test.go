//go:build unix

package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// quarantinePoints are the failpoints of quarantine.db.
var quarantinePoints = []string{"quarantine", "quarantined", "resolve", "resolved", "rewrite", "rewritten"}

// picky is a store that will not take some entries, for as long as the buffer is open,
// and tells what it was told: kept is in quarantine and counted as soon as the position
// is durable; what was resolved is gone for good.
func picky(b *Buffer, rnd *rand.Rand, rounds int, tell func(word string, sequence uint64)) {
	const store = "picky"
	b.Hold(store)
	for range rounds {
		for range 5 {
			_ = b.Append([]byte("an entry"))
		}
		position, head := b.Position(store), b.Stats().Head
		var kept uint64
		ok := true
		for n := position + 1; n <= head && ok; n++ {
			if rnd.IntN(3) > 0 {
				continue
			}
			tell("keep", n)
			if ok = b.Quarantine(refused(store, n)) == nil; ok {
				tell("kept", n)
				kept++
			}
		}
		if !ok || rnd.IntN(10) == 0 {
			continue // it begins again
		}
		b.Advance(store, head, head-position-kept, 0, kept)
		if rnd.IntN(2) == 0 {
			continue
		}
		var some []uint64
		_ = b.Quarantined(store, 0, func(e Quarantined) bool {
			if rnd.IntN(4) == 0 {
				some = append(some, e.Sequence)
			}
			return len(some) < 3
		})
		for _, n := range some {
			tell("resolve", n)
			if b.Resolve(store, n, Resolution(1+n%2), "x") == nil {
				tell("resolved", n)
			}
		}
	}
}

// told is what picky was told.
type toldPicky struct{ keep, kept, resolve, resolved map[uint64]bool }

func newToldPicky() *toldPicky {
	return &toldPicky{map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}, map[uint64]bool{}}
}

func (l *toldPicky) note(word string, n uint64) {
	map[string]map[uint64]bool{"keep": l.keep, "kept": l.kept, "resolve": l.resolve, "resolved": l.resolved}[word][n] = true
}

// settle holds what was told against what there is.
func (l *toldPicky) settle(t *testing.T, b *Buffer) {
	t.Helper()
	got := inQuarantine(t, b)["picky"]
	p := b.Stats().Stores["picky"]
	if p.Damaged > 0 {
		t.Errorf("%d are damaged", p.Damaged)
	}
	for n, e := range got {
		if !bytes.Equal(e.Payload, refused("picky", n).Payload) {
			t.Errorf("entry %d is another: %q", n, e.Payload)
		}
		if l.resolved[n] || !l.keep[n] {
			t.Errorf("entry %d is in quarantine, and was resolved or never put there", n)
		}
	}
}

func TestAChangeOfQuarantineThatFailsLosesNothing(t *testing.T) {
	for _, point := range quarantinePoints {
		t.Run(point, func(t *testing.T) {
			dir, told := newDir(t), &gaps{}
			o := Options{Gap: told.entry}
			b := open(t, dir, o)
			var hits, failures atomic.Int64
			failAt(t, func(name string) error {
				// A file is written anew where a commit is in doubt.
				if name == point || strings.HasPrefix(point, "rewrit") && name == "quarantined" {
					if n := hits.Add(1); n%3 != 0 && failures.Load() < 40 {
						failures.Add(1)
						return fmt.Errorf("planted at %s", name)
					}
				}
				return nil
			})
			l := newToldPicky()
			rnd := rand.New(rand.NewPCG(1, 1))
			picky(b, rnd, 30, l.note)
			awaitTrue(t, "it was reached", func() bool { return failures.Load() > 0 })
			l.settle(t, b)
			failpoint.Store(nil)
			picky(b, rnd, 3, l.note)
			l.settle(t, b)
			b.appendN(t, 1)
			abandon(t, b)
			b = open(t, dir, o)
			l.settle(t, b)
			if g := told.of(GapDamaged); len(g) > 0 {
				t.Errorf("gaps %+v", g)
			}
		})
	}
}

// pickyVictim is the process that a failpoint of quarantine kills.
func pickyVictim(dir string, seed uint64) {
	b, err := Open(dir, Options{MaxWait: time.Minute, Gap: (&gaps{}).entry})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	picky(b, rand.New(rand.NewPCG(seed, 2)), 40, func(word string, n uint64) { fmt.Println(word, n) })
	_ = b.Close(context.Background())
	fmt.Println("survived 0")
}

// A record whose commit was in doubt may be on the disk. The store then takes the entry
// after all, and a start must not find it in quarantine.
func TestAnEntryThatWasDeliveredAfterItsRecordWasInDoubtIsNotInQuarantine(t *testing.T) {
	defer failpoint.Store(nil)
	for _, point := range quarantinePoints {
		dir := newDir(t)
		b := open(t, dir, Options{})
		b.Hold("picky")
		b.appendN(t, 3)
		f := func(name string) error {
			if name == point || name == "rewrite" && point == "quarantined" {
				return fmt.Errorf("planted at %s", name)
			}
			return nil
		}
		if point == "quarantined" { // which is of a file that is there
			if err := b.Quarantine(refused("picky", 1)); err != nil {
				t.Fatal(err)
			}
			b.Advance("picky", 1, 0, 0, 1)
		}
		failpoint.Store(&f)
		err := b.Quarantine(refused("picky", 2))
		position := b.Position("picky")
		quarantined := uint64(0)
		if err == nil {
			quarantined = 1
		}
		b.Advance("picky", 2, 2-position-quarantined, 0, quarantined)
		shut(t, b)
		failpoint.Store(nil)
		b = open(t, dir, Options{})
		found := false
		for n := range inQuarantine(t, b)["picky"] {
			found = found || n == 2
		}
		if found != (err == nil) {
			t.Errorf("at %s: in quarantine is %v, and putting it there said %v", point, found, err)
		}
		shut(t, b)
	}
}

func TestAKillAtAnyChangeOfQuarantineLosesNothing(t *testing.T) {
	for _, point := range append([]string{"commit", "committed"}, quarantinePoints...) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir, l := newDir(t), newToldPicky()
			seed := rand.Uint64()
			t.Log("seed", seed)
			rnd := rand.New(rand.NewPCG(seed, 1))
			reached := false
			for i := range 5 {
				most := 30
				switch point {
				case "commit", "committed":
					most = 200
				case "resolve", "resolved":
					most = 5
				case "rewrite", "rewritten":
					most = 1
				}
				if runVictim(t, dir, fmt.Sprintf("%s %d", point, 1+rnd.IntN(most)), fmt.Sprint(seed+uint64(i)), func(word, n string) {
					var sequence uint64
					_, _ = fmt.Sscan(n, &sequence)
					if word != "survived" {
						l.note(word, sequence)
					}
				}) {
					reached = true
				}
				told := &gaps{}
				b := open(t, dir, Options{Gap: told.entry})
				l.settle(t, b)
				if g := told.of(GapDamaged); len(g) > 0 {
					t.Errorf("gaps %+v", g)
				}
				shut(t, b)
				if t.Failed() {
					return
				}
			}
			if !reached {
				t.Error("it was never reached")
			}
		})
	}
}

func TestAHarmedQuarantineIsReadAsFarAsItCanBeAndTheRestIsTold(t *testing.T) {
	t.Parallel()
	origin := newDir(t)
	b := open(t, origin, Options{})
	b.Hold("a")
	b.Hold("b")
	b.appendN(t, 300)
	want := map[string]map[uint64]string{"a": {}, "b": {}}
	rnd := rand.New(rand.NewPCG(3, 4))
	for n := uint64(1); n <= 300; n++ {
		for store, of := range want {
			if rnd.IntN(3) > 0 {
				b.Advance(store, n, 1, 0, 0)
				continue
			}
			of[n] = strings.Repeat(store, rnd.IntN(9000))
			if err := b.Quarantine(Quarantined{Store: store, Sequence: n, Payload: []byte(of[n])}); err != nil {
				t.Fatal(err)
			}
			b.Advance(store, n, 0, 0, 1)
		}
	}
	for store, of := range want {
		for n := range of {
			if n%5 == 0 {
				if err := b.Resolve(store, n, ResolvedDelivered, ""); err != nil {
					t.Fatal(err)
				}
				delete(of, n)
			}
		}
	}
	awaitTrue(t, "the file shows what was resolved", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.state.Resolved.len() == 0
	})
	shut(t, b)

	vandals := map[string]func(path string) error{
		"deleted":     os.Remove,
		"emptied":     func(path string) error { return os.Truncate(path, 0) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"other text":  replaceFile,
	}
	for i := range uint64(25) {
		vandals[fmt.Sprint("random ", i)] = func(path string) error {
			rnd := rand.New(rand.NewPCG(i, 7))
			for range 1 + rnd.IntN(3) {
				t.Log(damage(t, rnd, path))
			}
			return nil
		}
	}
	for name, vandal := range vandals {
		t.Run(name, func(t *testing.T) {
			dir := killed(t, origin)
			path := filepath.Join(dir, quarantineName)
			if err := vandal(path); err != nil {
				t.Fatal(err)
			}
			whole := wholeRecords(path)
			told := &gaps{}
			o := Options{Gap: told.entry, Adopt: true}
			off, err := OpenOffline(dir)
			if err != nil {
				t.Fatal(err)
			}
			report := off.Quarantine()
			if err := off.Quarantined("", 0, func(Quarantined) bool { return true }); err != nil {
				t.Error(err)
			}
			off.Close()
			before := statsOf(t, dir)
			b := open(t, dir, o)
			got := inQuarantine(t, b)
			for store, of := range want {
				var lost uint64
				for n, payload := range of {
					e, there := got[store][n]
					switch {
					case there && string(e.Payload) != payload:
						t.Errorf("entry %d of %s is another", n, store)
					case !there && whole[fmt.Sprint(store, n)]:
						t.Errorf("entry %d of %s is whole and was not kept", n, store)
					case !there:
						lost++
					}
				}
				// One that was resolved may come back, when what says so is harmed; it then
				// stands for one that is lost.
				p, was := b.Stats().Stores[store], before.Stores[store]
				var n uint64
				for _, g := range told.of(GapDamaged) {
					if g.Store == store && g.Segment == quarantineName && g.AtLeast {
						n += g.Count
					}
				}
				if damaged := p.Damaged - was.Damaged; damaged > lost || n != damaged || report.Lost[store] != damaged {
					t.Errorf("%s: %d are lost, %d count as damaged, gaps tell of %d, and a report of %d", store, lost, damaged, n, report.Lost[store])
				}
				if back := uint64(len(got[store])) + lost - uint64(len(of)); p.Damaged-was.Damaged+back < lost {
					t.Errorf("%s: %d are lost, and %d count as damaged", store, lost, p.Damaged)
				}
			}
			// It works, and nothing is told twice.
			b.appendN(t, 1)
			keepIn(t, b, "a", b.Stats().Head)
			awaitTrue(t, "the file is whole", func() bool {
				b.quarantine.io.Lock()
				defer b.quarantine.io.Unlock()
				return !b.quarantine.due
			})
			again := inQuarantine(t, b)
			if len(again["a"]) != len(got["a"])+1 || len(again["b"]) != len(got["b"]) {
				t.Error("what could be read is gone")
			}
			shut(t, b)
			told.list = nil
			b = open(t, dir, o)
			inQuarantine(t, b)
			if g := told.of(GapDamaged); len(g) > 0 {
				t.Errorf("the next start tells again: %+v", g)
			}
			shut(t, b)
			if report.Harm != "" {
				if _, err := os.Stat(path + setAside); err != nil && name != "a directory" {
					t.Error("the harmed file is not kept:", err)
				}
			}
		})
	}
}

func statsOf(t *testing.T, dir string) Stats {
	t.Helper()
	st, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// wholeRecords are the records that lie somewhere in a file.
func wholeRecords(path string) map[string]bool {
	whole := map[string]bool{}
	b, err := os.ReadFile(path)
	if err != nil {
		return whole
	}
	for i := bytes.Index(b, quarantineMagic[:]); i >= 0; {
		if r, err := parseRecord(b[i:]); err == nil && r.as == 0 {
			whole[fmt.Sprint(r.meta.Store, r.sequence)] = true
		}
		next := bytes.Index(b[i+1:], quarantineMagic[:])
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return whole
}

// buried waits until the keeper has taken out what was resolved.
func buried(t *testing.T, b *Buffer) {
	t.Helper()
	awaitTrue(t, "what was resolved is out of the file", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.quarantine.dead.len()+b.state.Resolved.len() == 0
	})
}

func TestAFileOfQuarantineThatIsHarmedWhileItIsUsedIsNoted(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	b := open(t, dir, Options{Gap: told.entry})
	b.Hold("s")
	b.appendN(t, 40)
	keepIn(t, b, "s", 2, 4, 6, 8)
	if err := b.Resolve("s", 4, ResolvedDelivered, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Quarantine(refused("s", 20)); err != nil {
		t.Fatal(err)
	}
	buried(t, b)                                                               // a commit that is under way would make a file whole again that is so small
	if err := os.Truncate(filepath.Join(dir, quarantineName), 0); err != nil { // its map faults
		t.Fatal(err)
	}
	if err := b.Quarantine(refused("s", 21)); err != nil {
		t.Fatal(err)
	}
	b.Advance("s", 30, 20, 0, 2)
	got := inQuarantine(t, b)["s"]
	p := b.Stats().Stores["s"]
	if len(got) != 1 || got[21].Payload == nil || p.Damaged != 4 {
		t.Errorf("%v, %+v", got, p)
	}
	var n uint64
	for _, g := range told.of(GapDamaged) {
		n += g.Count
	}
	if n != 4 {
		t.Errorf("gaps %+v", told.of(GapDamaged))
	}
}

func TestTheFileOfQuarantineIsWrittenAgainWhenSomebodyDeletesIt(t *testing.T) {
	t.Parallel()
	for name, vandal := range map[string]func(dir string) error{
		"deleted":    func(dir string) error { return os.Remove(filepath.Join(dir, quarantineName)) },
		"replaced":   func(dir string) error { return replaceFile(filepath.Join(dir, quarantineName)) },
		"everything": takeAway,
	} {
		for _, fresh := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " ", fresh), func(t *testing.T) {
				dir, told := newDir(t), &gaps{}
				o := Options{Gap: told.entry}
				b := open(t, dir, o)
				b.Hold("s")
				b.appendN(t, 20)
				keepIn(t, b, "s", 2, 4, 6)
				if fresh { // nothing was put by this process
					shut(t, b)
					b = open(t, dir, o)
				}
				if err := vandal(dir); err != nil {
					t.Fatal(err)
				}
				awaitTrue(t, "it is there again", func() bool {
					b.quarantine.io.Lock()
					defer b.quarantine.io.Unlock()
					return same(b.quarantine.path(), b.quarantine.file)
				})
				awaitTrue(t, "the buffer works", func() bool { return b.Append([]byte("x")) == nil })
				keepIn(t, b, "s", 9)
				shut(t, b)
				b = open(t, dir, o)
				if got := inQuarantine(t, b)["s"]; len(got) != 4 {
					t.Errorf("%v", got)
				}
				if len(told.of(GapDamaged)) > 0 {
					t.Errorf("gaps %+v", told.list)
				}
			})
		}
	}
}

// The newest segment's end is lost, and with it what was counted last.
func TestAHarmedSegmentDoesNotTakeQuarantineWithIt(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	o := Options{Gap: told.entry}
	b := open(t, dir, o)
	b.Hold("s")
	b.Hold("a store that keeps the older segments")
	b.appendN(t, 20)
	keepIn(t, b, "s", 1, 2, 3, 4, 5)
	shut(t, b)
	b = open(t, dir, o) // a new segment
	b.Hold("s")
	b.Hold("a store that keeps the older segments")
	b.appendN(t, 20)
	for n := uint64(1); n < 4; n++ {
		if err := b.Resolve("s", n, Resolution(1+n%2), "x"); err != nil {
			t.Fatal(err)
		}
	}
	keepIn(t, b, "s", 30, 35)
	awaitTrue(t, "the file shows it", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.state.Resolved.len() == 0
	})
	shut(t, b)
	files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[len(files)-1], make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	told.list = nil
	b = open(t, dir, o)
	if b.Stats().Head < 35 {
		t.Errorf("sequences from %d on are given again", b.Stats().Head+1)
	}
	got := inQuarantine(t, b)["s"]
	if p := b.Stats().Stores["s"]; p.Quarantined != 2 || p.Damaged != 0 || p.Skipped != 2 || len(got) != 4 {
		t.Errorf("%+v, %v", p, got)
	}
	if n := len(told.of(GapDropped)); n != 2 {
		t.Errorf("what was dropped is told %d times", n)
	}
	// What nobody can read any more is in quarantine, if it was there.
	b.Hold("s")
	for _, d := range damagedOf(t, b, 6) {
		b.Damaged("s", d.Last)
	}
	got = inQuarantine(t, b)["s"]
	if !slices.Equal(sortedKeys(got), []uint64{4, 5, 30, 35}) || b.Stats().Stores["s"].Quarantined != 4 {
		t.Errorf("%v, %+v", got, b.Stats().Stores["s"])
	}
	b.appendN(t, 1)
	shut(t, b)
	b = open(t, dir, o)
	if got := inQuarantine(t, b)["s"]; len(got) != 4 {
		t.Errorf("%v", got)
	}
}

func damagedOf(t *testing.T, b *Buffer, from uint64) []DamagedError {
	t.Helper()
	_, lost := taken(t, b, from)
	return lost
}

func TestARepairedQuarantineIsWhole(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	b.Hold("s")
	b.appendN(t, 20)
	keepIn(t, b, "s", 2, 4, 6)
	shut(t, b)
	path := filepath.Join(dir, quarantineName)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(raw, []byte("payload 4"))
	for i := range 2 * os.Getpagesize() {
		raw[i] ^= 0xff // both meta pages
	}
	raw[at] ^= 1
	raw[bytes.Index(raw, []byte("payload 4"))] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func() []SegmentReport {
		o, err := OpenOffline(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		list, err := o.Verify(t.Context(), func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(list, func(r SegmentReport) bool { return r.Harm == "" })
	}
	if list := verify(); len(list) != 1 || list[0].Name != quarantineName || list[0].Lost > 1 {
		t.Errorf("%+v", list)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, raw) {
		t.Error("a look at it changed the file:", err)
	}
	told := &gaps{}
	names, err := Repair(t.Context(), dir, Options{Adopt: true, Gap: told.entry}, func(int64, int64) {})
	if err != nil || !slices.Equal(names, []string{quarantineName}) {
		t.Fatal(names, err)
	}
	if kept, err := os.ReadFile(path + setAside); err != nil || !bytes.Equal(kept, raw) {
		t.Error("the harmed file is not kept as it was:", err)
	}
	if list := verify(); len(list) != 0 {
		t.Errorf("after the repair: %+v", list)
	}
}

// Two servers on one directory must not both write in its quarantine.
func TestWhoHasLostTheLockPutsNothingIntoQuarantine(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	b := open(t, dir, Options{})
	b.Hold("s")
	b.appendN(t, 10)
	keepIn(t, b, "s", 2)
	b.appendN(t, 1)
	other := openWithoutItsLock(t, dir)
	if err := b.Quarantine(refused("s", 5)); err == nil {
		t.Error("an entry is said to be in quarantine that the other server does not have")
	}
	keepIn(t, other, "s", 6)
	time.Sleep(2 * tickEvery) // in which the first one might find its file replaced
	shut(t, other)
	if err := b.Quarantine(refused("s", 7)); err == nil {
		t.Error("the first server writes in a directory that another one has changed")
	}
	_ = b.Close(t.Context())
	<-b.done
	b = open(t, dir, Options{})
	if got := inQuarantine(t, b)["s"]; !slices.Equal(sortedKeys(got), []uint64{2, 6}) {
		t.Errorf("%v", got)
	}
}
