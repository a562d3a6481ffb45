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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// inQuarantine lists what is there, and holds it against what the stores' terms say.
func inQuarantine(t *testing.T, b *Buffer) map[string]map[uint64]Quarantined {
	t.Helper()
	got := map[string]map[uint64]Quarantined{}
	last := Quarantined{}
	err := b.Quarantined("", 0, func(e Quarantined) bool {
		if e.Store < last.Store || e.Store == last.Store && e.Sequence <= last.Sequence {
			t.Errorf("entry %d of %q comes after %d of %q", e.Sequence, e.Store, last.Sequence, last.Store)
		}
		e.Payload = bytes.Clone(e.Payload)
		if last = e; got[e.Store] == nil {
			got[e.Store] = map[uint64]Quarantined{}
		}
		got[e.Store][e.Sequence] = e
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for store, p := range b.Stats().Stores {
		n := uint64(0)
		for sequence := range got[store] {
			if sequence > p.Start && sequence <= p.Position {
				n++
			}
		}
		if n != p.Quarantined {
			t.Errorf("store %q: %d entries are in quarantine, and %d are counted: %+v", store, n, p.Quarantined, p)
		}
	}
	checkConserved(t, b)
	return got
}

// append appends n entries.
func (b *Buffer) appendN(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if err := b.Append(fmt.Appendf(nil, "entry %d", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// refused is an entry as tests put it into quarantine.
func refused(store string, sequence uint64) Quarantined {
	return Quarantined{Store: store, Sequence: sequence, Reason: "no", Payload: fmt.Appendf(nil, "payload %d", sequence)}
}

// keepIn puts entries into quarantine and moves the store to the last of them.
func keepIn(t *testing.T, b *Buffer, store string, sequences ...uint64) {
	t.Helper()
	for _, n := range sequences {
		if err := b.Quarantine(refused(store, n)); err != nil {
			t.Fatal(err)
		}
	}
	to := sequences[len(sequences)-1]
	k := uint64(len(sequences))
	b.Advance(store, to, to-b.Position(store)-k, 0, k)
}

func TestWhatIsInQuarantineIsThereAfterAStart(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	b.Hold("a")
	b.Hold("b")
	b.appendN(t, 20)
	at := time.UnixMicro(time.Now().UnixMicro())
	want := map[string]map[uint64]Quarantined{"a": {}, "b": {}}
	for _, e := range []Quarantined{
		{Store: "b", Sequence: 3, At: at, Reason: "too odd", Payload: []byte(`{"n":3}`)},
		{Store: "a", Sequence: 3, At: at, Instance: "another", Reason: "too\nlong\x00\u202e " + strings.Repeat("ü", maxReason), Payload: []byte(`{"n":3}`)},
		{Store: "a", Sequence: 11, At: at, Payload: bytes.Repeat([]byte("x"), MaxPayload)},
		{Store: "a", Sequence: 4, At: at, Payload: []byte("{}")},
	} {
		if err := b.Quarantine(e); err != nil {
			t.Fatal(err)
		}
		if e.Instance == "" {
			e.Instance = b.Instance(1)
		}
		if e.Sequence == 3 && e.Store == "a" {
			e.Reason = "too long " + strings.Repeat("ü", (maxReason-9)/2)
		}
		want[e.Store][e.Sequence] = e
	}
	b.Advance("a", 20, 17, 0, 3)
	b.Advance("b", 20, 19, 0, 1)
	used := b.Stats()
	if used.QuarantineBytes < MaxPayload || used.Bytes <= used.QuarantineBytes {
		t.Errorf("quarantine has %d bytes of %d", used.QuarantineBytes, used.Bytes)
	}
	for _, end := range []func(){func() {}, func() { shut(t, b) }, func() { abandon(t, b) }} {
		if diff := cmp.Diff(want, inQuarantine(t, b), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatal(diff)
		}
		if err := b.Append([]byte("x")); err != nil { // what came before is on the disk
			t.Fatal(err)
		}
		end()
		b.ended(t)
		b = open(t, dir, Options{})
	}
	if diff := cmp.Diff(want, inQuarantine(t, b), cmp.Comparer(bytes.Equal)); diff != "" {
		t.Fatal(diff)
	}
	if n := len(entries(t, b, 1)); n < 20 {
		t.Errorf("%d entries", n)
	}
	info, err := os.Stat(filepath.Join(dir, quarantineName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	var some []uint64
	_ = b.Quarantined("a", 0, func(e Quarantined) bool {
		some = append(some, e.Sequence)
		return len(some) < 2
	})
	if !slices.Equal(some, []uint64{3, 4}) {
		t.Errorf("the first two of a store are %v", some)
	}
}

// ended ends what still has the directory.
func (b *Buffer) ended(t *testing.T) {
	t.Helper()
	_ = b.Close(t.Context())
	<-b.done
}

func TestWhatWasNeverCountedIsTriedAgain(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	o := Options{Gap: told.entry}
	b := open(t, dir, o)
	b.Hold("s")
	b.appendN(t, 20)
	keepIn(t, b, "s", 2, 5)
	b.appendN(t, 1)
	for _, n := range []uint64{6, 9} {
		if err := b.Quarantine(refused("s", n)); err != nil {
			t.Fatal(err)
		}
	}
	abandon(t, b)
	b = open(t, dir, o)
	if got := inQuarantine(t, b); len(got["s"]) != 2 || b.Position("s") != 5 {
		t.Errorf("%v at position %d", got, b.Position("s"))
	}
	// This time the store takes the one and not the other.
	if err := b.Quarantine(refused("s", 9)); err != nil {
		t.Fatal(err)
	}
	b.Advance("s", 10, 4, 0, 1)
	for range 2 {
		if got := inQuarantine(t, b); len(got["s"]) != 3 || got["s"][9].Payload == nil {
			t.Errorf("%v", got)
		}
		shut(t, b)
		b = open(t, dir, o)
	}
	if len(told.list) > 0 {
		t.Errorf("gaps %+v", told.list)
	}
}

func TestAnAttemptThatWasBrokenOffLeavesNothingInQuarantine(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	o := Options{Gap: told.entry}
	b := open(t, dir, o)
	b.Hold("s")
	b.appendN(t, 20)
	for _, n := range []uint64{3, 5, 7} { // then the loop ends, the process does not
		if err := b.Quarantine(refused("s", n)); err != nil {
			t.Fatal(err)
		}
	}
	again := refused("s", 5)
	again.Reason = "still no"
	if err := b.Quarantine(again); err != nil {
		t.Fatal(err)
	}
	b.Advance("s", 6, 5, 0, 1)
	b.Advance("s", 10, 4, 0, 0)
	check := func() {
		t.Helper()
		if got := inQuarantine(t, b)["s"]; len(got) != 1 || got[5].Reason != "still no" {
			t.Errorf("%v", got)
		}
	}
	check()
	b.appendN(t, 1)
	abandon(t, b)
	b = open(t, dir, o)
	check()
	if err := b.Quarantine(refused("s", 3)); err == nil {
		t.Error("an entry that was delivered is put into quarantine")
	}
	if err := b.Quarantine(refused("s", 5)); err != nil {
		t.Error("one that is there is not replaced:", err)
	}
	if err := b.Quarantine(refused("s", 1000)); err == nil {
		t.Error("an entry that does not exist is put into quarantine")
	}
	inQuarantine(t, b)
	if len(told.list) > 0 {
		t.Errorf("gaps %+v", told.list)
	}
}

func TestWhatIsResolvedIsCountedAndGoneAndADropIsInTheLog(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	o := Options{Gap: told.entry}
	b := open(t, dir, o)
	b.Hold("s")
	b.appendN(t, 20)
	keepIn(t, b, "s", 2, 5, 7, 8)
	if err := b.Quarantine(refused("s", 12)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{1, 12, 21} {
		if err := b.Resolve("s", n, ResolvedDropped, "x"); !errors.Is(err, ErrNotQuarantined) {
			t.Errorf("%d: %v", n, err)
		}
	}
	before := b.Stats()
	if err := b.Resolve("s", 5, ResolvedDelivered, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Resolve("s", 7, ResolvedDropped, "nobody\nwants it"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{5, 7} {
		if err := b.Resolve("s", n, ResolvedDelivered, ""); !errors.Is(err, ErrNotQuarantined) {
			t.Errorf("%d again: %v", n, err)
		}
	}
	abandon(t, b)
	b = open(t, dir, o)
	for range 2 {
		p, was := b.Stats().Stores["s"], before.Stores["s"]
		if p.Quarantined != 2 || p.Delivered != was.Delivered+1 || p.Skipped != 1 || p.Damaged != 0 {
			t.Errorf("%+v, was %+v", p, was)
		}
		if got := inQuarantine(t, b)["s"]; len(got) != 2 {
			t.Errorf("%v", got)
		}
		shut(t, b)
		b = open(t, dir, o)
	}
	want := []Gap{{Reason: GapDropped, Store: "s", First: 7, Last: 7, Count: 1, Cause: "nobody wants it"}}
	if diff := cmp.Diff(want, told.list); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(entries(t, b, 1), "gap dropped 1") {
		t.Error("nothing in the log says that an entry was dropped")
	}
}

func TestQuarantineHasItsShareAndGivesItBack(t *testing.T) {
	dir := newDir(t)
	o := Options{MaxSize: 64 << 20, MinFree: 1}
	b := open(t, dir, o)
	b.Hold("s")
	b.appendN(t, 200)
	payload := bytes.Repeat([]byte("x"), 300<<10)
	var n uint64
	for {
		n++
		err := b.Quarantine(Quarantined{Store: "s", Sequence: n, Payload: payload})
		if errors.Is(err, ErrQuarantineFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Advance("s", n, 0, 0, 1)
	}
	if n < 20 || n > 30 {
		t.Errorf("an eighth of 64 MiB takes %d entries of 300 KiB", n-1)
	}
	full := b.Stats()
	if full.QuarantineBytes < 6<<20 || full.QuarantineBytes > 8<<20+wasteBytes {
		t.Errorf("it has %d bytes", full.QuarantineBytes)
	}
	for i := uint64(1); i < n-1; i++ {
		if err := b.Resolve("s", i, ResolvedDelivered, ""); err != nil {
			t.Fatal(err)
		}
	}
	// How much is left depends on when the keeper comes by: what is of use twice, what bbolt
	// needs beside it, and the MiB from which on it is worth while.
	awaitTrue(t, "the room comes back", func() bool { return b.Stats().QuarantineBytes < 3<<20 })
	if err := b.Quarantine(Quarantined{Store: "s", Sequence: n, Payload: payload}); err != nil {
		t.Error(err)
	}
	b.Advance("s", n, 0, 0, 1)
	inQuarantine(t, b)
	shut(t, b)
	// The least that is good for anything.
	small := open(t, newDir(t), Options{MaxSize: 4 << 20, MinFree: 1})
	small.Hold("s")
	small.appendN(t, 3)
	big := make([]byte, MaxPayload)
	if err := small.Quarantine(Quarantined{Store: "s", Sequence: 1, Payload: big}); err != nil {
		t.Error("a small buffer keeps no large entry:", err)
	}
	if err := small.Quarantine(Quarantined{Store: "s", Sequence: 2, Payload: big}); !errors.Is(err, ErrQuarantineFull) {
		t.Error(err)
	}
}

func TestQuarantineCountsWhenCallsAreAdmitted(t *testing.T) {
	b := open(t, newDir(t), Options{MaxSize: 4 << 20, MinFree: 1})
	b.Hold("s")
	b.appendN(t, 1)
	used := b.Stats().Bytes
	if c, err := b.Admit(3<<20, Caller{Known: true}); err != nil {
		t.Fatal(err)
	} else {
		c.Release()
	}
	if err := b.Quarantine(Quarantined{Store: "s", Sequence: 1, Payload: make([]byte, MaxPayload)}); err != nil {
		t.Fatal(err)
	}
	if b.Stats().Bytes < used+MaxPayload {
		t.Errorf("%d bytes, and %d before", b.Stats().Bytes, used)
	}
	if _, err := b.Admit(3<<20, Caller{Known: true}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

func TestADiskThatHangsKeepsOnlyThoseWaitingWhoQuarantine(t *testing.T) {
	b := open(t, newDir(t), Options{})
	b.Hold("s")
	b.appendN(t, 10)
	keepIn(t, b, "s", 1)
	hangs, heal := make(chan struct{}), make(chan struct{})
	failAt(t, func(name string) error {
		if name == "quarantine" {
			close(hangs)
			<-heal
		}
		return nil
	})
	put := make(chan error)
	go func() { put <- b.Quarantine(refused("s", 5)) }()
	<-hangs
	within(t, "what goes on", func() {
		b.appendN(t, 1)
		admit(t, b).Release()
		b.Advance("s", 4, 3, 0, 0)
		b.Damaged("s", 5)
		b.Stats()
		if err := b.Resolve("s", 1, ResolvedDropped, "x"); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("the directory is given free while somebody writes in it:", err)
		}
	})
	close(heal)
	<-put
	<-b.done
	if err := b.Quarantine(refused("s", 6)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestAListingKeepsNobodyWaiting(t *testing.T) {
	b := open(t, newDir(t), Options{})
	b.Hold("s")
	b.appendN(t, 30)
	keepIn(t, b, "s", 1, 2, 3)
	n := 0
	err := b.Quarantined("", 0, func(Quarantined) bool {
		n++
		within(t, "a record while somebody lists", func() {
			if err := b.Quarantine(refused("s", uint64(10+n))); err != nil {
				t.Error(err)
			}
		})
		return true
	})
	if err != nil || n < 3 {
		t.Error(n, err)
	}
}

func TestAStoreThatIsNotConfiguredAnyMoreKeepsItsQuarantine(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	b.Hold("s")
	b.appendN(t, 10)
	keepIn(t, b, "s", 2, 4)
	b.Remove("s", time.Now().Add(time.Hour))
	shut(t, b)
	b = open(t, dir, Options{})
	if got := inQuarantine(t, b); len(got["s"]) != 2 {
		t.Errorf("%v", got)
	}
	// As when it is forgotten: no position is left.
	b.mu.Lock()
	delete(b.state.Stores, "s")
	b.dirty = true
	b.mu.Unlock()
	shut(t, b)
	b = open(t, dir, Options{})
	if got := inQuarantine(t, b); len(got["s"]) != 2 {
		t.Errorf("%v", got)
	}
	if err := b.Resolve("s", 2, ResolvedDropped, "x"); err != nil {
		t.Error(err)
	}
	b.Hold("s") // it begins anew at the oldest, and what it had refused is tried again
	b.Advance("s", 4, 4, 0, 0)
	if got := inQuarantine(t, b); len(got["s"]) != 0 {
		t.Errorf("%v", got)
	}
	shut(t, b)
	b = open(t, dir, Options{})
	inQuarantine(t, b)
}

func TestACopiedDirectoryKeepsItsQuarantine(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	b.Hold("s")
	b.appendN(t, 10)
	keepIn(t, b, "s", 2, 4)
	instance := b.Instance(1)
	shut(t, b)
	b = open(t, killed(t, dir), Options{})
	if got := inQuarantine(t, b)["s"]; len(got) != 2 || got[2].Instance != instance {
		t.Errorf("%v", got)
	}
}

func TestManyRecordsArePagedAndSortedAndResolved(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	b := open(t, dir, Options{})
	stores := []string{"a", "aa", "b", strings.Repeat("long ", 50)}
	b.appendN(t, 200)
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, s := range stores {
		b.Hold(s)
	}
	n := pageRecords + 100
	for range n / 40 {
		for _, s := range stores {
			from := b.Position(s)
			var k uint64
			for i := range uint64(15) {
				e := refused(s, from+1+i)
				e.Payload = bytes.Repeat([]byte("y"), rnd.IntN(3000))
				if err := b.Quarantine(e); err != nil {
					t.Fatal(err)
				}
				k++
			}
			if from+k > b.Stats().Head-20 {
				b.appendN(t, 40)
			}
			b.Advance(s, from+k, 0, 0, k)
		}
	}
	got := inQuarantine(t, b)
	for s, of := range got {
		for sequence := range of {
			if sequence%2 == 0 {
				if err := b.Resolve(s, sequence, Resolution(1+sequence/2%2), "x"); err != nil {
					t.Fatal(err)
				}
				delete(of, sequence)
			}
		}
	}
	if diff := cmp.Diff(got, inQuarantine(t, b), cmp.Comparer(bytes.Equal)); diff != "" {
		t.Error(diff)
	}
	shut(t, b)
	b = open(t, dir, Options{})
	if diff := cmp.Diff(got, inQuarantine(t, b), cmp.Comparer(bytes.Equal)); diff != "" {
		t.Error(diff)
	}
}

func FuzzNoBytesBringTheReaderOfARecordDown(f *testing.F) {
	r := record{sequence: 3, serial: 4, at: 5, meta: recordMeta{Store: "s", Reason: "no"}, payload: []byte("{}")}
	whole, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("AUDQ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseRecord(again); err != nil || !cmp.Equal(same.quarantined(), r.quarantined()) {
			t.Errorf("%+v, then %+v, %v", r, same, err)
		}
	})
}
