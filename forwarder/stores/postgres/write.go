package postgres

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Write stores the batch in one transaction: all of it or nothing. Writing it again
// changes nothing. It returns soon after ctx has ended or the store's timeout has
// passed, whatever the server does.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.at.timeout)
	defer cancel()
	err := s.write(ctx, batch)
	if err != nil && !refused(err) {
		// Whatever state it is in, another one is cheap; and after a failover this
		// one leads to a server that only reads.
		s.drop()
	}
	return s.at.failing("writing to", err)
}

func (s *Store) write(ctx context.Context, batch []forwarder.Record) error {
	for _, r := range batch {
		if o := r.Entry.Origin; o == nil || o.Sequence == 0 || o.Sequence > math.MaxInt64 {
			return &refusal{fmt.Sprintf("entry %q has no origin with a sequence from 1 to 2^63-1", column(r.Entry.ID))}
		}
	}
	conn, err := s.connected(ctx)
	if err != nil {
		return err
	}
	if len(batch) == 0 {
		return nil
	}
	if err := s.prepare(ctx, conn, partitionsOf(batch)); err != nil {
		return err
	}
	// One round trip and one transaction: what is sent together ends together.
	var b pgx.Batch
	// It bounds what the server does for a client that is gone, locks included.
	b.Queue(`SELECT set_config('statement_timeout', $1, true)`, strconv.FormatInt(max(1, s.at.timeout.Milliseconds()), 10))
	b.Queue(writeSQL(s.at.schema), arguments(batch, s.now().UnixMicro())...)
	return conn.SendBatch(ctx, &b).Close()
}

// writeSQL calls the function write_stamped with arguments.
func writeSQL(schema string) string {
	return `SELECT ` + schema + `.write_stamped($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)`
}

// arguments are those of the function write_stamped: arrays, of which each has one element
// for an entry. That is what lets a role write that may do nothing else: a function that
// runs as its owner must not read a temporary table of the caller's. Measured, in the
// server's CPU for an entry: arrays 33 to 42 µs at any size of batch, a copy to a
// temporary table 47 at 250 entries and 28 at 5000, a copy to a staging table that is
// emptied again 62 and 32, a statement for each entry 57 and 48.
//
// Of the revisions of one entry only the highest goes, since a statement cannot change a
// row twice, with the stamp that all of them make. The sequences of the others are
// replaced ones.
func arguments(batch []forwarder.Record, now int64) []any {
	best := make(map[string]int, len(batch))
	var revised map[string]*audit.Stamp // of entries that the batch has more than once
	var lower []int
	for i, r := range batch {
		have, ok := best[r.Entry.ID]
		if !ok {
			best[r.Entry.ID] = i
			continue
		}
		if revised == nil {
			revised = map[string]*audit.Stamp{}
		}
		if s, ok := revised[r.Entry.ID]; ok {
			revised[r.Entry.ID] = s.Merge(r.Stamp)
		} else {
			revised[r.Entry.ID] = batch[have].Stamp.Merge(r.Stamp)
		}
		if r.Entry.Revision > batch[have].Entry.Revision {
			best[r.Entry.ID], lower = i, append(lower, have)
		} else {
			lower = append(lower, i)
		}
	}
	n := len(best)
	var (
		ids, instances, documents      = make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
		revisions, arrivals, sequences = make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
		organizations, projects, who   = make([]*string, 0, n), make([]*string, 0, n), make([]*string, 0, n)
		raws                           = make([][]byte, 0, n)
		sizes                          = make([]int32, 0, n)
		tags                           stamps
	)
	for i, r := range batch {
		e := r.Entry
		if best[e.ID] != i {
			continue
		}
		text, raw := document(r.JSON)
		ids, instances, documents = append(ids, column(e.ID)), append(instances, column(e.Origin.Instance)), append(documents, text)
		revisions, arrivals = append(revisions, int64(e.Revision)), append(arrivals, e.Timestamp)
		sequences = append(sequences, int64(e.Origin.Sequence))
		organizations, projects = append(organizations, captured(&r)), append(projects, unknown(e.ProjectRef))
		who, raws = append(who, marks(&e.Actor)), append(raws, raw)
		sizes = append(sizes, int32(len(r.JSON)))
		stamp := r.Stamp
		if s, ok := revised[e.ID]; ok {
			stamp = s
		}
		tags.add(stamp)
	}
	replacedOf, replaced := make([]string, 0, len(lower)), make([]int64, 0, len(lower))
	for _, i := range lower {
		o, kept := batch[i].Entry.Origin, batch[best[batch[i].Entry.ID]].Entry.Origin
		if *o != *kept { // the same record may be there twice
			replacedOf, replaced = append(replacedOf, column(o.Instance)), append(replaced, int64(o.Sequence))
		}
	}
	var of []string
	var first, last []int64
	for _, r := range forwarder.Ranges(batch) {
		of, first, last = append(of, column(r.Instance)), append(first, int64(r.First)), append(last, int64(r.Last))
	}
	args := []any{ids, revisions, arrivals, instances, sequences, organizations, projects, who, documents, raws, sizes}
	args = append(args, tags.arguments()...)
	return append(args, replacedOf, replaced, of, first, last, now)
}

// captured is the organization's slug that the entry has by itself: the forwarder has put
// the stamp's on it where it has none.
func captured(r *forwarder.Record) *string {
	slug := r.Entry.OrganizationSlug
	if r.Stamp != nil && slug != "" && slug == r.Stamp.OrganizationSlug && !bytes.Contains(r.JSON, []byte(`"organization_slug"`)) {
		return nil
	}
	return unknown(slug)
}
