package sqlite

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestARepeatedBatchChangesNothing(t *testing.T) {
	s := newStore(t)
	batch := records(t, 1, 50)
	write(t, s, batch)
	before := documents(t, s, forwarder.Query{})
	write(t, s, batch)
	write(t, s, append(slices.Clone(batch), batch[:7]...)) // even within one
	if diff := cmp.Diff(before, documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-before +after):\n%s", diff)
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 50})
}

func TestAnEmptyBatchIsWritten(t *testing.T) {
	write(t, newStore(t), nil)
}

func TestTheHighestRevisionWinsInAnyOrder(t *testing.T) {
	const ids, revisions = 12, 5
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "audit.db")
		s := openStore(t, path)
		oracle := map[string]forwarder.Record{}
		received := map[int]bool{}
		var all []forwarder.Record
		for n := range ids {
			for revision := audit.RevisionPending; revision < revisions; revision++ {
				e := entry(n, revision)
				// A later revision may know what an earlier one did not.
				if revision < rng.IntN(revisions) {
					e.OrganizationSlug, e.ProjectRef = "", ""
				}
				all = append(all, record(t, e, len(all)+1))
			}
		}
		for range 25 {
			batch := make([]forwarder.Record, rng.IntN(9))
			for i := range batch {
				batch[i] = all[rng.IntN(len(all))]
			}
			switch rng.IntN(8) {
			case 0: // refused halfway: nothing of it may stay
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := s.Write(ctx, batch); len(batch) > 0 && !errors.Is(err, context.Canceled) {
					t.Fatalf("write with an ended context: %v", err)
				}
				continue
			case 1:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openStore(t, path)
			}
			write(t, s, batch)
			for _, r := range batch {
				received[int(r.Sequence)] = true
				if have, ok := oracle[r.Entry.ID]; !ok || r.Entry.Revision > have.Entry.Revision {
					oracle[r.Entry.ID] = r
				}
			}
			checkOracle(t, s, oracle, received)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// checkOracle compares documents, the columns that select them, and ranges.
func checkOracle(t *testing.T, s *Store, oracle map[string]forwarder.Record, received map[int]bool) {
	t.Helper()
	byTime := func(a, b forwarder.Record) int { return int(a.Entry.Timestamp - b.Entry.Timestamp) }
	var all []string
	organizations := map[string][]string{}
	var ordered []forwarder.Record
	for _, r := range oracle {
		ordered = append(ordered, r)
	}
	slices.SortFunc(ordered, byTime)
	for _, r := range ordered {
		all = append(all, string(r.JSON))
		if slug := r.Entry.OrganizationSlug; slug != "" {
			organizations[slug] = append(organizations[slug], string(r.JSON))
		}
	}
	if diff := cmp.Diff(all, documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for slug, want := range organizations {
		if diff := cmp.Diff(want, documents(t, s, forwarder.Query{Organization: slug})); diff != "" {
			t.Errorf("entries of %s (-want +got):\n%s", slug, diff)
		}
	}
	var stale int
	err := s.db.QueryRow(`SELECT count(*) FROM entry WHERE
		(id, revision, timestamp) IS NOT (document->>'id', document->>'revision', document->>'timestamp') OR
		(organization_slug, project_ref) IS NOT (document->>'organization_slug', document->>'project_ref') OR
		(instance, sequence) IS NOT (document->>'$.origin.instance', document->>'$.origin.sequence')`).Scan(&stale)
	if err != nil || stale != 0 {
		t.Errorf("%d rows whose columns differ from their document, %v", stale, err)
	}
	checkRanges(t, s, received)
}

func checkReceived(t *testing.T, s *Store, want ...forwarder.Range) {
	t.Helper()
	got, err := s.Received(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

// checkRanges compares Received and Missing with a set of sequences of
// testInstance.
func checkRanges(t *testing.T, s *Store, received map[int]bool) {
	t.Helper()
	highest := 0
	for n := range received {
		highest = max(highest, n)
	}
	var have, missing []forwarder.Range
	add := func(ranges []forwarder.Range, n int) []forwarder.Range {
		if i := len(ranges) - 1; i >= 0 && ranges[i].Last == uint64(n-1) {
			ranges[i].Last++
			return ranges
		}
		return append(ranges, forwarder.Range{Instance: testInstance, First: uint64(n), Last: uint64(n)})
	}
	for n := 1; n <= highest; n++ {
		if received[n] {
			have = add(have, n)
		} else {
			missing = add(missing, n)
		}
	}
	checkReceived(t, s, have...)
	got, err := s.Missing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(missing, got); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

func TestReceivedRangesMergeInAnyOrder(t *testing.T) {
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := newStore(t)
		received := map[int]bool{}
		for range 60 {
			first := 1 + rng.IntN(80)
			batch := records(t, first, first+rng.IntN(12))
			rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			batch = batch[:1+rng.IntN(len(batch))]
			write(t, s, batch)
			for _, r := range batch {
				received[int(r.Sequence)] = true
			}
			checkRanges(t, s, received)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func TestInstancesAreToldApart(t *testing.T) {
	s := newStore(t)
	var batch []forwarder.Record
	for i, instance := range []string{"b", "a", "b", "a'; DROP TABLE received; --"} {
		e := entry(i, 1)
		r := record(t, e, 1+2*i)
		e.Origin.Instance = instance
		batch = append(batch, r)
	}
	write(t, s, batch)
	got, err := s.Missing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []forwarder.Range{
		{Instance: "a", First: 1, Last: 2},
		{Instance: "a'; DROP TABLE received; --", First: 1, Last: 6},
		{Instance: "b", First: 2, Last: 4},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

func TestExtremeSequences(t *testing.T) {
	s := newStore(t)
	const highest = 1<<63 - 1
	for _, n := range []uint64{highest, highest - 1, highest} {
		r := record(t, entry(1, 1), 1)
		r.Sequence, r.Entry.Origin.Sequence = n, n
		write(t, s, []forwarder.Record{r})
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: highest - 1, Last: highest})
	for _, n := range []uint64{0, highest + 1} {
		r := record(t, entry(2, 1), 1)
		r.Sequence, r.Entry.Origin.Sequence = n, n
		if err := s.Write(t.Context(), []forwarder.Record{r}); err == nil || !strings.Contains(err.Error(), "no origin") {
			t.Errorf("sequence %d: %v", n, err)
		}
	}
}

func TestAContextThatEndsStoresNothing(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, records(t, 1, 5)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d entries, want none", n)
	}
	checkReceived(t, s)
	write(t, s, records(t, 1, 5)) // and the connection is still good
}

func TestALockedFileIsAnErrorThatPasses(t *testing.T) {
	s := newStore(t)
	other := openStore(t, s.path)
	tx, err := other.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	err = s.Write(t.Context(), records(t, 1, 5))
	if err == nil || !strings.Contains(err.Error(), "another program holds a lock") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	write(t, s, records(t, 1, 5))
}

func TestAFileThatWasRemovedIsNoticed(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 5))
	aside := s.path + ".aside"
	if err := os.Rename(s.path, aside); err != nil {
		t.Fatal(err)
	}
	err := s.Write(t.Context(), records(t, 6, 9))
	if err == nil || !strings.Contains(err.Error(), "removed or replaced") {
		t.Errorf("error %v", err)
	}
	if err := os.Rename(aside, s.path); err != nil {
		t.Fatal(err)
	}
	write(t, s, records(t, 6, 9))
	if diff := cmp.Diff(numbers(1, 9), sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestClosingDuringWritesKeepsWhatWasAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	s := openStore(t, path)
	acknowledged, begun := make(chan int, 1), make(chan struct{})
	go func() {
		last := 0
		for {
			if err := s.Write(context.Background(), records(t, last+1, last+20)); err != nil {
				if !strings.Contains(err.Error(), "it is closed") {
					t.Errorf("error %v", err)
				}
				acknowledged <- last
				return
			}
			if last += 20; last == 60 {
				close(begun)
			}
		}
	}()
	<-begun
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	last := <-acknowledged
	s = openStore(t, path)
	if diff := cmp.Diff(numbers(1, last), sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestHostileStringsComeBackUnchanged(t *testing.T) {
	var planes strings.Builder
	for plane := rune(0); plane <= 16; plane++ {
		for _, r := range []rune{0x00, 0x41, 0xFFFD, 0xFFFE, 0xFFFF} {
			planes.WriteRune(plane<<16 | r)
		}
	}
	hostile := []string{
		"a\x00b", "\x00", planes.String(), "'; DROP TABLE entry; --", `"`, `\`, "%_", "?1", ":x", "NULL", "0", "1e3",
		"\u2028\u202e\ufeff", "é", "e\u0301", strings.Repeat("x", 1<<20),
	}
	s := newStore(t)
	var batch []forwarder.Record
	for i, h := range hostile {
		e := entry(i, 1)
		e.ID, e.OrganizationSlug, e.ProjectRef, e.Actor.UserAgent = h, h, h, h
		batch = append(batch, record(t, e, i+1))
	}
	write(t, s, batch)
	write(t, s, batch)
	for i, h := range hostile {
		got := documents(t, s, forwarder.Query{Organization: h})
		if len(got) != 1 || got[0] != string(batch[i].JSON) {
			t.Errorf("%.40q: %d entries, or another document", h, len(got))
		}
	}
	if n := len(documents(t, s, forwarder.Query{})); n != len(hostile) {
		t.Errorf("%d entries, want %d", n, len(hostile))
	}
	var kinds string
	if err := s.db.QueryRow(`SELECT group_concat(DISTINCT typeof(document)||typeof(id)||typeof(organization_slug)) FROM entry`).Scan(&kinds); err != nil || kinds != "texttexttext" {
		t.Errorf("columns are %s, %v; want text", kinds, err)
	}
}

// A buffer appends a batch again if it does not know whether its commit held.
func TestARepeatUnderAnotherSequenceKeepsTheFirst(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 3))
	before := documents(t, s, forwarder.Query{})
	var again []forwarder.Record
	for n := 1; n <= 3; n++ {
		again = append(again, record(t, entry(n, audit.RevisionAnswer), n+3))
	}
	write(t, s, again)
	if diff := cmp.Diff(before, documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-before +after):\n%s", diff)
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 6})
}
