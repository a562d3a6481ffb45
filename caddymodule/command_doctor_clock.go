package caddymodule

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// clockSlack is how far a clock may be behind what was written a moment ago.
const clockSlack = 2 * time.Second

// checkClock compares the clock with what was written by it before, and asks the kernel
// whether something keeps it right.
func checkClock(_ context.Context, d *doctor) []diagnosis {
	now := time.Now()
	var list []diagnosis
	if at, what := d.lastWritten(); at.IsZero() {
		list = append(list, notKnown("there is nothing yet to compare the clock with"))
	} else {
		list = append(list, behindFinding(now, at, what))
	}
	if d.status != nil {
		for _, s := range d.status.Stores {
			if s.Retention != nil && s.Retention.Distrusted > 0 {
				list = append(list, warning("it has jumped ahead: store %s does not believe %s of it, and for a day nothing expires by that", s.Name, spell(s.Retention.Distrusted.Seconds())).
					mend("if it is right, there is nothing to do; if not, set it"))
				break
			}
		}
	}
	return append(list, syncedFinding(clockSync()))
}

// lastWritten is the latest time that the audit log has written down, and what has it.
func (d *doctor) lastWritten() (at time.Time, what string) {
	if n := len(d.newest); n > 0 {
		e := d.newest[n-1]
		return time.UnixMicro(max(e.Timestamp, e.RecordedAt)), "the newest entry"
	}
	dir, ok := d.bufferDir()
	if !ok {
		return at, ""
	}
	names, _ := filepath.Glob(filepath.Join(dir, "seg-*.db")) // the pattern is well-formed
	for _, name := range append(names, knownPath(dir)) {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) || err != nil {
			continue
		}
		if info.ModTime().After(at) {
			at, what = info.ModTime(), "the file "+filepath.Base(name)
		}
	}
	return at, what
}

func behindFinding(now, at time.Time, what string) diagnosis {
	if behind := at.Sub(now); behind > clockSlack {
		return wrong("it is %s behind %s: it was set back, or was ahead then", spell(behind.Seconds()), what).
			mend("set it, and let something keep it right; what arrived meanwhile has wrong times")
	}
	return fine("it is not behind %s", what)
}

func syncedFinding(synced bool, within time.Duration, err error) diagnosis {
	const cure = "ask \"chronyc tracking\" or \"timedatectl\""
	switch {
	case err != nil:
		return notKnown("whether something keeps it right: %v", err).mend(cure)
	case !synced:
		// chrony without rtcsync does not tell the kernel, nor does a virtual machine that
		// takes its host's time.
		return notKnown("whether something keeps it right: the kernel knows of nothing").mend(cure)
	}
	return fine("the kernel says that it is kept right, to %s", shortTime(within))
}
