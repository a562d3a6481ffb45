package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	changeEvery  = 3
	invalidEvery = 5
)

// reloader reloads the running build again and again: every third time with a
// changed setting, every fifth time with a configuration that is invalid and
// would change a setting besides.
type reloader struct {
	admin  *admin
	text   string // the Caddyfile as shipped
	faults []fault
	plain  bool // the control: no setting is ours
	n      int
	// changed is the configuration that must be in force.
	changed rig.Changes
	res     *result
}

// loop reloads until ctx ends; each reload begins a while after the one
// before began.
func (r *reloader) loop(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// A reload that has begun is seen to its end.
		if err := r.next(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

func (r *reloader) next(ctx context.Context) error {
	r.n++
	switch {
	case r.n%invalidEvery == 0:
		f := r.faults[r.n/invalidEvery%len(r.faults)]
		changed := r.changed
		changed[0] = r.n
		refusal, err := r.reload(ctx, changed, f)
		if err != nil {
			return err
		}
		r.res.Invalid++
		if f.starts && !r.plain {
			r.res.mayRevert++
		}
		if !strings.Contains(refusal, f.words) {
			r.res.problem(&r.res.WrongReloads, "reload %d (%s) was to be refused for %q, and the answer was %q", r.n, f.name, f.words, refusal)
		}
		return nil
	case r.n%changeEvery == 0:
		i := r.n / changeEvery % len(rig.Settings)
		changed := r.changed
		changed[i] = r.n
		return r.valid(ctx, changed, rig.Settings[i].Name, rig.Settings[i].Policy)
	}
	return r.valid(ctx, r.changed, "nothing changed", false)
}

// valid is a reload that must be taken.
func (r *reloader) valid(ctx context.Context, changed rig.Changes, what string, policy bool) error {
	refusal, err := r.reload(ctx, changed, fault{})
	if err != nil {
		return err
	}
	if refusal != "" {
		r.res.problem(&r.res.WrongReloads, "reload %d (%s) was refused: %s", r.n, what, refusal)
		return nil
	}
	if !r.plain && changed != r.changed {
		r.res.Changes++
		if policy {
			r.res.PolicyChanges++
		}
	}
	r.changed = changed
	return nil
}

func (r *reloader) reload(ctx context.Context, changed rig.Changes, f fault) (refusal string, err error) {
	text := r.text
	if !r.plain {
		if text, err = changed.Apply(text); err != nil {
			return "", err
		}
	}
	if f.text != nil {
		text = f.text(text)
	}
	config, err := r.admin.Adapt(ctx, text)
	if err != nil {
		return "", fmt.Errorf("reload %d: %w", r.n, err)
	}
	if f.json != nil {
		f.json(config)
	}
	b, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("reload %d: %w", r.n, err)
	}
	began := time.Now()
	if refusal, err = r.admin.Load(ctx, rig.TypeJSON, b); err != nil {
		return "", fmt.Errorf("reload %d: %w", r.n, err)
	}
	r.res.Reloads++
	r.res.SlowestReloadMS = max(r.res.SlowestReloadMS, time.Since(began).Milliseconds())
	return refusal, nil
}
