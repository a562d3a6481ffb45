package buffer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

// model is what a store's quarantine must be.
type model struct {
	// position is what the buffer was told; since a commit at safe, a kill may take it
	// back as far as that.
	position, safe uint64
	kept           map[uint64]string
	// other is what a record may hold as well, because replacing it failed.
	other map[uint64]string
}

func (m *model) check(t *testing.T, what string, got map[uint64]Quarantined) {
	t.Helper()
	for n, e := range got {
		p, there := m.kept[n]
		switch {
		case n > m.position: // put, and not counted yet
		case !there:
			t.Errorf("%s: entry %d is in quarantine", what, n)
		case string(e.Payload) != p && string(e.Payload) != m.other[n]:
			t.Errorf("%s: entry %d is %q, want %q", what, n, e.Payload, p)
		}
	}
	for n := range m.kept {
		if _, there := got[n]; !there {
			t.Errorf("%s: entry %d is not in quarantine", what, n)
		}
	}
}

// Whatever is done, fails or is killed in whatever order: in quarantine is what the store
// has counted, and nothing else.
func TestQuarantineIsWhatItsStoresHaveCounted(t *testing.T) {
	for round := range trials.Rounds(8, 40) {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Log("seed", seed)
			playQuarantine(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func playQuarantine(t *testing.T, rnd *rand.Rand) {
	dir, told := newDir(t), &gaps{}
	o := Options{Gap: told.entry, SegmentSize: 64 << 10, Adopt: true}
	models := map[string]*model{}
	stores := []string{"a", "ab", "c"}
	b := open(t, dir, o)
	begin := func() {
		b.Hold("keeps the segments until all are held")
		for _, s := range stores {
			b.Hold(s)
		}
	}
	begin()
	for _, s := range stores {
		models[s] = &model{kept: map[uint64]string{}, other: map[uint64]string{}}
	}
	commit := func() {
		b.appendN(t, 1)
		for _, m := range models {
			m.safe = m.position
		}
	}
	commit()
	// again ends the process in some way and begins another.
	again := func(kill bool) {
		if kill {
			abandon(t, b)
		} else {
			shut(t, b)
			for _, m := range models {
				m.safe = m.position
			}
		}
		b = open(t, dir, o)
		begin()
		for s, m := range models {
			p := b.Position(s)
			if p < m.safe || p > m.position {
				t.Fatalf("store %s is at %d, and was at %d or %d", s, p, m.safe, m.position)
			}
			for n := range m.kept {
				if n > p {
					delete(m.kept, n)
				}
			}
			m.position, m.safe = p, p
		}
	}
	fault := func() {
		rnd := rand.New(rand.NewPCG(rnd.Uint64(), 2))
		var f func(name string) error
		if point := quarantineFaults[rnd.IntN(len(quarantineFaults))]; point != "" {
			f = func(name string) error {
				if name == point {
					return fmt.Errorf("planted at %s", name)
				}
				return nil
			}
			failpoint.Store(&f)
			return
		}
		failpoint.Store(nil)
	}
	defer failpoint.Store(nil)
	for step := range 120 {
		s := stores[rnd.IntN(len(stores))]
		m := models[s]
		what := fmt.Sprintf("step %d", step)
		switch rnd.IntN(12) {
		case 0, 1:
			b.appendN(t, 1+rnd.IntN(10))
		case 2, 3, 4, 5: // an attempt of a store
			head := b.Stats().Head
			to := min(head, m.position+uint64(rnd.IntN(8)))
			put := map[uint64]string{}
			ok := true
			for n := m.position + 1; n <= to && ok; n++ {
				if rnd.IntN(2) == 0 {
					continue
				}
				p := fmt.Sprintf("%d of %s at step %d %0*d", n, s, step, rnd.IntN(5000), 0)
				if ok = b.Quarantine(Quarantined{Store: s, Sequence: n, Payload: []byte(p)}) == nil; ok {
					put[n] = p
				}
			}
			if !ok || rnd.IntN(4) == 0 || to == m.position {
				break // it is broken off
			}
			b.Advance(s, to, to-m.position-uint64(len(put)), 0, uint64(len(put)))
			m.position = to
			maps.Copy(m.kept, put)
		case 6, 7: // one is resolved
			for n := range m.kept {
				if err := b.Resolve(s, n, Resolution(1+rnd.IntN(2)), "x"); err != nil {
					t.Fatal(what, err)
				}
				delete(m.kept, n)
				delete(m.other, n)
				for _, m := range models {
					m.safe = m.position
				}
				break
			}
		case 8: // one is put again
			for n := range m.kept {
				p := fmt.Sprintf("%d of %s again at step %d", n, s, step)
				if err := b.Quarantine(Quarantined{Store: s, Sequence: n, Payload: []byte(p)}); err != nil {
					m.other[n] = p
				} else {
					m.kept[n] = p
					delete(m.other, n)
				}
				break
			}
		case 9:
			fault()
		case 10:
			commit()
		case 11:
			switch rnd.IntN(6) {
			case 0:
				again(false)
			case 1, 2:
				again(true)
			case 3:
				failpoint.Store(nil)
				_ = os.Remove(filepath.Join(dir, quarantineName))
				if err := b.quarantine.tendNow(); err != nil {
					t.Fatal(what, err)
				}
			}
		}
		got := inQuarantine(t, b)
		for _, s := range stores {
			models[s].check(t, what+" "+s, got[s])
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	failpoint.Store(nil)
	for _, kill := range []bool{true, false, true} {
		again(kill)
		got := inQuarantine(t, b)
		for _, s := range stores {
			models[s].check(t, "in the end "+s, got[s])
		}
	}
	if g := told.of(GapDamaged); len(g) > 0 {
		t.Errorf("gaps %+v", g)
	}
}

var quarantineFaults = append([]string{"", "", "", ""}, "quarantine", "quarantined", "resolve", "resolved", "rewrite", "rewritten")

// tendNow is what the keeper does.
func (q *quarantine) tendNow() error {
	q.io.Lock()
	defer q.io.Unlock()
	return q.tend()
}
