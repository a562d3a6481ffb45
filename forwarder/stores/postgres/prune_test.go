//go:build unix

package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
)

// days writes entries first..last, which arrived on a day, of a class.
func days(t testing.TB, s *Store, first, last, day int, stamp *audit.Stamp) {
	t.Helper()
	var batch []forwarder.Record
	for n := first; n <= last; n++ {
		batch = append(batch, stampedRecord(t, n, day, stamp))
	}
	write(t, s, batch)
}

func TestWhatHasExpiredLeavesAReceiptAndIsNotLost(t *testing.T) {
	s := newStore(t)
	clockAt(s, 10)
	term := terms{"default": 30, "unattributed": 3}
	days(t, s, 1, 20, 10, term.tag("default", at(10)))
	days(t, s, 21, 30, 10, term.tag("unattributed", at(10)))
	e := entry(5, 2)
	e.Timestamp = at(10) + 5
	higher := record(t, e, 31)
	higher.Stamp = term.tag("default", at(10))
	write(t, s, []forwarder.Record{higher}) // 5 is replaced, 31 is there

	p := pruneAll(t, s, term.expiry(14))
	if len(p.Deleted) != 0 {
		t.Fatalf("deleted %+v before it has expired", p.Deleted)
	}
	p = pruneAll(t, s, term.expiry(16))
	if len(p.Deleted) != 1 || p.Deleted[0].Class != "unattributed" || p.Deleted[0].Entries != 10 || p.Deleted[0].Bytes < 5000 {
		t.Errorf("deleted %+v, want 10 of unattributed", p.Deleted)
	}
	want := []forwarder.Receipt{{
		Class: "unattributed", Rule: "3d", Instance: testInstance, First: 21, Last: 30, FirstArrival: at(10) + 21, LastArrival: at(10) + 30,
		KeptUntil: term.until("unattributed", at(10)), Entries: 10, From: at(16), To: at(16),
	}}
	if diff := cmp.Diff(want, receiptsOf(t, s)); diff != "" {
		t.Errorf("receipts (-want +got):\n%s", diff)
	}
	checkLost(t, s)

	// A row that somebody deletes shows, and nothing else.
	run(t, s.conn, s.at.schema, `DELETE FROM {schema}.entry WHERE sequence IN (7, 8, 20)`)
	lost := []forwarder.Range{{Instance: testInstance, First: 7, Last: 8}, {Instance: testInstance, First: 20, Last: 20}}
	checkLost(t, s, lost...)
	pruneAll(t, s, term.expiry(100))
	checkLost(t, s, lost...)
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	// A repeat changes nothing of that, and counts nothing twice.
	before := receiptsOf(t, s)
	clockAt(s, 100)
	days(t, s, 1, 30, 10, term.tag("default", at(10)))
	checkLost(t, s, lost...)
	if diff := cmp.Diff(before, receiptsOf(t, s)); diff != "" {
		t.Errorf("receipts (-before +after a repeat):\n%s", diff)
	}
	// What comes so late for the first time has a receipt at once.
	days(t, s, 40, 42, 10, term.tag("default", at(10)))
	checkLost(t, s, lost...)
	var late int64
	for _, r := range receiptsOf(t, s) {
		late += r.Late
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 0 || late != 3 {
		t.Errorf("%d entries and %d late ones in receipts, want 0 and 3", n, late)
	}
}

// Who may write and nothing else cannot bring back what has expired by arrays of which the
// first element is not number 1.
func TestWhatHasExpiredIsNotTakenWhateverBoundsTheArraysHave(t *testing.T) {
	s := newStore(t)
	clockAt(s, 100)
	stamp := terms{"default": 30}.tag("default", at(10))
	batch := []forwarder.Record{stampedRecord(t, 1, 10, stamp), stampedRecord(t, 2, 10, stamp)}
	var values [][]byte
	var oids []uint32
	for _, arg := range allArguments(batch, s.now().UnixMicro()) {
		p, err := parameterOf(arg)
		if err != nil {
			t.Fatal(err)
		}
		if slice := reflect.ValueOf(arg); slice.Kind() == reflect.Slice && slice.Len() == len(batch) {
			binary.BigEndian.PutUint32(p.value[16:], 5) // the lower bound
		}
		values, oids = append(values, p.value), append(oids, p.oid)
	}
	formats := slices.Repeat([]int16{pgtype.BinaryFormatCode}, len(values))
	if err := s.conn.PgConn().ExecParams(t.Context(), writeSQL(s.at.schema), values, oids, formats, nil).Read().Err; err != nil {
		t.Fatal(err)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d entries that have expired are stored", n)
	}
}

func TestAWholePartitionIsDroppedAndCounted(t *testing.T) {
	for _, class := range []string{"default", "a_2025-10"} {
		s := newStore(t)
		clockAt(s, 0)
		term := terms{class: 20}
		stamp := term.tag(class, at(0))
		days(t, s, 1, 50, 0, stamp)
		var other []forwarder.Record
		for n := 51; n <= 60; n++ {
			e := entry(n, 1)
			e.Timestamp = at(3)
			r := recordOf(t, "another", e, n)
			r.Stamp = term.tag(class, at(3))
			other = append(other, r)
		}
		write(t, s, other)
		parts := func() int {
			return value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM pg_class c WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' AND c.relname LIKE '%2025_10'`)
		}
		if parts() == 0 {
			t.Fatalf("class %s has no partition for October", class)
		}
		// 30 October: all of it, but for the month to come.
		if p := pruneAll(t, s, term.expiry(15)); len(p.Deleted) != 0 {
			t.Fatalf("deleted %+v too early", p.Deleted)
		}
		p := pruneAll(t, s, term.expiry(80))
		if len(p.Deleted) != 1 || p.Deleted[0].Entries != 60 {
			t.Errorf("class %s: deleted %+v, want 60", class, p.Deleted)
		}
		if n := parts(); n != 0 {
			t.Errorf("class %s: %d partitions of October are left", class, n)
		}
		if n := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM pg_class c WHERE c.relnamespace = '{schema}'::regnamespace AND c.relname LIKE 'dropping:%'`); n != 0 {
			t.Errorf("class %s: %d detached partitions are left", class, n)
		}
		checkLost(t, s)
		checkTotals(t, s)
		receipts := receiptsOf(t, s)
		if len(receipts) != 2 || receipts[0].Entries+receipts[1].Entries != 60 || receipts[0].Rule != "20d" {
			t.Errorf("class %s: receipts %+v", class, receipts)
		}
		// By a clock that lags it does not come back, and with a longer retention it does.
		clockAt(s, 5)
		days(t, s, 1, 50, 0, stamp)
		if n := len(documents(t, s, forwarder.Query{})); n != 0 {
			t.Errorf("class %s: %d entries came back", class, n)
		}
		days(t, s, 1, 1, 0, terms{class: 200}.tag(class, at(0)))
		if n := len(documents(t, s, forwarder.Query{})); n != 1 {
			t.Errorf("class %s: %d entries, want the one that is kept longer", class, n)
		}
		checkTotals(t, s)
	}
}

func TestAPartitionOfWhichOneIsKeptIsNotDropped(t *testing.T) {
	term := terms{"default": 20}
	for name, keep := range map[string]func(t *testing.T, s *Store){
		"pending": func(t *testing.T, s *Store) {
			run(t, s.conn, s.at.schema, `UPDATE {schema}.entry SET pending = true WHERE sequence = 7`)
		},
		"without stamp": func(t *testing.T, s *Store) {
			run(t, s.conn, s.at.schema, `UPDATE {schema}.entry SET keep_until = NULL WHERE sequence = 7`)
		},
		"for ever": func(t *testing.T, s *Store) {
			run(t, s.conn, s.at.schema, `UPDATE {schema}.entry SET keep_until = 9223372036854775807 WHERE sequence = 7`)
		},
		"held": func(t *testing.T, s *Store) {
			if err := s.SetHold(t.Context(), forwarder.Hold{ID: "1", Actor: entry(7, 1).Actor.UserID}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			clockAt(s, 0)
			days(t, s, 1, 20, 0, term.tag("default", at(0)))
			keep(t, s)
			pruneAll(t, s, term.expiry(80))
			if diff := cmp.Diff([]int{7}, sequences(t, s, forwarder.Query{})); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			checkLost(t, s)
		})
	}
}

func TestOverlappingHoldsKeepUntilTheLastIsReleased(t *testing.T) {
	s := newStore(t)
	clockAt(s, 0)
	term := terms{"default": 5}
	days(t, s, 1, 20, 0, term.tag("default", at(0)))
	holds := []forwarder.Hold{
		{ID: "a", Organization: "org-3", Reason: "one", Since: time.UnixMicro(at(1)).UTC()},
		{ID: "b", Actor: entry(3, 1).Actor.UserID, Reason: "two", Since: time.UnixMicro(at(2)).UTC()},
	}
	for _, h := range []forwarder.Hold{holds[1], holds[0]} {
		if err := s.SetHold(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Holds(t.Context())
	if diff := cmp.Diff(holds, got); diff != "" || err != nil {
		t.Errorf("holds (-want +got), %v:\n%s", err, diff)
	}
	left := func(want ...int) {
		t.Helper()
		p := pruneAll(t, s, term.expiry(20))
		if diff := cmp.Diff(want, sequences(t, s, forwarder.Query{})); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		for _, doc := range documents(t, s, forwarder.Query{}) {
			if !strings.HasSuffix(doc, `"hold":true}}`) {
				t.Errorf("an entry does not say that it is held: %s", doc)
			}
		}
		_ = p
	}
	left(3, 13)
	p, err := s.Prune(t.Context(), term.expiry(20))
	if err != nil || p.Held != 0 || p.More {
		t.Errorf("what is held is met again: %+v, %v", p, err)
	}
	expiring, err := s.Expiring(t.Context(), time.UnixMicro(at(20)))
	if err != nil || len(expiring) != 1 || expiring[0].Held != 2 {
		t.Errorf("expiring: %+v, %v", expiring, err)
	}
	if err := s.ReleaseHold(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	left(3)
	if err := s.SetHold(t.Context(), forwarder.Hold{ID: "b", Organization: "nobody"}); err != nil { // replaced
		t.Fatal(err)
	}
	left()
	if err := s.ReleaseHold(t.Context(), "not there"); err != nil {
		t.Error(err)
	}
	checkLost(t, s)
}

func TestAHoldThatIsSetWhilePruningKeepsAtOnce(t *testing.T) {
	s := newStore(t)
	clockAt(s, 0)
	term := terms{"default": 5, "security": 5}
	const total = 3000
	for n := 0; n < total; n += 1000 {
		days(t, s, n+1, n+1000, 0, term.tag("default", at(0)))
	}
	var all sync.WaitGroup
	pruning, stop := context.WithCancel(t.Context())
	defer stop()
	all.Go(func() {
		for more := true; more && pruning.Err() == nil; {
			p, err := s.Prune(t.Context(), forwarder.Expiry{Now: time.UnixMicro(at(20)), Until: term.until, Step: time.Millisecond})
			if err != nil {
				t.Error(err)
			}
			more = p.More
		}
	})
	time.Sleep(50 * time.Millisecond)
	err := s.SetHold(t.Context(), forwarder.Hold{ID: "1", Organization: "org-3"})
	held := sequences(t, s, forwarder.Query{Organization: "org-3"})
	if err != nil {
		t.Error(err)
	}
	all.Wait()
	if diff := cmp.Diff(held, sequences(t, s, forwarder.Query{Organization: "org-3"})); diff != "" {
		t.Errorf("what was there when the hold was set (-then +at the end):\n%s", diff)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != len(held) {
		t.Errorf("%d entries are left, want %d", n, len(held))
	}
	checkLost(t, s)
}

func TestTwoSidecarsPruneInTurns(t *testing.T) {
	server, schema := sharedServer(t), newSchema()
	a, b := openStore(t, configAt(server, schema)), openStore(t, configAt(server, schema))
	clockAt(a, 0)
	term := terms{"default": 5, "unattributed": 1}
	const total = 2000
	days(t, a, 1, total, 0, term.tag("default", at(0)))
	days(t, a, total+1, total+100, 29, term.tag("unattributed", at(29))) // the month goes on

	// While another one is in a step, there is nothing to do.
	other := superuser(t, server)
	run(t, other, schema, `BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('caddy_audit ' || '{schema}' || ' prune', 0))`)
	if p, err := a.Prune(t.Context(), term.expiry(20)); err != nil || p.More || len(p.Deleted) != 0 {
		t.Errorf("pruning beside another sidecar: %+v, %v", p, err)
	}
	run(t, other, schema, `ROLLBACK`)

	var all sync.WaitGroup
	var mu sync.Mutex
	var deleted int64
	for _, s := range []*Store{a, b} {
		all.Go(func() {
			for range 200 {
				p, err := s.Prune(t.Context(), term.expiry(20))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, c := range p.Deleted {
					deleted += c.Entries
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if deleted != total {
		t.Errorf("the two have deleted %d, want %d", deleted, total)
	}
	var noted int64
	for _, r := range receiptsOf(t, a) {
		noted += r.Entries
	}
	if noted != total {
		t.Errorf("receipts are of %d entries, want %d", noted, total)
	}
	checkLost(t, a)
	checkTotals(t, a)
}

// TestAPruningThatIsKilledHasDoneAllOrNothing cuts the connection and kills the server in
// the middle of steps.
func TestAPruningThatIsKilledHasDoneAllOrNothing(t *testing.T) {
	server := pgtest.Run(t, nil)
	schema := newSchema()
	s := openStore(t, configAt(server, schema))
	clockAt(s, 0)
	term := terms{"default": 5, "security": 10}
	const total = 4000
	for n := 0; n < total; n += 1000 {
		days(t, s, n+1, n+1000, 0, term.tag("default", at(0)))
		clockAt(s, 0)
	}
	days(t, s, total+1, total+1000, 2, term.tag("security", at(2)))
	check := func() {
		t.Helper()
		checkLost(t, s)
		checkTotals(t, s)
		var noted int64
		for _, r := range receiptsOf(t, s) {
			noted += r.Entries
		}
		if left := int64(len(documents(t, s, forwarder.Query{}))); noted+left != total+1000 {
			t.Errorf("%d entries and receipts of %d, want %d in all", left, noted, total+1000)
		}
	}
	// A step stops between its deletion and its end, for longer than it takes to get at it.
	run(t, superuser(t, server), schema, `CREATE FUNCTION {schema}.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN new; END $$`)
	const stopped = `SELECT coalesce(bool_or(wait_event = 'PgSleep'), false) FROM pg_stat_activity`
	interrupt := func(expiry forwarder.Expiry, how func(*pgx.Conn)) {
		t.Helper()
		conn := superuser(t, server)
		run(t, conn, schema, `CREATE TRIGGER stop BEFORE INSERT ON {schema}.receipt FOR EACH ROW EXECUTE FUNCTION {schema}.stop()`)
		done := make(chan error, 1)
		go func() {
			for {
				// Autovacuum may be in its way, and then there is more to do.
				p, err := s.Prune(context.Background(), expiry)
				if err != nil || len(p.Deleted) > 0 || !p.More {
					done <- err
					return
				}
			}
		}()
		for !value[bool](t, conn, schema, stopped) {
			select {
			case err := <-done:
				t.Fatalf("no step was under way: %v", err)
			case <-time.After(5 * time.Millisecond):
			}
		}
		how(conn)
		if err := <-done; err == nil {
			t.Error("a step that was interrupted has not failed")
		}
		run(t, superuser(t, server), schema, `DROP TRIGGER stop ON {schema}.receipt`)
		check()
	}
	cut := func(conn *pgx.Conn) {
		run(t, conn, schema, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
	}
	kill := func(*pgx.Conn) {
		if err := errors.Join(server.Kill(), server.Up()); err != nil {
			t.Fatal(err)
		}
	}
	expiry := term.expiry(18)
	interrupt(expiry, cut)
	interrupt(expiry, kill)
	if p, err := s.Prune(t.Context(), expiry); err != nil || len(p.Deleted) == 0 {
		t.Errorf("a step after it was killed: %+v, %v", p, err)
	}
	check()
	// A partition that is being counted.
	interrupt(term.expiry(80), kill)
	if n := len(documents(t, s, forwarder.Query{})); n == 0 {
		t.Error("one partition was detached, and nothing is left")
	}
	pruneAll(t, s, term.expiry(80))
	check()
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// pruneDetached detaches one partition and stops there.
func pruneDetached(t *testing.T, s *Store, p *step) {
	t.Helper()
	err := s.keeper(t.Context(), func(conn *pgx.Conn) (err error) {
		p.conn = conn
		if _, _, err = p.begin(t.Context()); err != nil {
			return err
		}
		s.keeping.pass, err = p.begun(t.Context())
		if err != nil {
			return err
		}
		name, tried, err := p.detach(t.Context())
		if err == nil && (!tried || name == "") {
			err = errors.New("nothing was detached")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAClockThatIsWrongByADayDeletesNothingEarly(t *testing.T) {
	term := terms{"default": 10}
	for _, off := range []int{-1, 0, 1} {
		s := newStore(t)
		// The entry arrives by a clock that is off, and nine days later another one, which
		// is a day ahead, says what has expired.
		clockAt(s, off)
		r := stampedRecord(t, 1, off, term.tag("default", at(off)))
		write(t, s, []forwarder.Record{r})
		pruneAll(t, s, term.expiry(9+1))
		if len(documents(t, s, forwarder.Query{})) != 1 {
			t.Errorf("off by %d days: the entry is gone early", off)
		}
		pruneAll(t, s, term.expiry(14))
		if len(documents(t, s, forwarder.Query{})) != 0 {
			t.Errorf("off by %d days: the entry is still there", off)
		}
	}
	// The server's clock is asked too: one of the sidecar's that is years ahead deletes
	// nothing and refuses nothing.
	s := newStore(t)
	year := time.Now().AddDate(1, 0, 0)
	s.now = func() time.Time { return year }
	e := entry(1, 1)
	e.Timestamp = time.Now().UnixMicro()
	r := record(t, e, 1)
	r.Stamp = term.tag("default", e.Timestamp)
	write(t, s, []forwarder.Record{r})
	pruneAll(t, s, forwarder.Expiry{Now: year, Until: term.until})
	if len(documents(t, s, forwarder.Query{})) != 1 {
		t.Error("a clock that is a year ahead has deleted an entry")
	}
}

func TestATermThatIsRaisedExtendsWhatIsThere(t *testing.T) {
	s := newStore(t)
	clockAt(s, 0)
	term := terms{"default": 5}
	days(t, s, 1, 3, 0, term.tag("default", at(0)))
	term["default"] = 50
	if p := pruneAll(t, s, term.expiry(20)); p.Extended != 3 || len(p.Deleted) != 0 {
		t.Errorf("after the term was raised: %+v", p)
	}
	want := fmt.Sprintf(`,"retention":{"class":"default","keep_until":%d}}`, term.until("default", at(0)))
	for _, doc := range documents(t, s, forwarder.Query{}) {
		if !strings.HasSuffix(doc, want) {
			t.Errorf("an entry ends in %s, want %s", doc[len(doc)-len(want):], want)
		}
	}
	delete(term, "default") // the class is not there any more: its own retention counts
	if p := pruneAll(t, s, term.expiry(49)); len(p.Deleted) != 0 {
		t.Errorf("deleted early: %+v", p)
	}
	if p := pruneAll(t, s, term.expiry(60)); len(p.Deleted) != 1 {
		t.Errorf("not deleted: %+v", p)
	}
}

func TestPendingAndUntaggedEntriesAreStampedAnew(t *testing.T) {
	s := newStore(t)
	clockAt(s, 0)
	term := terms{"default": 30, "unattributed": 3}
	untagged := stampedRecord(t, 1, 0, nil)
	pending := stampedRecord(t, 2, 0, term.tag("unattributed", at(0)))
	pending.Stamp.Pending = true
	write(t, s, []forwarder.Record{untagged, pending, stampedRecord(t, 3, 0, term.tag("default", at(0)))})
	pruneAll(t, s, term.expiry(300)) // deletes the third alone
	var restamps []forwarder.Restamp
	for r, err := range s.Pending(t.Context(), true) {
		if err != nil {
			t.Fatal(err)
		}
		if (r.Sequence == 1) != (r.Stamp == nil) || (r.Sequence == 2) != (r.Stamp != nil && r.Stamp.Pending) {
			t.Errorf("pending %d has the stamp %+v", r.Sequence, r.Stamp)
		}
		restamps = append(restamps, forwarder.Restamp{ID: r.Entry.ID, Timestamp: r.Entry.Timestamp, Stamp: *term.tag("default", at(0))})
	}
	if len(restamps) != 2 {
		t.Fatalf("%d are pending, want 2", len(restamps))
	}
	if diff := cmp.Diff(map[string]int64{"": 1, "unattributed": 1}, entriesOf(t, s)); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	if err := s.Restamp(t.Context(), restamps); err != nil {
		t.Fatal(err)
	}
	for r, err := range s.Pending(t.Context(), true) {
		t.Errorf("%d is still pending, %v", r.Sequence, err)
	}
	if diff := cmp.Diff(map[string]int64{"default": 2}, entriesOf(t, s)); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	checkTotals(t, s)
	pruneAll(t, s, term.expiry(300))
	checkLost(t, s)
	if n := len(documents(t, s, forwarder.Query{})); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// A schema of version 1 with rows is brought to this version, and a sidecar of version 1
// goes on writing into it.
func TestAFilledSchemaOfVersion1IsMigrated(t *testing.T) {
	server, schema := sharedServer(t), newSchema()
	conn := superuser(t, server)
	sql, err := migration(1, schema)
	if err != nil {
		t.Fatal(err)
	}
	run(t, conn, schema, `CREATE SCHEMA {schema}; `+sql)
	old := func(batch []forwarder.Record) {
		t.Helper()
		args := allArguments(batch, 0)
		_, err := conn.Exec(t.Context(), replaceSchema(`SELECT {schema}.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, schema),
			append(args[:10:10], args[20:23]...)...)
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, conn, schema, `SELECT {schema}.prepare('{2025-10-01}')`)
	first := records(t, 1, 40)
	old(first)
	second := record(t, entry(5, 2), 41)
	old([]forwarder.Record{second})
	run(t, conn, schema, `INSERT INTO {schema}.pruned (class, first, last) VALUES ('default', 5, 10)`)

	// Roles as the manual of version 1 made them.
	role := "old_writer_of_" + schema
	run(t, conn, schema, `CREATE ROLE `+role+` LOGIN PASSWORD 'of the test'; GRANT USAGE ON SCHEMA {schema} TO `+role+`;
		GRANT SELECT ON {schema}.schema_version, {schema}.received, {schema}.entry TO `+role+`;
		GRANT EXECUTE ON FUNCTION {schema}.write, {schema}.prepare TO `+role)

	s := openStore(t, configAt(server, schema))
	writer := openStore(t, Config{
		DSN: literally(server.DSN(map[string]string{"user": role, "password": "of the test"})), Schema: schema, NoMigrate: true,
	})
	write(t, writer, first[:3])
	if n := entriesOf(t, writer)[""]; n != 40 {
		t.Errorf("a role of version 1 counts %d entries, want 40", n)
	}
	checkLost(t, s) // 5 was replaced
	want := texts(first)
	want[4] = string(second.JSON)
	if diff := cmp.Diff(want, documents(t, s, forwarder.Query{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"": 40}, entriesOf(t, s)); diff != "" {
		t.Errorf("classes (-want +got):\n%s", diff)
	}
	pruneAll(t, s, terms{"default": 1}.expiry(300)) // has no stamp, so nothing expires
	old(records(t, 42, 50))
	old(first)
	twice := []forwarder.Record{record(t, entry(60, 1), 51), record(t, entry(60, 2), 52)}
	old(twice)
	if n := len(documents(t, s, forwarder.Query{})); n != 50 {
		t.Errorf("%d entries, want 50", n)
	}
	checkLost(t, s)
	checkTotals(t, s)
	run(t, conn, schema, `DELETE FROM {schema}.entry WHERE sequence = 44`)
	checkLost(t, s, forwarder.Range{Instance: testInstance, First: 44, Last: 44})
	if again := openStore(t, configAt(server, schema)); len(documents(t, again, forwarder.Query{})) != 49 {
		t.Error("opening it again has changed it")
	}
}

