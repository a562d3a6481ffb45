package commands

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// checkClock compares the clock with what was written by it before, and asks the kernel
// whether something keeps it right.
func checkClock(_ context.Context, d *examination) []doctor.Diagnosis {
	var list []doctor.Diagnosis
	if at, what := d.lastWritten(); at.IsZero() {
		list = append(list, doctor.NotKnown("there is nothing yet to compare the clock with"))
	} else {
		list = append(list, doctor.ClockBehind(time.Now(), at, what))
	}
	if d.status != nil {
		for _, s := range d.status.Stores {
			if s.Retention != nil && s.Retention.Distrusted > 0 {
				list = append(list, doctor.Warning("it has jumped ahead: store %s does not believe %s of it, and for a day nothing expires by that", s.Name, display.Spell(s.Retention.Distrusted.Seconds())).
					Mend("if it is right, there is nothing to do; if not, set it"))
				break
			}
		}
	}
	return append(list, doctor.ClockKept())
}

// lastWritten is the latest time that the audit log has written down, and what has it.
func (d *examination) lastWritten() (at time.Time, what string) {
	if n := len(d.newest); n > 0 {
		e := d.newest[n-1]
		return time.UnixMicro(max(e.Timestamp, e.RecordedAt)), "the newest entry"
	}
	dir, ok := d.bufferDir()
	if !ok {
		return at, ""
	}
	names, _ := filepath.Glob(filepath.Join(dir, "seg-*.db")) // the pattern is well-formed
	for _, name := range append(names, operator.KnownPath(dir)) {
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		if info.ModTime().After(at) {
			at, what = info.ModTime(), "the file "+filepath.Base(name)
		}
	}
	return at, what
}
