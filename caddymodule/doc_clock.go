package caddymodule

import (
	"time"
)

// clockSlack is how far a clock may be behind what was written a moment ago.
const clockSlack = 2 * time.Second

// behindFinding compares the clock with the time at which something was written by it.
func behindFinding(now, at time.Time, what string) diagnosis {
	if behind := at.Sub(now); behind > clockSlack {
		return wrong("it is %s behind %s: it was set back, or was ahead then", spell(behind.Seconds()), what).
			mend("set it, and let something keep it right; what arrived meanwhile has wrong times")
	}
	return fine("it is not behind %s", what)
}

// clockKept asks the kernel whether something keeps the clock right.
func clockKept() diagnosis { return syncedFinding(clockSync()) }

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
