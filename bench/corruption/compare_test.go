package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const instance = "reference"

func encode(f frame) []byte {
	b := append(bytes.Clone(frameMagic), make([]byte, frameHeader-len(frameMagic))...)
	b = append(b, f.payload...)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)))
	b[12] = f.flags
	binary.BigEndian.PutUint64(b[13:], f.sequence)
	binary.BigEndian.PutUint64(b[21:], f.intent)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
	return b
}

func document(id string, n uint64) []byte {
	return fmt.Appendf(nil, `{"id":%q,"revision":1,"action":{"method":"PATCH","route":"/r/%d"},"outcome":"success"}`, id, n)
}

// reference of two segments with ten entries each. Entry n is of call-n. The
// newest has intents of calls 19 to 22, of which the last two have no end.
func newReference(t *testing.T) *reference {
	t.Helper()
	r := &reference{
		files: map[string][]byte{}, head: 20, instance: instance, intents: map[uint64]string{},
		open: map[string]bool{"call-21": true, "call-22": true}, uncommitted: map[uint64]content{}, begun: map[string]bool{},
	}
	for first := uint64(1); first <= 11; first += 10 {
		s := &segment{name: fmt.Sprintf("seg-%d", first), first: first, last: first + 9}
		b := bytes.Repeat([]byte{0}, 100)
		for n := s.first; n <= s.last; n++ {
			id := fmt.Sprintf("call-%d", n)
			doc := document(id, n)
			_, c, err := read(doc)
			if err != nil {
				t.Fatal(err)
			}
			r.entries = append(r.entries, entry{id, c, n})
			b = append(b, encode(frame{0, n, n, doc})...)
		}
		if first == 11 {
			for n := uint64(19); n <= 22; n++ {
				id := fmt.Sprintf("call-%d", n)
				r.intents[n] = id
				b = append(b, encode(frame{0, 0, n, document(id, n)})...)
			}
		}
		s.used = len(b)
		r.segments, r.files[s.name] = append(r.segments, s), b
	}
	return r
}

// hit flips a bit in the frame of an entry, or if it is zero in the intent's.
func (s *shown) hit(name string, sequence, intent uint64) {
	b := s.harmed[name]
	if b == nil {
		b = bytes.Clone(s.ref.files[name])
		s.harmed[name] = b
	}
	for at := range b {
		if f, ok := parse(b[at:]); ok && f.sequence == sequence && (sequence > 0 || f.intent == intent) {
			b[at+frameHeader+3] ^= 4
		}
	}
}

// store puts an entry into the store.
func (s *shown) store(t *testing.T, n uint64, doc []byte) {
	t.Helper()
	doc = append(bytes.TrimSuffix(doc, []byte("}")), fmt.Sprintf(`,"origin":{"instance":%q,"sequence":%d}}`, instance, n)...)
	e := stored{}
	if err := json.Unmarshal(doc, &e.Entry); err != nil {
		t.Fatal(err)
	}
	var err error
	if _, e.content, err = read(doc); err != nil {
		t.Fatal(err)
	}
	s.stored = append(s.stored, e)
}

func (s *shown) storeEvent(t *testing.T, n uint64, code, facts string) {
	t.Helper()
	s.store(t, n, fmt.Appendf(nil, `{"id":"event-%d","action":{"code":%q,"metadata":%s},"outcome":"success"}`, n, code, facts))
}

// renew begins another origin behind what an uncertain gap tells of, as a
// product that keeps the promise does.
func (s *shown) renew(t *testing.T) {
	t.Helper()
	for _, e := range s.stored {
		var g gap
		if e.Action.Code != "audit.gap" || json.Unmarshal(e.Action.Metadata, &g) != nil || g.AtLeast == nil || g.Segment != "seg-11" {
			continue
		}
		s.storeEvent(t, 1000, "audit.gap", fmt.Sprintf(
			`{"reason":"origin","cause":"harmed","count_at_least":0,"previous_instance":%q,"previous_head":%d}`, instance, g.Last))
		for i := range s.stored {
			if o := s.stored[i].Origin; o.Sequence > g.Last && o.Instance == instance {
				o.Instance = "renewed"
			}
		}
		return
	}
}

