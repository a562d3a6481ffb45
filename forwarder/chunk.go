package forwarder

import (
	"runtime"
	"sync"
)

const (
	// chunkEntries bounds how many entries are read before they are looked at.
	chunkEntries = 1024
	// blockEntries is how many are worth being handed to another goroutine.
	blockEntries = 64
	// maxDecoders bounds the goroutines: delivery is not to keep calls from all processors.
	maxDecoders = 4
)

// decoded is an entry of the source, or why it is none.
type decoded struct {
	sequence uint64
	from, to int // of the payload
	record   Record
	err      error
}

// chunk reads a run of entries, and decodes them on several processors while it reads on: on
// a backlog these two are most of what there is to do for a store that is quick. Its memory
// is used again.
type chunk struct {
	payloads []byte
	entries  []decoded
	given    int // entries that were made blocks of
}

// block is a part of a chunk that is to be decoded. Reading on appends behind it, or moves all
// to a larger place and leaves this one alone.
type block struct {
	payloads []byte
	entries  []decoded
}

func (b block) decode(source Source) {
	for i := range b.entries {
		d := &b.entries[i]
		d.record, d.err = NewRecord(source.Instance(d.sequence), d.sequence, b.payloads[d.from:d.to])
	}
}

// rest is what was read and is in no block yet.
func (c *chunk) rest() block {
	b := block{c.payloads, c.entries[c.given:]}
	c.given = len(c.entries)
	return b
}

// read returns up to so many entries from a sequence on, and no more bytes than that, but
// at least one. It returns an error only when there is none. What it returns is valid until
// the next call.
func (c *chunk) read(source Source, from uint64, entries, size int) ([]decoded, error) {
	c.clear()
	c.payloads, c.entries, c.given = c.payloads[:0], c.entries[:0], 0
	if cap(c.entries) < entries {
		c.entries = make([]decoded, 0, entries) // which blocks point into
	}
	var others sync.WaitGroup
	blocks := make(chan block, entries/blockEntries+1) // all of them, so that reading waits for nobody
	decode := func() {
		for b := range blocks {
			b.decode(source)
		}
	}
	decoders := min(runtime.GOMAXPROCS(0), maxDecoders) - 1 // beside this goroutine
	err := source.Read(from, func(sequence uint64, payload []byte) bool {
		at := len(c.payloads)
		c.payloads = append(c.payloads, payload...) // it is valid only during the call
		c.entries = append(c.entries, decoded{sequence: sequence, from: at, to: len(c.payloads)})
		if len(c.entries)-c.given == blockEntries {
			blocks <- c.rest()
			if decoders > 0 {
				decoders--
				others.Go(decode)
			}
		}
		// A record is longer by its origin and stamp.
		return len(c.entries) < entries && len(c.payloads)+roomForStamps*len(c.entries) < size
	})
	close(blocks)
	c.rest().decode(source)
	decode()
	others.Wait()
	if len(c.entries) == 0 {
		return nil, err
	}
	return c.entries, nil
}

// clear lets go of what was read last: the records that were taken belong to the batch.
func (c *chunk) clear() { clear(c.entries) }
