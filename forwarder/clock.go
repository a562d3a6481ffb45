package forwarder

import "time"

const (
	// clockSlack is how far the clock may run ahead of the time that passes before that
	// counts as a jump.
	clockSlack = time.Minute
	// clockAway is for how long a sidecar may have been away before the time since counts
	// as a jump.
	clockAway = 7 * 24 * time.Hour
	// clockTrust is how long a clock that has jumped ahead must keep its time before it
	// is believed.
	clockTrust = 24 * time.Hour
)

// trustedClock is the wall clock for deciding what has expired. What is deleted because a
// clock was wrong does not come back, so a jump ahead is not believed until the clock has
// kept its time for a day, in which NTP or an operator may put it right; and until then
// what is believed goes on at the pace of the time that passes. A jump back is believed at
// once: it keeps.
//
// A machine that sleeps jumps ahead too, when it wakes.
type trustedClock struct {
	wall    time.Time // without its monotonic part
	passing time.Time // with it: the same moment
	// ahead is how far the wall clock has jumped beyond what is believed, since a time.
	ahead time.Duration
	since time.Time
}

// newTrustedClock starts at now. If the sidecar was last seen long before that, the time
// since is a jump.
func newTrustedClock(now, lastSeen time.Time) trustedClock {
	c := trustedClock{wall: now.Round(0), passing: now}
	if away := now.Round(0).Sub(lastSeen.Round(0)); !lastSeen.IsZero() && away > clockAway {
		c.ahead, c.since = away, now
	}
	return c
}

// now is what is believed, and how far the wall clock is ahead of that.
func (c *trustedClock) now(at time.Time) (believed time.Time, ahead time.Duration) {
	wall := at.Round(0)
	jumped := wall.Sub(c.wall) - at.Sub(c.passing)
	switch {
	case jumped > clockSlack:
		c.ahead, c.since = c.ahead+jumped, at
		c.wall, c.passing = wall, at
	case jumped < -clockSlack:
		c.ahead = max(0, c.ahead+jumped)
		c.wall, c.passing = wall, at
	}
	if c.ahead > 0 && at.Sub(c.since) >= clockTrust {
		c.ahead = 0
	}
	return wall.Add(-c.ahead), c.ahead
}