// drop takes the entry with a sequence away.
func (s *shown) drop(n uint64) {
	s.stored = slices.DeleteFunc(s.stored, func(e stored) bool { return e.Origin.Sequence == n })
}

// round is what a product shows that keeps the promise: in the first segment
// entries 3 and 4 are harmed, in the newest one 15 and the intent of call 21.
// It tells of 21 (gap), 22 (gap), 23 (the call whose intent is left), 24 (one
// that was answered meanwhile).
func newRound(t *testing.T) *shown {
	t.Helper()
	s := &shown{ref: newReference(t), harmed: map[string][]byte{}, calls: []string{"new"}}
	s.hit("seg-1", 3, 0)
	s.hit("seg-1", 4, 0)
	s.hit("seg-11", 15, 0)
	s.hit("seg-11", 0, 21)
	for n := uint64(1); n <= 20; n++ {
		if n != 3 && n != 4 && n != 15 {
			s.store(t, n, document(fmt.Sprintf("call-%d", n), n))
		}
	}
	s.storeEvent(t, 21, "audit.gap", `{"reason":"damaged","segment":"seg-11","first":11,"last":20,"count_at_least":1,"ranges":[[15,15]]}`)
	s.storeEvent(t, 22, "audit.gap", `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":2,"ranges":[[3,4]]}`)
	s.store(t, 23, []byte(`{"id":"call-22","revision":0,"action":{"method":"PATCH"},"outcome":"unknown"}`))
	s.store(t, 24, []byte(`{"id":"x","revision":1,"action":{"method":"PATCH"},"target":{"id":"new"},"outcome":"success"}`))
	s.first = statusOf(25)
	s.last = statusOf(25)
	return s
}

// statusOf is a status whose sums hold. The last entry is not delivered.
func statusOf(head uint64) rig.Status {
	return rig.Status{
		Head: head, Conserved: true,
		Stores: []rig.StoreStatus{{Name: "sqlite", Position: head - 1, Delivered: head - 4, Damaged: 3, Pending: 1}},
	}
}

