package doctor

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

// clockSlack is how far a clock may be behind what was written a moment ago.
const clockSlack = 2 * time.Second

// ClockBehind compares the clock with the time at which something was written by it.
func ClockBehind(now, at time.Time, what string) Diagnosis {
	if behind := at.Sub(now); behind > clockSlack {
		return Wrong("it is %s behind %s: it was set back, or was ahead then", display.Spell(behind.Seconds()), what).
			Mend("set it, and let something keep it right; what arrived meanwhile has wrong times")
	}
	return Fine("it is not behind %s", what)
}

// ClockKept asks the kernel whether something keeps the clock right.
func ClockKept() Diagnosis { return syncedFinding(machine.ClockSync()) }

func syncedFinding(synced bool, within time.Duration, err error) Diagnosis {
	const cure = "ask \"chronyc tracking\" or \"timedatectl\""
	switch {
	case err != nil:
		return NotKnown("whether something keeps it right: %v", err).Mend(cure)
	case !synced:
		// chrony without rtcsync does not tell the kernel, nor does a virtual machine that
		// takes its host's time.
		return NotKnown("whether something keeps it right: the kernel knows of nothing").Mend(cure)
	}
	return Fine("the kernel says that it is kept right, to %s", shortTime(within))
}
