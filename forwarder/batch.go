package forwarder

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// maxScan bounds how many entries one batch may cover when the filter takes few of
// them, so that the position moves on while they are passed over.
const maxScan = 20_000

// batch is the batch in hand: a run of the source's entries without a hole. Those
// that the filter takes are its records. Its memory is used again for the next one.
type batch struct {
	records []Record
	// filtered[i] is how many entries before records[i], and behind the record before
	// it, the filter does not take.
	filtered []uint64
	// tail is how many it does not take behind the last record, and last the last
	// sequence that the batch covers.
	tail  uint64
	last  uint64
	bytes int
	// settled is how many records are taken, or in quarantine.
	settled int
	// pending is the entry behind the last one that is covered, if delivery has to wait
	// for its stamp.
	pending *audit.Entry
	// chunk is what is being read.
	chunk chunk
}

// first is the sequence of the first record that is not settled, or of what follows
// the records.
func (b *batch) first() uint64 {
	if b.settled < len(b.records) {
		return b.records[b.settled].Sequence
	}
	return b.last
}

// unusable is an entry that no store can be given: it cannot be read as one, or not
// be put into the store's format.
type unusable struct {
	sequence uint64
	err      error
}

func (u *unusable) Error() string {
	return fmt.Sprintf("reading entry %d: %v", u.sequence, u.err)
}
func (u *unusable) Unwrap() error { return u.err }

// read fills the batch with the entries from sequence from on, up to the head
// and the limits, in entries and in bytes, but at least with one. An entry that cannot be taken
// ends the batch before it; it is an error only when it is the first, so that
// whatever is good before it is delivered.
//
// An entry whose stamp is not there yet ends the batch too; a batch without any then has
// pending set. Those behind it are looked at all the same, so that all that has to be
// asked for is asked for at once.
func (f *Forwarder) read(b *batch, from, head uint64, entries, size int) error {
	// The last batch's documents must not live as long as the next one's.
	clear(b.records)
	b.records, b.filtered = b.records[:0], b.filtered[:0]
	b.tail, b.bytes, b.settled, b.last, b.pending = 0, 0, 0, from-1, nil

	var bad error
	visit := func(d *decoded) bool {
		if b.pending != nil {
			if d.err == nil {
				f.o.Stamper.Stamp(d.record.Entry)
			}
			return d.sequence < head && d.sequence-b.last < siftEntries
		}
		if d.sequence != b.last+1 {
			// Advancing across a hole would lose entries in silence.
			bad = fmt.Errorf("reading entry %d: the source gave entry %d instead", b.last+1, d.sequence)
			return false
		}
		r, err := d.record, d.err
		if err == nil {
			var ok bool
			if ok, err = f.stamp(&r); !ok {
				b.pending = r.Entry
				return d.sequence < head
			}
		}
		if err == nil && f.o.Filter != nil && !f.o.Filter(r.Entry) {
			b.tail++
			b.last = d.sequence
			return d.sequence < head && d.sequence-from < maxScan
		}
		if err == nil {
			err = f.format(&r)
		}
		if err != nil {
			bad = &unusable{d.sequence, err}
			return false
		}
		if len(b.records) > 0 && b.bytes+len(r.JSON) > size {
			return false
		}
		b.records, b.filtered = append(b.records, r), append(b.filtered, b.tail)
		b.tail, b.last = 0, d.sequence
		b.bytes += len(r.JSON)
		return d.sequence < head && len(b.records) < entries && b.bytes < size && d.sequence-from < maxScan
	}
	var err error
	for next, more := from, true; more; {
		var read []decoded
		read, err = b.chunk.read(f.source, next, min(entries-len(b.records), chunkEntries), size-b.bytes)
		more = err == nil && len(read) > 0
		for i := range read {
			if more = visit(&read[i]); !more {
				break
			}
			next = read[i].sequence + 1
		}
	}
	b.chunk.clear()
	switch {
	case b.last >= from, b.pending != nil:
		// What stopped the reading is met again as the first of its batch.
		return nil
	case bad != nil:
		return bad
	case err != nil:
		return fmt.Errorf("reading entry %d: %w", from, err)
	default:
		return fmt.Errorf("reading entry %d: the source ended before it, though its head is %d", from, head)
	}
}

// errMoved says that somebody else has moved the store's position: what the source
// held for it was given up.
var errMoved = errors.New("the store was detached")

// settle notes that the records before the n-th are done with: quarantined of those
// that were not settled are in quarantine, the others delivered. The position moves
// with them, past what the filter does not take.
func (f *Forwarder) settle(b *batch, n int, quarantined uint64) error {
	to, filtered := b.last, uint64(0)
	if n < len(b.records) {
		to = b.records[n-1].Sequence
	} else {
		filtered = b.tail
	}
	for _, more := range b.filtered[b.settled:n] {
		filtered += more
	}
	delivered := uint64(n-b.settled) - quarantined
	for _, r := range b.records[b.settled:n] {
		delete(f.suspicion.ahead, r.Sequence)
		delete(f.suspicion.suspects, r.Sequence)
	}
	b.settled = n
	if !f.source.Advance(f.name, to, delivered, filtered, quarantined) {
		return errMoved
	}
	f.state.took(delivered, quarantined)
	return nil
}

// NewRecord decodes an entry as it lies in a buffer, a payload that it does not
// keep, and stamps its origin.
//
// What was captured passes through byte by byte, with the origin set in at
// its end. Encoding the decoded entry instead would lose the fields that this
// version does not know, and the digits of large numbers in Action.Metadata.
func NewRecord(instance string, sequence uint64, payload []byte) (Record, error) {
	e, err := audit.Decode(payload)
	if err != nil {
		return Record{}, err
	}
	stamped := e.Origin != nil
	e.Origin = &audit.Origin{Instance: instance, Sequence: sequence}
	if stamped {
		// Nothing in a buffer has an origin. If it does, a second one beside
		// it would leave the choice to each reader's JSON parser.
		doc, err := e.Encode()
		return Record{Sequence: sequence, Entry: e, JSON: doc}, err
	}
	// Decode accepted it and found an id: it is an object with a member.
	body := bytes.TrimSuffix(bytes.TrimRight(payload, " \t\r\n"), []byte("}"))
	doc := make([]byte, 0, len(body)+len(instance)+roomForStamps)
	doc = append(doc, body...)
	doc = append(doc, `,"origin":`...)
	doc = e.Origin.AppendTo(doc)
	doc = append(doc, '}')
	return Record{Sequence: sequence, Entry: e, JSON: doc}, nil
}

// roomForStamps is what the origin takes beside the instance, and the stamp that mostly
// comes behind it, in bytes: so the document moves once.
const roomForStamps = 448
