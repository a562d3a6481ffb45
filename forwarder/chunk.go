package forwarder

import (
	"runtime"
	"sync"
)

const (
	// chunkEntries bounds how many entries are read before they are looked at.
	chunkEntries = 1024
	// decodersEach is how many entries are worth another goroutine.
	decodersEach = 64
	// maxDecoders bounds them: delivery is not to keep calls from all processors.
	maxDecoders = 4
)

// decoded is an entry of the source, or why it is none.
type decoded struct {
	sequence uint64
	from, to int // of the payload
	record   Record
	err      error
}

// chunk reads a run of entries, and decodes them on several processors: on a backlog that is
// most of what there is to do for a store that is quick. Its memory is used again.
type chunk struct {
	payloads []byte
	entries  []decoded
}

// read returns up to so many entries from a sequence on, and no more bytes than that, but
// at least one. It returns an error only when there is none. What it returns is valid until
// the next call.
func (c *chunk) read(source Source, from uint64, entries, size int) ([]decoded, error) {
	c.payloads, c.entries = c.payloads[:0], c.entries[:0]
	err := source.Read(from, func(sequence uint64, payload []byte) bool {
		at := len(c.payloads)
		c.payloads = append(c.payloads, payload...) // it is valid only during the call
		c.entries = append(c.entries, decoded{sequence: sequence, from: at, to: len(c.payloads)})
		// A record is longer by its origin and stamp.
		return len(c.entries) < entries && len(c.payloads)+roomForStamps*len(c.entries) < size
	})
	if len(c.entries) == 0 {
		return nil, err
	}
	decoders := min(runtime.GOMAXPROCS(0), maxDecoders, (len(c.entries)+decodersEach-1)/decodersEach)
	var others sync.WaitGroup
	for n := range decoders - 1 {
		others.Go(func() { c.decode(source, n+1, decoders) })
	}
	c.decode(source, 0, decoders)
	others.Wait()
	return c.entries, nil
}

// decode decodes each of-th entry from the n-th on.
func (c *chunk) decode(source Source, n, of int) {
	for ; n < len(c.entries); n += of {
		d := &c.entries[n]
		d.record, d.err = NewRecord(source.Instance(d.sequence), d.sequence, c.payloads[d.from:d.to])
	}
}

// clear lets go of what was read: the records that were taken belong to the batch.
func (c *chunk) clear() { clear(c.entries[:cap(c.entries)]) }
