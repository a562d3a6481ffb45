package viewer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// A part of a list is read into memory, this many entries or this many bytes, before
	// it goes out: so a slow client holds nothing of the store.
	partEntries = 500
	partBytes   = 2 << 20
	// slowTake is how long a part may be on its way before its client is slow.
	slowTake = 2 * time.Second
)

// part is some entries in a row.
type part struct {
	entries []*audit.Entry
	docs    [][]byte // as they are stored
	next    forwarder.Place
	more    bool // there may be further ones behind next
}

// read reads one part of a selection.
func (v *Viewer) read(ctx context.Context, q forwarder.Query, most int) (p part, err error) {
	b, err := v.shelf.take(ctx)
	if err != nil {
		return p, err
	}
	defer func() { v.shelf.give(b, isBroken(err)) }()
	return v.readFrom(ctx, b.log, q, most)
}

// readFrom reads one part. What does not belong to the selection is an error and never goes
// out, whatever the store may think: this is where one organization's log is kept from
// another's.
func (v *Viewer) readFrom(ctx context.Context, log Log, q forwarder.Query, most int) (p part, err error) {
	want := partEntries
	if most > 0 {
		want = min(want, most)
	}
	q.Limit = want + 1
	ctx, cancel := context.WithTimeout(ctx, v.o.Timeout)
	defer cancel()
	next, stop := iter.Pull2(log.Read(ctx, q))
	defer stop()
	var d drawn
	return d.part(next, &q, want)
}

// drawn is the entry that was read last and did not fit into its part.
type drawn struct {
	entry *audit.Entry
	doc   []byte
}

// part draws up to want entries, and one more to see whether there is one.
func (d *drawn) part(next func() ([]byte, error, bool), q *forwarder.Query, want int) (p part, err error) {
	size := 0
	for {
		if d.entry == nil {
			doc, err, ok := next()
			if !ok {
				return p, nil
			}
			if err != nil {
				return p, err
			}
			e, err := audit.Decode(doc)
			if err != nil {
				return p, fmt.Errorf("reading the audit log: %w", err)
			}
			if !q.Matches(e) {
				return p, fmt.Errorf("reading the audit log: the store has given entry %s, which was not asked for", e.ID)
			}
			d.entry, d.doc = e, bytes.Clone(doc)
		}
		if len(p.entries) == want || size >= partBytes {
			p.more = true
			return p, nil
		}
		p.entries, p.docs = append(p.entries, d.entry), append(p.docs, d.doc)
		p.next = forwarder.Place{Timestamp: d.entry.Timestamp, ID: d.entry.ID}
		size += len(d.doc)
		d.entry, d.doc = nil, nil
	}
}

// isBroken reports whether an error may be the open store's own, so that it is opened
// anew.
func isBroken(err error) bool {
	return err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// walk reads a selection part by part, up to most entries; zero is all. take gets at least
// one part, which may be empty. It keeps the Log that it began with, so that a reload cuts
// nobody's export.
func (v *Viewer) walk(ctx context.Context, q forwarder.Query, most int, take func(p part) error) (err error) {
	b, err := v.shelf.take(ctx)
	if err != nil {
		return err
	}
	failed := false
	defer func() { v.shelf.give(b, failed) }()
	each := func(most int) (part, error) { return v.readFrom(ctx, b.log, q, most) }
	read, stop := each, func() {}
	if !q.Trail.IsZero() || q.User != "" {
		// Who acts is looked for in the whole log before the first entry comes, so that
		// this is done once and not for each part.
		read, stop = v.drawFrom(ctx, b.log, q)
	}
	defer func() { stop() }()
	for {
		p, err := read(most)
		if err != nil {
			failed = isBroken(err)
			return err
		}
		began := time.Now()
		if err := take(p); err != nil {
			return err
		}
		if time.Since(began) > slowTake {
			// The store must not keep its view of everything for a client that takes its time.
			stop()
			read, stop = each, func() {}
		}
		if most > 0 {
			if most -= len(p.entries); most == 0 {
				return nil
			}
		}
		if !p.more {
			return nil
		}
		q.After = p.next
	}
}

// drawFrom reads part after part of one reading, each of which may take Options.Timeout.
func (v *Viewer) drawFrom(ctx context.Context, log Log, q forwarder.Query) (read func(most int) (part, error), stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	next, end := iter.Pull2(log.Read(ctx, q))
	var d drawn
	read = func(most int) (part, error) {
		timer := time.AfterFunc(v.o.Timeout, func() { cancel(context.DeadlineExceeded) })
		defer timer.Stop()
		want := partEntries
		if most > 0 {
			want = min(want, most)
		}
		p, err := d.part(next, &q, want)
		if err != nil && context.Cause(ctx) != nil {
			err = context.Cause(ctx)
		}
		return p, err
	}
	return read, func() {
		cancel(context.Canceled)
		end()
	}
}
