package buffer

import (
	"bytes"
	"errors"
	"fmt"
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

// gaps gathers the gaps that a buffer tells of.
type gaps struct {
	mu   sync.Mutex
	list []Gap
}

func (g *gaps) entry(gap Gap) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, gap)
	return fmt.Appendf(nil, "gap %s %d", gap.Reason, gap.Count)
}

func (g *gaps) of(r Reason) (list []Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, gap := range g.list {
		if gap.Reason == r {
			list = append(list, gap)
		}
	}
	return list
}

// fill makes a buffer of about four segments, with n entries and some open
// intents, and ends it in order or as a kill would.
func fill(t *testing.T, dir string, n int, clean bool) (payloads []string) {
	t.Helper()
	b := open(t, dir, Options{SegmentSize: 128 << 10})
	b.Hold("store")
	rnd := rand.New(rand.NewPCG(1, 2))
	for len(payloads) < n {
		var group [][]byte
		for range min(n-len(payloads), []int{1, 1, 1, 1, 2, 30}[rnd.IntN(6)]) { // the last is a run
			p := fmt.Sprintf("entry %d %s", len(payloads)+1, strings.Repeat("x", rnd.IntN(1500)))
			group = append(group, []byte(p))
			payloads = append(payloads, p)
		}
		together(t, b, group)
	}
	for i := range 3 {
		if err := admit(t, b).Begin(fmt.Appendf(nil, "intent %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		shut(t, b)
		return payloads
	}
	abandon(t, b)
	return payloads
}

// abandon ends a buffer without the last commit of a close.
func abandon(t *testing.T, b *Buffer) {
	t.Helper()
	planted := errors.New("planted")
	f := func(string) error { return planted }
	failpoint.Store(&f)
	defer failpoint.Store(nil)
	_ = b.Close(t.Context())
	<-b.done
}

// taken is what a store gets that goes on behind what is damaged.
func taken(t *testing.T, b *Buffer, from uint64) (got map[uint64]string, lost []DamagedError) {
	t.Helper()
	got = map[uint64]string{}
	err := b.ReadPast(from, func(seq uint64, p []byte) bool {
		if _, twice := got[seq]; twice {
			t.Errorf("entry %d is read twice", seq)
		}
		got[seq] = string(p)
		return true
	}, func(d *DamagedError) { lost = append(lost, *d) })
	if err != nil {
		t.Fatal(err)
	}
	return got, lost
}

// damage does something to a file that a disk or a person could do.
func damage(t *testing.T, rnd *rand.Rand, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var what string
	at := rnd.IntN(len(b))
	switch rnd.IntN(5) {
	case 0, 1:
		b[at] ^= 1 << rnd.IntN(8)
		what = fmt.Sprintf("flipped a bit at %d", at)
	case 2:
		at -= at % 4096
		clear(b[at:min(len(b), at+4096)])
		what = fmt.Sprintf("zeroed the page at %d", at)
	case 3:
		b = b[:at]
		what = fmt.Sprintf("truncated to %d", at)
	case 4:
		from := rnd.IntN(len(b)/4096) * 4096
		at -= at % 4096
		copy(b[at:min(len(b), at+4096)], b[from:from+4096])
		what = fmt.Sprintf("copied the page at %d to %d", from, at)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path) + ": " + what
}

// A new segment must not take a harmed one's name. If that had no entry yet, the number that
// it begins with is skipped, and a gap accounts for it.
func TestTheNumberAHarmedSegmentBeginsWithIsNotGivenAgain(t *testing.T) {
	for _, meta := range []int{0, 4096} {
		dir := newDir(t)
		b := open(t, dir, Options{SegmentSize: 128 << 10})
		b.Hold("store")
		for n := 0; n == 0 || b.active().first <= b.Stats().Head; n++ {
			if err := b.Append(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			for b.busySince.Load() != 0 { // the writer answers before it rotates
				time.Sleep(time.Millisecond)
			}
		}
		head := b.Stats().Head
		shut(t, b)
		newest := filepath.Join(dir, segmentName(head+1))
		content, err := os.ReadFile(newest)
		if err != nil {
			t.Fatal(err)
		}
		clear(content[meta : meta+4096])
		if err := os.WriteFile(newest, content, 0o600); err != nil {
			t.Fatal(err)
		}
		told := &gaps{}
		b = open(t, dir, Options{Gap: told.entry, Adopt: true, SegmentSize: 128 << 10})
		if err := b.Append([]byte("next")); err != nil {
			t.Fatal(err)
		}
		damaged := told.of(GapDamaged)
		if len(damaged) != 1 || damaged[0].First != head+1 || damaged[0].Count != 1 || damaged[0].Segment != segmentName(head+1) {
			t.Errorf("of meta page at %d and head %d the gaps are %+v", meta, head, damaged)
		}
		got, _ := taken(t, b, head+1)
		if _, again := got[head+1]; again {
			t.Errorf("%d is given again", head+1)
		}
		checkConserved(t, b)
		shut(t, b)
	}
}

// Whatever is done to the files: a start succeeds, an entry whose bytes are there
// is read, one whose bytes are not is inside a gap, and nothing is told twice.
func TestWhatIsHarmedIsInAGapAndTheRestIsRead(t *testing.T) {
	for _, clean := range []bool{true, false} {
		origin := newDir(t)
		const n = 600
		payloads := fill(t, origin, n, clean)
		for round := range uint64(trials.Rounds(6, 24)) {
			rnd := rand.New(rand.NewPCG(round, 7))
			dir := newDir(t)
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
			if err != nil || len(files) < 4 {
				t.Fatal(files, err)
			}
			var done []string
			for range 1 + rnd.IntN(4) {
				done = append(done, damage(t, rnd, files[rnd.IntN(len(files))]))
			}
			whole := wholeFrames(t, files)
			told := &gaps{}
			b := open(t, dir, Options{Gap: told.entry, Adopt: true, SegmentSize: 128 << 10})
			got, lost := taken(t, b, 1)
			var count uint64
			least, mayBeTaken := false, false
			for _, g := range told.of(GapDamaged) {
				if newest := filepath.Base(files[len(files)-1]); g.First == n+1 && g.Count == 1 && g.Segment == newest {
					// See TestTheNumberAHarmedSegmentBeginsWithIsNotGivenAgain.
					if !slices.ContainsFunc(done, func(d string) bool { return strings.HasPrefix(d, newest) }) {
						t.Errorf("%v: nothing was done to %s, and a gap tells of it: %+v", done, newest, g)
					}
					mayBeTaken = mayBeTaken || g.AtLeast
					continue
				}
				count += g.Count
				least = least || g.AtLeast
			}
			missing := uint64(0)
			for seq := uint64(1); seq <= n; seq++ {
				switch p, there := got[seq]; {
				case there && p != payloads[seq-1]:
					t.Errorf("%v: entry %d is another", done, seq)
				case !there && whole[seq]:
					t.Errorf("%v: entry %d is whole and is not read", done, seq)
				case !there:
					missing++
					if !slices.ContainsFunc(told.of(GapDamaged), func(g Gap) bool { return g.First <= seq && seq <= g.Last }) && b.Stats().Head >= seq {
						t.Errorf("%v: entry %d is in no gap", done, seq)
					}
				}
			}
			if count > missing || count < missing && !least {
				t.Errorf("%v: %d entries are missing, and gaps tell of %d (at least: %v)", done, missing, count, least)
			}
			for _, d := range lost {
				for seq := d.First; seq <= d.Last; seq++ {
					if whole[seq] {
						t.Errorf("%v: entry %d is whole and is said to be damaged", done, seq)
					}
				}
			}
			if (least || mayBeTaken) && b.Stats().Instance == b.Instance(1) {
				t.Errorf("%v: numbers that may be taken are given again under the same UUID", done)
			}
			checkConserved(t, b)
			shut(t, b)

			again := &gaps{}
			b = open(t, dir, Options{Gap: again.entry, Adopt: true, SegmentSize: 128 << 10})
			if second, _ := taken(t, b, 1); len(second) < len(got) {
				t.Errorf("%v: the next start reads %d entries, and this one %d", done, len(second), len(got))
			}
			if g := again.of(GapDamaged); len(g) > 0 {
				t.Errorf("%v: the next start tells of it again: %+v, after %+v", done, g, told.of(GapDamaged))
			}
			shut(t, b)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// wholeFrames are the entries whose frames are somewhere in the files.
func wholeFrames(t *testing.T, files []string) map[uint64]bool {
	t.Helper()
	whole := map[uint64]bool{}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := bytes.Index(b, magic[:]); i >= 0; {
			if f, err := parseFrame(b[i:]); err == nil && f.flags&(flagState|flagLost) == 0 && f.sequence > 0 {
				whole[f.sequence] = true
			}
			next := bytes.Index(b[i+1:], magic[:])
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	return whole
}

func TestARepairedBufferIsWholeAndTellsWhatWasLost(t *testing.T) {
	dir := newDir(t)
	payloads := fill(t, dir, 600, true)
	files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 40; i < 60; i++ {
		b[i*1024] ^= 0xff
	}
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	progress := func(int64, int64) {}
	verify := func() (harmed int, lost uint64) {
		o, err := OpenOffline(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		list, err := o.Verify(t.Context(), progress)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Harm != "" {
				harmed++
			}
			lost += r.Lost
		}
		return harmed, lost
	}
	harmed, lost := verify()
	if harmed != 1 || lost == 0 {
		t.Fatalf("%d harmed, %d lost", harmed, lost)
	}
	told := &gaps{}
	names, err := Repair(t.Context(), dir, Options{Adopt: true, Gap: told.entry, MaxWait: time.Minute}, progress)
	if err != nil || len(names) != 1 || names[0] != filepath.Base(files[0]) {
		t.Fatal(names, err)
	}
	if g := told.of(GapDamaged); len(g) != 1 || g[0].Count != lost || g[0].AtLeast {
		t.Errorf("gaps %+v, want one of %d", g, lost)
	}
	if kept, err := os.ReadFile(files[0] + setAside); err != nil || !slices.Equal(kept, b) {
		t.Error("the harmed file is not kept as it was:", err)
	}
	again := open(t, dir, Options{Adopt: true, Gap: told.entry})
	got, gone := taken(t, again, 1)
	var missing uint64
	for _, d := range gone {
		missing += d.Last + 1 - d.First
	}
	if missing != lost || len(told.of(GapDamaged)) != 1 {
		t.Errorf("%d damaged after the repair, want %d: %+v", missing, lost, told.of(GapDamaged))
	}
	for seq, p := range got {
		if seq <= 600 && p != payloads[seq-1] {
			t.Errorf("entry %d is another", seq)
		}
	}
}

func TestAFileThatIsHarmedWhileItIsServedIsNotedAndTheRestIsRead(t *testing.T) {
	dir := newDir(t)
	fill(t, dir, 600, true)
	told := &gaps{}
	b := open(t, dir, Options{Gap: told.entry, SegmentSize: 128 << 10})
	if got, lost := taken(t, b, 1); len(lost) > 0 || len(got) < 600 {
		t.Fatal(len(got), lost)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	if err := os.Truncate(files[1], 50<<10); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.active().path, 0); err != nil { // its map faults
		t.Fatal(err)
	}
	_ = b.Append([]byte("after"))
	deadline := time.Now().Add(30 * time.Second)
	for {
		got, lost := taken(t, b, 1)
		if len(lost) > 0 && got[b.Stats().Head] != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d read, lost %v, %+v", len(got), lost, b.Stats())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(told.of(GapDamaged)) == 0 {
		t.Error("no gap tells of it")
	}
	checkConserved(t, b)
}

func TestNothingIsLostThatEveryStoreHas(t *testing.T) {
	dir := newDir(t)
	fill(t, dir, 400, true)
	b := open(t, dir, Options{SegmentSize: 128 << 10})
	b.Hold("store")
	head := b.Stats().Head
	b.Advance("store", head, head, 0, 0)
	shut(t, b)
	files, _ := filepath.Glob(filepath.Join(dir, "seg-*.db"))
	newest := files[len(files)-1]
	raw, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw[len(raw)/2:])
	for i := range 12 {
		clear(raw[4096*i+100 : 4096*i+200])
	}
	if err := os.WriteFile(newest, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	told := &gaps{}
	b = open(t, dir, Options{Gap: told.entry})
	for _, g := range told.of(GapDamaged) {
		if g.Count > 0 {
			t.Errorf("a store has everything, and a gap says %+v", g)
		}
	}
	if b.Stats().Head < head {
		t.Errorf("sequences from %d on are given again, up to %d were", b.Stats().Head+1, head)
	}
}
