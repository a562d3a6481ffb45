package buffer

import (
	"fmt"
	"runtime/debug"
)

// guarded runs what reads a bbolt file through its memory map. A file that is
// truncated or overwritten behind our back faults there, or meets one of bbolt's
// assertions: both become an error, and the file is not used again.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errHarmed, p)
		}
	}()
	return f()
}
