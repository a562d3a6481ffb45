package doctor

import (
	"context"
	"time"
)

// Check is one look. What it finds goes under its name, which is that of its section in
// docs/doctor.md.
type Check struct {
	Name string
	Look func(context.Context) []Diagnosis
}

// Run looks at everything at the same time, each bounded by a time, and reports in the order of
// the checks.
func (r *Report) Run(ctx context.Context, within time.Duration, checks []Check) {
	results := make([]chan []Diagnosis, len(checks))
	for i, c := range checks {
		results[i] = make(chan []Diagnosis, 1) // who looks may come back when nobody waits
		go func() { results[i] <- c.one(ctx, within) }()
	}
	for i, c := range checks {
		r.Add(c.Name, <-results[i])
	}
}

// one bounds a look, whatever it waits for: a file system that hangs heeds no context. What
// comes back too late is nobody's.
func (c Check) one(ctx context.Context, within time.Duration) []Diagnosis {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	found := make(chan []Diagnosis, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				found <- []Diagnosis{NotKnown("looking failed: %v", r).Mend("report this, please")}
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
		return []Diagnosis{NotKnown("it did not come to an end within %s", within).Mend("see what hangs, or give more time with --timeout")}
	}
}
