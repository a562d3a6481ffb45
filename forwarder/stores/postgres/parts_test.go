//go:build unix

package postgres

import (
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// A batch goes in several calls, and is there whole or not at all.
func TestABatchOfSeveralPartsIsOneTransaction(t *testing.T) {
	server, schema := sharedServer(t), newSchema()
	s := openStore(t, configAt(server, schema))
	const size = 2*writePart + 345
	batch := records(t, 1, size)
	other := superuser(t, server)
	run(t, other, schema, `CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room for it' USING ERRCODE = '53100'; END $$;
		CREATE TRIGGER fail BEFORE INSERT ON {schema}.entry FOR EACH ROW WHEN (new.sequence = 2100) EXECUTE FUNCTION {schema}.fail()`)
	for range 2 { // the second time over a connection of its own
		if err := s.Write(t.Context(), batch); err == nil || refused(err) {
			t.Fatalf("writing a batch of which the last part fails: %v", err)
		}
		if n := len(documents(t, s, forwarder.Query{})); n != 0 {
			t.Fatalf("%d entries of a batch that failed are stored", n)
		}
		checkReceived(t, s)
	}
	run(t, other, schema, `DROP TRIGGER fail ON {schema}.entry`)
	for range 2 { // and again
		write(t, s, batch)
		if n := len(documents(t, s, forwarder.Query{})); n != size {
			t.Errorf("%d entries are stored, want %d", n, size)
		}
		checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: size})
	}
}

// The revisions of one call may come in different parts, in either order.
func TestRevisionsInDifferentPartsAreOneEntry(t *testing.T) {
	s := newStore(t)
	batch := records(t, 1, 3*writePart)
	last := record(t, entry(7, 3), 3*writePart+1)
	earlier := record(t, entry(2*writePart, 0), 3*writePart+2)
	batch = append(batch, last, earlier)
	write(t, s, batch)
	got := documents(t, s, forwarder.Query{})
	if len(got) != 3*writePart {
		t.Errorf("%d entries are stored, want %d", len(got), 3*writePart)
	}
	var found bool
	for _, d := range got {
		found = found || d == string(last.JSON)
		if d == string(earlier.JSON) {
			t.Error("an earlier revision took the place of a later one")
		}
	}
	if !found {
		t.Error("the last revision is not stored")
	}
	checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: 3*writePart + 2})
}

func TestABatchOfSeveralBuffersIsOnePart(t *testing.T) {
	batch := records(t, 1, writePart+200)
	if n := partOf(batch); n != writePart {
		t.Errorf("a part of one buffer's batch has %d entries, want %d", n, writePart)
	}
	batch = append(batch, recordOf(t, "another", entry(1, 1), 1))
	if n := partOf(batch); n != len(batch) {
		t.Errorf("a part of two buffers' batch has %d entries, want %d", n, len(batch))
	}
}