func TestAProductThatKeepsThePromise(t *testing.T) {
	for name, change := range map[string]func(*shown){
		"as it is": func(*shown) {},
		"nothing was harmed": func(s *shown) {
			for _, n := range []uint64{3, 4, 15} {
				s.store(t, n, document(fmt.Sprintf("call-%d", n), n))
			}
			clear(s.harmed)
			s.drop(21)
			s.drop(22)
			s.storeEvent(t, 21, "audit.started", "{}")
			s.store(t, 22, []byte(`{"id":"call-21","revision":0,"outcome":"unknown"}`))
		},
		"harmed where nothing lies": func(s *shown) {
			for _, n := range []uint64{3, 4} {
				s.store(t, n, document(fmt.Sprintf("call-%d", n), n))
			}
			s.harmed["seg-1"] = bytes.Clone(s.ref.files["seg-1"])
			s.harmed["seg-1"][50] ^= 1
			s.drop(22)
			s.storeEvent(t, 22, "audit.started", "{}")
		},
		"the tail is lost, and its numbers are given again": func(s *shown) {
			s.hit("seg-11", 19, 0)
			s.hit("seg-11", 20, 0)
			s.stored = slices.DeleteFunc(s.stored, func(e stored) bool { return e.Origin.Sequence >= 19 })
			s.storeEvent(t, 19, "audit.gap", `{"reason":"damaged","segment":"seg-11","first":11,"last":18,"count_at_least":1,"ranges":[[15,15]]}`)
			s.storeEvent(t, 20, "audit.gap", `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":2,"ranges":[[3,4]]}`)
			for i, id := range []string{"call-22", "call-19"} {
				s.store(t, uint64(21+i), fmt.Appendf(nil, `{"id":%q,"revision":0,"outcome":"unknown"}`, id))
			}
			s.store(t, 23, []byte(`{"id":"x","revision":1,"target":{"id":"new"},"outcome":"success"}`))
			s.hit("seg-11", 0, 20)
			s.first, s.last = statusOf(24), statusOf(24)
		},
		"a kill has left a commit that did not end": func(s *shown) {
			r := s.ref
			for n, id := range map[uint64]string{21: "call-21", 23: "call-31"} {
				doc := document(id, n)
				_, c, err := read(doc)
				if err != nil {
					t.Fatal(err)
				}
				r.uncommitted[n] = c
				s.harmed["seg-11"] = append(s.harmed["seg-11"], encode(frame{0, n, n, doc})...)
			}
			r.begun["call-32"] = true
			s.drop(21)
			s.drop(22)
			s.drop(23)
			s.drop(24)
			s.store(t, 21, document("call-21", 21))
			s.store(t, 23, document("call-31", 23))
			s.storeEvent(t, 24, "audit.gap", `{"reason":"damaged","segment":"seg-11","first":11,"last":23,"count_at_least":2,"ranges":[[15,15],[22,22]]}`)
			s.storeEvent(t, 25, "audit.gap", `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":2,"ranges":[[3,4]]}`)
			s.store(t, 26, []byte(`{"id":"call-22","revision":0,"outcome":"unknown"}`))
			s.store(t, 27, []byte(`{"id":"call-32","revision":0,"outcome":"unknown"}`))
			s.store(t, 28, []byte(`{"id":"x","revision":1,"target":{"id":"new"},"outcome":"success"}`))
			s.first, s.last = statusOf(29), statusOf(29)
		},
		"two gaps that add up": func(s *shown) {
			s.drop(22)
			s.storeEvent(t, 22, "audit.gap", `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":1,"ranges":[[3,4]]}`)
			s.storeEvent(t, 25, "audit.gap", `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":1,"ranges":[[3,4]]}`)
			s.first, s.last = statusOf(26), statusOf(26)
		},
		"harmed while it ran, one in hand": func(s *shown) {
			s.running = true
			s.store(t, 3, document("call-3", 3))
			s.drop(21)
			s.storeEvent(t, 21, "audit.gap", `{"reason":"damaged","segment":"seg-11","first":11,"last":20,"count":1,"ranges":[[15,15]]}`)
			s.store(t, 25, []byte(`{"id":"call-21","revision":0,"outcome":"unknown"}`))
			s.first, s.last = statusOf(26), statusOf(26)
		},
		"both in hand, and nobody has read them again": func(s *shown) {
			s.running = true
			s.store(t, 3, document("call-3", 3))
			s.store(t, 4, document("call-4", 4))
			s.drop(21)
			s.storeEvent(t, 21, "audit.gap", `{"reason":"damaged","segment":"seg-11","first":11,"last":20,"count":1,"ranges":[[15,15]]}`)
			s.drop(22)
			s.store(t, 22, []byte(`{"id":"call-21","revision":0,"outcome":"unknown"}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, v := newRound(t), &verdict{Rounds: 1}
			change(s)
			s.renew(t)
			v.compare(s)
			if !v.held() {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestAProductThatBreaksThePromise(t *testing.T) {
	gapAs := func(n uint64, facts string) func(*shown) {
		return func(s *shown) {
			s.drop(n)
			s.storeEvent(t, n, "audit.gap", facts)
		}
	}
	for name, c := range map[string]struct {
		spoil func(*shown)
		count func(*verdict) int
		// origins says that the case is about them, and renews or does not itself.
		origins bool
	}{
		"an unharmed entry is not delivered": {func(s *shown) { s.drop(7) }, func(v *verdict) int { return v.Undelivered }, false},
		"one of the newest segment is not":   {func(s *shown) { s.drop(16) }, func(v *verdict) int { return v.Undelivered }, false},
		"it is, as another": {func(s *shown) {
			s.drop(7)
			s.store(t, 7, document("call-7", 8))
		}, func(v *verdict) int { return v.Undelivered * v.Altered }, false},
		"under another origin":    {func(s *shown) { s.stored[0].Origin.Instance = "other" }, func(v *verdict) int { return v.Altered }, false},
		"a harmed one is made up": {func(s *shown) { s.store(t, 3, document("call-3", 3)) }, func(v *verdict) int { return v.Altered }, false},
		"twice":                   {func(s *shown) { s.store(t, 7, document("again", 7)) }, func(v *verdict) int { return v.Strangers }, false},
		"no gap": {func(s *shown) {
			s.drop(22)
			s.storeEvent(t, 22, "audit.started", "{}")
		}, func(v *verdict) int { return v.Untold * v.WrongCounts }, false},
		"no gap of the newest": {func(s *shown) {
			s.drop(21)
			s.storeEvent(t, 21, "audit.started", "{}")
		}, func(v *verdict) int { return v.Untold * v.WrongCounts }, false},
		"a gap for the other segment": {gapAs(22, `{"reason":"damaged","segment":"seg-11","first":1,"last":10,"count":2}`), func(v *verdict) int { return v.Untold * v.WrongCounts }, false},
		"a gap that counts too few":   {gapAs(22, `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":1,"ranges":[[3,4]]}`), func(v *verdict) int { return v.WrongCounts }, false},
		"a gap that counts too many":  {gapAs(22, `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":3,"ranges":[[3,4]]}`), func(v *verdict) int { return v.WrongCounts }, false},
		"a gap that is vague":         {gapAs(22, `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count_at_least":2,"ranges":[[3,4]]}`), func(v *verdict) int { return v.WrongCounts }, false},
		"a gap that is short":         {gapAs(22, `{"reason":"damaged","segment":"seg-1","first":1,"last":3,"count":2,"ranges":[[3,4]]}`), func(v *verdict) int { return v.Untold }, false},
		"a gap that lists another":    {gapAs(22, `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":2,"ranges":[[3,3],[5,5]]}`), func(v *verdict) int { return v.Untold * v.FalseLoss }, false},
		"more than there can be":      {gapAs(21, `{"reason":"damaged","segment":"seg-11","first":11,"last":20,"count_at_least":2,"ranges":[[15,15]]}`), func(v *verdict) int { return v.WrongCounts }, false},
		"certain of too few":          {gapAs(21, `{"reason":"damaged","segment":"seg-11","first":11,"last":20,"count":0,"ranges":[[15,15]]}`), func(v *verdict) int { return v.WrongCounts }, false},
		"the tail is not told of": {func(s *shown) {
			s.hit("seg-11", 20, 0)
			s.drop(20)
		}, func(v *verdict) int { return v.Untold }, false},
		"a loss where nothing was harmed": {func(s *shown) {
			for _, n := range []uint64{3, 4} {
				s.store(t, n, document(fmt.Sprintf("call-%d", n), n))
			}
			delete(s.harmed, "seg-1")
		}, func(v *verdict) int { return v.FalseLoss * v.WrongCounts }, false},
		"a gap of nothing": {func(s *shown) {
			for _, n := range []uint64{3, 4} {
				s.store(t, n, document(fmt.Sprintf("call-%d", n), n))
			}
			delete(s.harmed, "seg-1")
			gapAs(22, `{"reason":"damaged","segment":"seg-1","first":1,"last":10,"count":0}`)(s)
		}, func(v *verdict) int { return v.FalseLoss }, false},
		"a gap for another reason": {func(s *shown) {
			s.storeEvent(t, 25, "audit.gap", `{"reason":"origin","cause":"copied"}`)
			s.first, s.last = statusOf(26), statusOf(26)
		}, func(v *verdict) int { return v.Strangers }, false},
		"told again": {func(s *shown) { s.first = statusOf(21) }, func(v *verdict) int { return v.ToldAgain }, false},
		"an intent is forgotten": {func(s *shown) {
			s.drop(23)
			s.storeEvent(t, 23, "audit.started", "{}")
		}, func(v *verdict) int { return v.Forgotten }, false},
		"a call that nobody sent": {func(s *shown) {
			s.drop(23)
			s.store(t, 23, []byte(`{"id":"call-99","revision":0,"outcome":"unknown"}`))
		}, func(v *verdict) int { return v.Strangers }, false},
		"a call that was answered is not stored": {func(s *shown) {
			s.drop(24)
			s.storeEvent(t, 24, "audit.started", "{}")
		}, func(v *verdict) int { return v.Unrecorded }, false},
		"a hole":                              {func(s *shown) { s.last = statusOf(26) }, func(v *verdict) int { return v.Holes }, false},
		"sums that do not hold":               {func(s *shown) { s.last.Stores[0].Damaged = 2 }, func(v *verdict) int { return v.NotConserved }, false},
		"a copy that passes":                  {func(s *shown) { s.copied = true }, func(v *verdict) int { return v.CopiesUnnoticed }, true},
		"numbers go on under the same origin": {func(*shown) {}, func(v *verdict) int { return v.OriginsKept }, true},
		"a gap tells of another origin, and numbers go on under the same": {func(s *shown) {
			s.renew(t)
			for _, e := range s.stored {
				e.Origin.Instance = instance
			}
		}, func(v *verdict) int { return v.Altered }, true},
		"another origin for nothing": {func(s *shown) {
			s.renew(t)
			gapAs(21, `{"reason":"damaged","segment":"seg-11","first":11,"last":20,"count":1,"ranges":[[15,15]]}`)(s)
			s.stored[len(s.stored)-1].Origin.Instance = "renewed"
		}, func(v *verdict) int { return v.Strangers }, true},
		"what was there is of another origin": {func(s *shown) {
			s.renew(t)
			for _, e := range s.stored {
				e.Origin.Instance = "renewed"
			}
		}, func(v *verdict) int { return v.Altered }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, v := newRound(t), &verdict{Rounds: 1}
			c.spoil(s)
			if !c.origins {
				s.renew(t)
			}
			v.compare(s)
			if v.held() || c.count(v) == 0 {
				t.Errorf("was not noticed: %+v", v)
			}
		})
	}
}

func TestACopyIsNoticed(t *testing.T) {
	s, v := &shown{ref: newReference(t), copied: true}, &verdict{Rounds: 1}
	for n := uint64(1); n <= 20; n++ {
		s.store(t, n, document(fmt.Sprintf("call-%d", n), n))
	}
	s.storeEvent(t, 21, "audit.gap", `{"reason":"origin","cause":"copied","count_at_least":0,"previous_instance":"reference","previous_head":20}`)
	for i, id := range []string{"call-21", "call-22"} {
		s.store(t, uint64(22+i), fmt.Appendf(nil, `{"id":%q,"revision":0,"outcome":"unknown"}`, id))
	}
	for i := range s.stored[20:] {
		s.stored[20+i].Origin.Instance = "copy"
	}
	s.first, s.last = statusOf(24), statusOf(24)
	v.compare(s)
	if !v.held() {
		t.Errorf("got %+v", v)
	}
}

// TestAFrameIsFoundUnlessItWasHit is about the oracle's own reading of files.
func TestAFrameIsFoundUnlessItWasHit(t *testing.T) {
	r := newReference(t)
	whole := r.left("seg-11", r.files["seg-11"])
	if len(whole.entries) != 10 || len(whole.intents) != 4 {
		t.Fatalf("of an unharmed file: %+v", whole)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		b := bytes.Clone(r.files["seg-11"])
		hit := 100 + rnd.IntN(len(b)-100)
		b[hit] ^= 1 << rnd.IntN(8)
		l := r.left("seg-11", b)
		if n := len(l.entries) + len(l.intents); n != 13 {
			t.Fatalf("a bit at %d left %d frames of 14", hit, n)
		}
	}
}

func TestDamageIsDrawnFromItsSeedAlone(t *testing.T) {
	file := bytes.Repeat([]byte("0123456789abcdef"), 40*pageSize/16)
	kinds := map[string]bool{}
	for n := range uint64(300) {
		a, what := harm(rand.New(rand.NewPCG(n, 2)), bytes.Clone(file), 20*pageSize)
		b, again := harm(rand.New(rand.NewPCG(n, 2)), bytes.Clone(file), 20*pageSize)
		if what != again || !bytes.Equal(a, b) {
			t.Fatalf("seed %d: %q and %q", n, what, again)
		}
		kind, _, _ := strings.Cut(what, " at ")
		kinds[kind] = true
	}
	if len(kinds) != len(damages) {
		t.Errorf("only these kinds were drawn: %v", kinds)
	}
	for n := range uint64(1000) { // what is left of a file can be harmed once more
		b, r := bytes.Clone(file[:3*pageSize+7]), rand.New(rand.NewPCG(n, 3))
		for range 20 {
			b, _ = harm(r, b, 20*pageSize)
		}
	}
}
