package forwarder

// ahead is the batch behind the one in hand, read while that is written: on a backlog a
// store is then not kept waiting for what it is given. It is as if it had been read
// afterwards, but that its stamps are those of a moment before.
//
// Run's goroutine owns it. While done is not closed, the goroutine that reads has batch
// and err.
type ahead struct {
	batch batch
	err   error
	from  uint64
	done  chan struct{} // nil if nothing was begun
}

// begin reads what comes behind b, if a full batch of it is there already: what is less
// may be gathered, see Forwarder.wait. While entries are under suspicion, or it is being found
// out how much the store can take, what a batch holds depends on what becomes of the one
// before.
func (a *ahead) begin(f *Forwarder, b *batch, head uint64, entries int) {
	if head < b.last+uint64(entries) || b.pending != nil || f.suspicion.any() || f.ceiling < f.o.MaxBatchEntries {
		return
	}
	a.from, a.done = b.last+1, make(chan struct{})
	go func() {
		defer close(a.done)
		a.err = f.read(&a.batch, a.from, head, entries, f.o.BatchBytes)
	}()
}

// end waits for the reading, and reports whether there is a batch that begins with an
// entry. What went wrong is met again by who reads it once more.
func (a *ahead) end(from uint64) bool {
	if a.done == nil {
		return false
	}
	<-a.done
	a.done = nil
	return a.err == nil && a.from == from && a.batch.last >= from
}
