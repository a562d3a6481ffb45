package buffer

import "time"

// trouble is something that does not work and is tried again. It is told once when it
// begins and once when it ends, however often it is tried. The zero value is none. Whoever
// has it sees to it that one goroutine at a time uses it.
type trouble struct{ since time.Time }

// failed notes an attempt that failed, and reports whether it is the first of a row.
func (t *trouble) failed() (begins bool) {
	begins = t.since.IsZero()
	if begins {
		t.since = time.Now()
	}
	return begins
}

// ended notes one that did not, and reports whether that ends a row, and how long it was.
func (t *trouble) ended() (after time.Duration, ends bool) {
	if t.since.IsZero() {
		return 0, false
	}
	after = time.Since(t.since).Round(time.Millisecond)
	t.since = time.Time{}
	return after, true
}
