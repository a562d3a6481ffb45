//go:build unix

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func replaceSchema(sql, schema string) string { return strings.ReplaceAll(sql, "{schema}", schema) }

func TestARepeatedBatchChangesNothing(t *testing.T) {
	s := newStore(t)
	batch := records(t, 1, 50)
	write(t, s, batch)
	write(t, s, batch)
	write(t, s, append(slices.Clone(batch), batch[:7]...)) // even within one
	if diff := cmp.Diff(texts(batch), documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 50})
}

func TestAnEmptyBatchIsWritten(t *testing.T) {
	write(t, newStore(t), nil)
}

func TestTheHighestRevisionWinsInAnyOrder(t *testing.T) {
	const ids, revisions = 12, 5
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := configAt(sharedServer(t), newSchema())
		s := openStore(t, c)
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
		for range 20 {
			batch := make([]forwarder.Record, rng.IntN(9))
			for i := range batch {
				batch[i] = all[rng.IntN(len(all))]
			}
			switch rng.IntN(8) {
			case 0: // given up: nothing of it may stay
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
				s = openStore(t, c)
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
	var ordered []forwarder.Record
	for _, r := range oracle {
		ordered = append(ordered, r)
	}
	slices.SortFunc(ordered, func(a, b forwarder.Record) int { return int(a.Entry.Timestamp - b.Entry.Timestamp) })
	organizations := map[string][]string{}
	for _, r := range ordered {
		if slug := r.Entry.OrganizationSlug; slug != "" {
			organizations[slug] = append(organizations[slug], string(r.JSON))
		}
	}
	if diff := cmp.Diff(texts(ordered), documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for slug, want := range organizations {
		if diff := cmp.Diff(want, documents(t, s, forwarder.Query{Organization: slug})); diff != "" {
			t.Errorf("entries of %s (-want +got):\n%s", slug, diff)
		}
	}
	stale := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM {schema}.entry WHERE
		(id, revision::text, timestamp::text) IS DISTINCT FROM (document->>'id', document->>'revision', document->>'timestamp') OR
		(organization_slug, project_ref) IS DISTINCT FROM (document->>'organization_slug', document->>'project_ref') OR
		(instance, sequence::text) IS DISTINCT FROM (document->'origin'->>'instance', document->'origin'->>'sequence')`)
	if stale != 0 {
		t.Errorf("%d rows whose columns differ from their document", stale)
	}
	var have []forwarder.Range
	for _, n := range sortedKeys(received) {
		if i := len(have) - 1; i >= 0 && have[i].Last == uint64(n-1) {
			have[i].Last++
			continue
		}
		have = append(have, forwarder.Range{Instance: testInstance, First: uint64(n), Last: uint64(n)})
	}
	checkReceived(t, s, have...)
	missing, err := s.Missing(t.Context())
	if diff := cmp.Diff(forwarder.Holes(have), missing); diff != "" || err != nil {
		t.Errorf("missing, %v (-want +got):\n%s", err, diff)
	}
	highest, err := s.Highest(t.Context(), testInstance)
	if err != nil || len(have) > 0 && highest != have[len(have)-1].Last {
		t.Errorf("highest is %d, %v", highest, err)
	}
}

func sortedKeys(m map[int]bool) (keys []int) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func checkReceived(t testing.TB, s forwarder.Checker, want ...forwarder.Range) {
	t.Helper()
	got, err := s.Received(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

func TestAnEntryKeepsItsRowInAnotherClass(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 5))
	// As retention will: a class with partitions of its own.
	run(t, s.conn, s.at.schema, `CREATE TABLE {schema}.entry_short PARTITION OF {schema}.entry FOR VALUES IN ('short') PARTITION BY RANGE (timestamp);
		CREATE TABLE {schema}.entry_short_other PARTITION OF {schema}.entry_short DEFAULT;
		UPDATE {schema}.entry SET class = 'short' WHERE sequence IN (2, 3)`)
	three := record(t, entry(3, 2), 6)
	write(t, s, records(t, 1, 5))
	write(t, s, []forwarder.Record{three})
	want := texts(append(records(t, 1, 2), three))
	want = append(want, texts(records(t, 4, 5))...)
	if diff := cmp.Diff(want, documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if n := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM {schema}.entry WHERE class = 'short'`); n != 2 {
		t.Errorf("%d entries are in the other class, want 2", n)
	}
}

func TestWhatIsNotCapturedSurvivesARevision(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 2))
	run(t, s.conn, s.at.schema, `ALTER TABLE {schema}.entry ADD hold text, ADD retention json;
		UPDATE {schema}.entry SET hold = 'case 7', retention = '{"class":"default"}' WHERE sequence = 1`)
	write(t, s, records(t, 1, 2))
	write(t, s, []forwarder.Record{record(t, entry(1, 2), 3)})
	got := value[string](t, s.conn, s.at.schema, `SELECT concat_ws(' ', revision, hold, retention) FROM {schema}.entry WHERE sequence = 3`)
	if want := `2 case 7 {"class":"default"}`; got != want {
		t.Errorf("the row is %s, want %s", got, want)
	}
}

