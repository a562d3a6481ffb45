package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

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
	// One transaction: what is sent before the pipeline's end ends together.
	p := conn.PgConn().StartPipeline(ctx)
	// It bounds what the server does for a client that is gone, locks included.
	p.SendQueryParams(`SELECT set_config('statement_timeout', $1, true)`, [][]byte{strconv.AppendInt(nil, max(1, s.at.timeout.Milliseconds()), 10)},
		[]uint32{pgtype.TextOID}, nil, nil)
	err = s.send(p, batch)
	if closed := p.Close(); err == nil {
		err = closed
	}
	if err != nil || len(s.names) > maxNames {
		clear(s.names)
	}
	return err
}

// writePart is how many entries a call of write_entries gets. While the server stores them,
// the next ones are encoded.
const writePart = 1000

// send sends a batch, part by part. What an organization is called goes with the last one:
// it is what writers of other buffers may have to wait for.
func (s *Store) send(p *pgconn.Pipeline, batch []forwarder.Record) error {
	sql, now, size := writeSQL(s.at.schema), s.now().UnixMicro(), partOf(batch)
	var fresh freshNames
	for at := 0; at < len(batch); at += size {
		part := batch[at:min(at+size, len(batch))]
		args := arguments(part, now, s.names, &fresh)
		var told freshNames
		if at+size >= len(batch) {
			told = fresh
		}
		if err := sendCall(p, sql, append(args, told.slugs, told.owners)); err != nil {
			return err
		}
		if err := p.Flush(); err != nil {
			return err
		}
	}
	return p.Sync()
}

// partOf is how many entries of a batch go with a call. Those of several buffers go together:
// each call locks the buffers that it has entries of, in their order, and calls that did so one
// after the other could wait for those of another writer for ever.
func partOf(batch []forwarder.Record) int {
	instance := batch[0].Entry.Origin.Instance
	if slices.ContainsFunc(batch, func(r forwarder.Record) bool { return r.Entry.Origin.Instance != instance }) {
		return len(batch)
	}
	return writePart
}

// sendCall sends a call with its arguments.
func sendCall(p *pgconn.Pipeline, sql string, args []any) error {
	values, oids, formats := make([][]byte, len(args)), make([]uint32, len(args)), make([]int16, len(args))
	for i, arg := range args {
		of, err := parameterOf(arg)
		if err != nil {
			return err
		}
		values[i], oids[i], formats[i] = of.value, of.oid, pgtype.BinaryFormatCode
	}
	p.SendQueryParams(sql, values, oids, formats, nil)
	return nil
}

// writeSQL calls the function write_entries with arguments.
func writeSQL(schema string) string { return call(schema, "write_entries", 38) }

// call calls a function with so many parameters.
func call(schema, function string, parameters int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT %s.%s($1", schema, function)
	for n := 2; n <= parameters; n++ {
		fmt.Fprintf(&b, ", $%d", n)
	}
	return b.String() + ")"
}

// arguments are those of the function write_entries: arrays, of which each has one element
// for an entry. That is what lets a role write that may do nothing else: a function that
// runs as its owner must not read a temporary table of the caller's. Measured, in the
// server's CPU for an entry: arrays, as text then, 33 to 42 µs at any size of batch, a copy to a
// temporary table 47 at 250 entries and 28 at 5000, a copy to a staging table that is
// emptied again 62 and 32, a statement for each entry 57 and 48.
//
// Of the revisions of one entry only the highest goes, since a statement cannot change a
// row twice, with the stamp that all of them make. The sequences of the others are
// replaced ones. What it names of an organization it adds to known and to fresh, unless it is
// known; the function's last two arguments are the latter.
func arguments(batch []forwarder.Record, now int64, known names, fresh *freshNames) []any {
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
		columns                        briefs
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
		owner, slug := captured(&r)
		brief := e.Brief()
		columns.add(e, &brief, owner)
		organizations, projects = append(organizations, slug), append(projects, briefed(brief.Project))
		who, raws = append(who, marks(&e.Actor)), append(raws, raw)
		sizes = append(sizes, int32(len(r.JSON)))
		stamp := r.Stamp
		if s, ok := revised[e.ID]; ok {
			stamp = s
		}
		tags.add(stamp)
		if n, ok := nameOf(owner, slug, stamp); ok && !known[n] {
			known[n] = true
			fresh.slugs, fresh.owners = append(fresh.slugs, n.slug), append(fresh.owners, n.owner)
		}
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
	args = append(args, replacedOf, replaced, of, first, last, now)
	return append(args, columns.arguments()...)
}

// freshNames are what organizations are called that the server may not know yet.
type freshNames struct{ slugs, owners []string }
