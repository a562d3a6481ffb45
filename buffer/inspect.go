package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Inspect reads the state of a buffer that no process has open, and changes
// nothing. Intents without an end are counted as open: the next Open records
// them. It fails with ErrLocked while a process has the buffer.
func Inspect(dir string) (st Stats, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("inspecting buffer %q: %w", dir, err)
		}
	}()
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return st, fmt.Errorf("there is none: %w", err)
	}
	if err != nil {
		return st, err
	}
	defer lock.Close()
	if err := flock(lock); err != nil {
		return st, ErrLocked
	}
	segs, err := listSegments(dir)
	if err != nil {
		return st, err
	}
	if len(segs) == 0 {
		return st, errors.New("it has no segment: no process has opened it whole yet")
	}
	c, err := segs[len(segs)-1].load()
	if err != nil {
		return st, err
	}
	st = Stats{
		Instance: c.state.Instance, Head: c.head, Oldest: segs[0].first, Open: len(c.unresolved),
		Calls: c.state.Calls, Stores: c.state.Stores, Segments: len(segs),
	}
	for _, s := range segs {
		st.Bytes += s.size
	}
	return st, nil
}
