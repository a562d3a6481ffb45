package buffer

import "sync/atomic"

// failpoint is set by tests alone. It is called at each change of what is on the
// disk, by the change's name, and may fail it or end the process there. DESIGN.md
// lists the names.
var failpoint atomic.Pointer[func(name string) error]

func at(name string) error {
	if f := failpoint.Load(); f != nil {
		return (*f)(name)
	}
	return nil
}
