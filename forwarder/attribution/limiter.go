package attribution

import "time"

// limiter bounds how many questions are asked in a second, with as many at once. It is
// not safe for concurrent use.
type limiter struct {
	interval time.Duration
	burst    int
	next     time.Time
}

func newLimiter(perSecond float64) limiter {
	return limiter{interval: time.Duration(float64(time.Second) / perSecond), burst: max(1, int(perSecond))}
}

// reserve takes the next turn, and returns how long to wait for it.
func (l *limiter) reserve(now time.Time) time.Duration {
	if earliest := now.Add(-time.Duration(l.burst) * l.interval); l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.next.Add(l.interval)
	return l.next.Sub(now)
}
