package caddymodule

import (
	"context"
	"time"
)

// check is one look. What it finds goes under its name, which is that of its section in
// docs/doctor.md.
type check struct {
	Name string
	Look func(context.Context) []diagnosis
}

// run looks at everything at the same time, each bounded by a time, and reports in the order of
// the checks.
func (r *doctorReport) run(ctx context.Context, within time.Duration, checks []check) {
	results := make([]chan []diagnosis, len(checks))
	for i, c := range checks {
		results[i] = make(chan []diagnosis, 1) // who looks may come back when nobody waits
		go func() { results[i] <- c.run(ctx, within) }()
	}
	for i, c := range checks {
		r.add(c.Name, <-results[i])
	}
}

// run bounds a look, whatever it waits for: a file system that hangs heeds no context. What
// comes back too late is nobody's.
func (c check) run(ctx context.Context, within time.Duration) []diagnosis {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	found := make(chan []diagnosis, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				found <- []diagnosis{notKnown("looking failed: %v", r).mend("report this, please")}
			}
		}()
		found <- c.Look(ctx)
	}()
	// Who heeds the context may have something to say about it.
	late := time.NewTimer(within + time.Second)
	defer late.Stop()
	select {
	case list := <-found:
		return list
	case <-late.C:
		return []diagnosis{notKnown("it did not come to an end within %s", within).mend("see what hangs, or give more time with --timeout")}
	}
}
