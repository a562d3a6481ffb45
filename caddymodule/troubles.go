package caddymodule

import "sync"

// troubles are what does not work and is tried again, by name. Each is told once when it
// begins and once when it ends, however often it is tried. The zero value has none. They are
// safe for concurrent use.
type troubles struct{ last sync.Map }

// failed notes an attempt that failed, and reports whether it is the first of a row.
func (t *troubles) failed(name string) (begins bool) {
	_, there := t.last.LoadOrStore(name, true)
	return !there
}

// ended notes one that did not, and reports whether that ends a row.
func (t *troubles) ended(name string) bool {
	_, there := t.last.LoadAndDelete(name)
	return there
}