func TestWhatWasPrunedDoesNotComeBack(t *testing.T) {
	s := newStore(t)
	write(t, s, records(t, 1, 20))
	pruneBefore(t, s, 11)
	write(t, s, records(t, 1, 20))
	if diff := cmp.Diff(numbers(11, 20), sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	// Nor in a later revision; and what comes so late for the first time has expired.
	other := entry(6, 1)
	other.ID = "another"
	write(t, s, []forwarder.Record{record(t, entry(5, 2), 21), recordOf(t, "another", other, 6)})
	if diff := cmp.Diff(numbers(11, 20), sequences(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 21}, forwarder.Range{Instance: "another", First: 6, Last: 6})
}

// pruneBefore does what retention will: rows go and a receipt stays.
func pruneBefore(t *testing.T, s *Store, n int) {
	t.Helper()
	run(t, s.conn, s.at.schema, fmt.Sprintf(`DELETE FROM {schema}.entry WHERE timestamp < %d;
		INSERT INTO {schema}.pruned VALUES ('default', 0, %d)`, entry(n, 1).Timestamp, entry(n, 1).Timestamp-1))
}

func TestInstancesDoNotDisturbEachOther(t *testing.T) {
	c := configAt(sharedServer(t), newSchema())
	const instances, batches, size = 4, 12, 40
	done := make(chan error, instances)
	for i := range instances {
		go func() {
			// Each opens it, so that the migrations race too.
			s, err := Open(context.Background(), c, nil)
			if err != nil {
				done <- err
				return
			}
			instance := fmt.Sprintf("instance-%d", i)
			for b := range batches {
				var batch []forwarder.Record
				for n := range size {
					number := b*size + n + 1
					batch = append(batch, recordOf(t, instance, entry(i*100_000+number, 1), number))
				}
				err = errors.Join(err, s.Write(context.Background(), batch))
			}
			done <- errors.Join(err, s.Close())
		}()
	}
	for range instances {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	s := openStore(t, c)
	var want []forwarder.Range
	for i := range instances {
		want = append(want, forwarder.Range{Instance: fmt.Sprintf("instance-%d", i), First: 1, Last: batches * size})
	}
	checkReceived(t, s, want...)
	if got := len(documents(t, s, forwarder.Query{})); got != instances*batches*size {
		t.Errorf("%d entries, want %d", got, instances*batches*size)
	}
	if n := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM {schema}.schema_version`); n != schemaVersion {
		t.Errorf("the schema was made %d times", n)
	}
}

// Two that were started with copies of one buffer write the same entries at once.
func TestTheSameEntriesFromTwoWritersAreStoredOnce(t *testing.T) {
	c := configAt(sharedServer(t), newSchema())
	const writers, last = 3, 300
	for _, instance := range []string{testInstance, ""} { // one instance, or one each
		done := make(chan error, writers)
		for i := range writers {
			s := openStore(t, c)
			from := instance
			if from == "" {
				from = fmt.Sprintf("copy-%d", i)
			}
			go func() {
				var err error
				for first := 1; first < last; first += 50 {
					var batch []forwarder.Record
					for n := first; n < first+50; n++ {
						batch = append(batch, recordOf(t, from, entry(n, 1), n))
					}
					for {
						if err = s.Write(context.Background(), batch); err == nil || refused(err) {
							break
						}
					}
				}
				done <- err
			}()
		}
		for range writers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	s := openStore(t, c)
	if got := len(documents(t, s, forwarder.Query{})); got != last {
		t.Errorf("%d entries, want %d", got, last)
	}
}
