package sample

import (
	"context"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Writer writes entries into a store as those of one buffer, with their stamps, many at a
// time. It is used by one goroutine.
type Writer struct {
	Store forwarder.Store
	// Instance is the buffer.
	Instance string

	sequence uint64
	batch    []forwarder.Record
}

// batchSize is how many entries are written at a time.
const batchSize = 2000

// Add writes an entry, now or with later ones, and returns it as it will be read.
func (w *Writer) Add(ctx context.Context, e *audit.Entry, stamp *audit.Stamp) (*audit.Entry, error) {
	b, err := e.Encode()
	if err != nil {
		return nil, err
	}
	w.sequence++
	r, err := forwarder.NewRecord(w.Instance, w.sequence, b)
	if err != nil {
		return nil, err
	}
	stamp.On(r.Entry)
	r.Stamp = stamp
	if w.batch = append(w.batch, r); len(w.batch) < batchSize {
		return r.Entry, nil
	}
	return r.Entry, w.Flush(ctx)
}

// Flush writes what is left.
func (w *Writer) Flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	err := w.Store.Write(ctx, w.batch)
	w.batch = nil // a store may keep it
	return err
}
