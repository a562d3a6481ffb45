package forwarder

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// pause waits before the next attempt. It returns false if ctx ended.
func (f *Forwarder) pause(ctx context.Context, err error) bool {
	d := backoff(f.state.failures())
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) {
		d = max(d, min(asked.RetryAfter(), MaxRetryAfter))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// backoff draws the pause after so many failures in a row.
func backoff(failures int) time.Duration {
	bound := BackoffBase
	for i := 1; i < failures && bound < BackoffCap; i++ {
		bound *= 2
	}
	return 1 + rand.N(min(bound, BackoffCap))
}
