//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// endWithin is far above what an alert takes to end here: a store that is back is tried
// within 30 s, and retention each minute.
const endWithin = 150 * time.Second

// scene is a cause, and what it must set off.
type scene struct {
	// what the cause is, and what ends it.
	what, cured string
	fires       []string
	cause, cure func(context.Context) error
}

// shown is an alert that fired and ended again.
type shown struct {
	Alert string `json:"alert"`
	Site  string `json:"site"`
	Cause string `json:"cause"`
	Cure  string `json:"cure"`
	// FiredSeconds is from the cause on, EndedSeconds from the cure on.
	FiredSeconds float64 `json:"fired_seconds"`
	EndedSeconds float64 `json:"ended_seconds"`
}

// verdict is the program's last line.
type verdict struct {
	Held  bool    `json:"held"`
	Shown []shown `json:"shown"`
	// Failures are alerts that did not fire or end, and anything else that is wrong.
	Failures []string `json:"failures"`
	// Unexpected are alerts that fired without a cause.
	Unexpected []string `json:"unexpected"`
	// Rules and Queries are expressions of the rules and of the dashboard that were
	// evaluated and had data; Empty those that had none.
	Rules   int      `json:"rules"`
	Queries int      `json:"queries"`
	Empty   []string `json:"empty"`
	// Excused are those that cannot have data here.
	Excused []string `json:"excused"`
	Seconds float64  `json:"seconds"`

	within time.Duration // what an alert may take to fire
	mu     sync.Mutex
}

func (v *verdict) note(list *[]string, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*list = append(*list, fmt.Sprintf(format, args...))
}

// play lets a scene happen. An alert that does not do what it should is noted, and only
// what keeps the trial from going on is an error.
func (v *verdict) play(ctx context.Context, w *watch, s *stage, sc scene) error {
	// The scene before may have entailed it.
	together(sc.fires, func(alert string) {
		if err := w.await(ctx, subject{alert, s.name}, false, endWithin); err != nil {
			v.note(&v.Failures, "%s: before %s: %v", s.name, sc.what, err)
		}
	})
	name := cmp.Or(s.name, "all")
	say("%s: %s", name, sc.what)
	began := time.Now()
	if err := sc.cause(ctx); err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, sc.what, err)
	}
	fired := map[string]time.Duration{}
	var mu sync.Mutex
	together(sc.fires, func(alert string) {
		if err := w.await(ctx, subject{alert, s.name}, true, v.within); err != nil {
			v.note(&v.Failures, "%s: %s: %v", s.name, sc.what, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		fired[alert] = time.Since(began)
	})
	cured := time.Now()
	if err := sc.cure(ctx); err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, sc.cured, err)
	}
	say("%s: %s", name, sc.cured)
	together(sc.fires, func(alert string) {
		took, ok := fired[alert]
		if !ok {
			return
		}
		if err := w.await(ctx, subject{alert, s.name}, false, endWithin); err != nil {
			v.note(&v.Failures, "%s: %s: %v", s.name, sc.cured, err)
			return
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.Shown = append(v.Shown, shown{alert, s.name, sc.what, sc.cured, seconds(took), seconds(time.Since(cured))})
	})
	return ctx.Err()
}

// together does something for each name at the same time.
func together(names []string, do func(string)) {
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() { do(n) })
	}
	wg.Wait()
}

func seconds(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s\n", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// nothing cures what ends by itself.
func nothing(context.Context) error { return nil }