// A step that takes for ever keeps neither a Write nor a Read waiting, also of the same
// class and buffer.
func TestWritingAndReadingGoOnDuringAStep(t *testing.T) {
	server, schema := sharedServer(t), newSchema()
	s := openStore(t, configAt(server, schema))
	clockAt(s, 0)
	term := terms{"default": 5}
	days(t, s, 1, 100, 0, term.tag("default", at(0)))
	other := superuser(t, server)
	run(t, other, schema, `CREATE FUNCTION {schema}.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM set_config('lock_timeout', '0', true); PERFORM pg_advisory_xact_lock(4711); RETURN new; END $$;
		CREATE TRIGGER stop BEFORE INSERT ON {schema}.receipt FOR EACH ROW WHEN (new.side = 1) EXECUTE FUNCTION {schema}.stop();
		SELECT pg_advisory_lock(4711)`)
	done := make(chan error, 1)
	go func() {
		p, err := s.Prune(context.Background(), term.expiry(18))
		if err == nil && len(p.Deleted) != 1 {
			err = fmt.Errorf("pruned %+v", p)
		}
		done <- err
	}()
	for !value[bool](t, other, schema, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' AND query LIKE '%{schema}.receipt%')`) {
		time.Sleep(5 * time.Millisecond)
	}
	days(t, s, 101, 200, 18, term.tag("default", at(18)))
	e := entry(150, 2)
	e.Timestamp = at(18) + 150
	higher := record(t, e, 201)
	higher.Stamp = terms{"security": 0}.tag("security", at(18))
	write(t, s, []forwarder.Record{higher})
	if err := s.Restamp(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 200 {
		t.Errorf("%d entries before the step has ended, want 200", n)
	}
	select {
	case err := <-done:
		t.Errorf("the step has ended: %v", err)
	default:
	}
	run(t, other, schema, `SELECT pg_advisory_unlock(4711)`)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(documents(t, s, forwarder.Query{})); n != 100 {
		t.Errorf("%d entries after the step has ended, want 100", n)
	}
	checkLost(t, s)
	checkTotals(t, s)
}

// A class may be called anything, though the configuration takes only some names.
func TestAClassWithoutAPartitionIsKeptAndPruned(t *testing.T) {
	s := newStore(t)
	clockAt(s, 0)
	for i, class := range []string{`x"; DROP TABLE entry; --'`, strings.Repeat("é", 300), "\x00\\", ""} {
		term := terms{class: 5}
		days(t, s, 10*i+1, 10*i+5, 0, term.tag(class, at(0)))
		if n := len(documents(t, s, forwarder.Query{})); n != 5 {
			t.Errorf("class %.20q: %d entries, want 5", class, n)
		}
		pruneAll(t, s, term.expiry(80))
		if n := len(documents(t, s, forwarder.Query{})); n != 0 {
			t.Errorf("class %.20q: %d entries are left", class, n)
		}
	}
	if n := value[int](t, s.conn, s.at.schema, `SELECT count(*) FROM pg_inherits WHERE inhparent = '{schema}.entry'::regclass`); n != 2 {
		t.Errorf("%d partitions of classes, want default and other", n)
	}
	checkLost(t, s)
}
