//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	// readyTimeout and stopTimeout are bounds on an orderly start and stop.
	readyTimeout = time.Minute
	stopTimeout  = 30 * time.Second
)

// cutter starts the build and takes the power from under it.
type cutter struct {
	site    *rig.Site
	machine machine
	disk    *disk
	oracle  *oracle.Oracle
	rnd     *rand.Rand
	v       *verdict
	// lived says that the build was ready once, so that there is something to
	// ask about.
	lived bool
	note  string
}

func (c *cutter) cuts(ctx context.Context, o options) error {
	bar := rig.NewProgress("cuts")
	for n := range o.Cuts {
		m := method(o.Method)
		if o.Method == "both" {
			m = []method{byIoctl, byCopy}[n%2]
		}
		if err := c.life(ctx, o, n+1, m); err != nil {
			return fmt.Errorf("in life %d: %w", n+1, err)
		}
		c.v.Cuts++
		if m == byIoctl {
			c.v.Ioctl++
		} else {
			c.v.Copies++
		}
		bar.Step(n+1, o.Cuts, fmt.Sprintf("%s, %d calls answered", c.note, c.oracle.Count().Acked))
	}
	return nil
}

// life is one start and its cut.
func (c *cutter) life(ctx context.Context, o options, n int, m method) error {
	c.oracle.Phase(fmt.Sprintf("life %d, %s", n, m))
	p, err := c.site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	var after time.Duration
	if c.rnd.IntN(7) == 0 { // during the start
		after = time.Duration(c.rnd.IntN(400)) * time.Millisecond
	} else {
		if err := p.Ready(ctx, readyTimeout); err != nil {
			return err
		}
		c.lived = true
		after = time.Duration(50+c.rnd.IntN(2000)) * time.Millisecond
	}
	if err := sleep(ctx, after); err != nil {
		return err
	}
	if err := p.Crashed(); err != nil {
		return err
	}
	// Of what was written and not flushed all, nothing, or some survives.
	survive := []float64{0, 1, c.rnd.Float64()}[c.rnd.IntN(3)]
	if o.Lies {
		survive = 0 // half of a filesystem would not even mount
	}
	lost, err := c.disk.cut(m, survive, c.rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	c.note = fmt.Sprintf("%s %s after the start: %s", m, after, lost)
	// The build runs on without its disk, by which it may be seen to answer what
	// it cannot record: nothing that comes from here on is excused. Sometimes for
	// long enough that calls wait in vain.
	linger := time.Duration(c.rnd.IntN(100)) * time.Millisecond
	if n%5 == 4 {
		linger = maxWait + 600*time.Millisecond
	}
	if err := sleep(ctx, linger); err != nil {
		return err
	}
	p.Kill()
	if err := errors.Join(c.disk.restore(ctx, m), c.machine.boot()); err != nil {
		return err
	}
	if !c.lived || c.rnd.IntN(2) == 0 {
		return nil
	}
	st, err := c.site.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking for the status after the cut: %w", err)
	}
	c.v.Conservation(st, fmt.Sprintf("after cut %d (%s)", n, m))
	return nil
}

// reckoning is the last, orderly life: everything is drained and exported.
func (c *cutter) reckoning(ctx context.Context, drain time.Duration) error {
	p, err := c.site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	if _, err := c.site.Drain(ctx, drain); err != nil {
		return err
	}
	if err := p.Stop(stopTimeout); err != nil {
		return err
	}
	entries, err := c.site.Export(ctx, "export")
	if err != nil {
		return err
	}
	st, err := c.site.Status(ctx)
	if err != nil {
		return err
	}
	c.v.Conservation(st, "after the last stop")
	c.v.Compare(c.oracle, entries, st, oracle.Rules{Deaths: true})
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
