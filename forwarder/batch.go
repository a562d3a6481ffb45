package forwarder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// batch is the batch in hand. Its memory is used again for the next one.
type batch struct {
	records []Record
	bytes   int
}

func (b *batch) first() uint64 { return b.records[0].Sequence }
func (b *batch) last() uint64  { return b.records[len(b.records)-1].Sequence }

// read fills the batch with the entries from sequence from on, up to the head
// and the two limits, but at least with one. An entry that cannot be taken
// ends the batch before it; it is an error only when it is the first, so that
// whatever is good before it is delivered.
func (b *batch) read(source Source, from, head uint64, entries, size int) error {
	// The last batch's documents must not live as long as the next one's.
	clear(b.records)
	b.records, b.bytes = b.records[:0], 0

	next := from
	var bad error
	err := source.Read(from, func(sequence uint64, payload []byte) bool {
		if sequence != next {
			// Advancing across a hole would lose entries in silence.
			bad = fmt.Errorf("reading entry %d: the source gave entry %d instead", next, sequence)
			return false
		}
		r, err := NewRecord(source.Instance(sequence), sequence, payload)
		if err != nil {
			bad = fmt.Errorf("reading entry %d: %w", sequence, err)
			return false
		}
		if len(b.records) > 0 && b.bytes+len(r.JSON) > size {
			return false
		}
		b.records = append(b.records, r)
		b.bytes += len(r.JSON)
		next++
		return sequence < head && len(b.records) < entries && b.bytes < size
	})
	switch {
	case len(b.records) > 0:
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
	quoted, err := json.Marshal(instance)
	if err != nil {
		return Record{}, fmt.Errorf("encoding instance %q: %w", instance, err)
	}
	// Decode accepted it and found an id: it is an object with a member.
	body := bytes.TrimSuffix(bytes.TrimRight(payload, " \t\r\n"), []byte("}"))
	doc := make([]byte, 0, len(body)+len(quoted)+64)
	doc = append(doc, body...)
	doc = append(doc, `,"origin":{"instance":`...)
	doc = append(doc, quoted...)
	doc = append(doc, `,"sequence":`...)
	doc = strconv.AppendUint(doc, sequence, 10)
	doc = append(doc, "}}"...)
	return Record{Sequence: sequence, Entry: e, JSON: doc}, nil
}
