//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/faultfs"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	// readyTimeout and stopTimeout are bounds on an orderly start and stop.
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	// hitTimeout is how long a fault waits for an operation that it concerns.
	hitTimeout = 20 * time.Second
)

// doctor makes the disk of one life ill and well again.
type doctor struct {
	site   *rig.Site
	disk   *faultfs.FS
	oracle *oracle.Oracle
	v      *verdict
	o      options
}

func (d *doctor) run(ctx context.Context, faults []faultfs.Fault) error {
	p, err := d.site.Start(ctx)
	if err != nil {
		return err
	}
	// Last of all: what hangs on the disk cannot be killed.
	defer func() {
		d.disk.Heal()
		p.Kill()
	}()
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	// A connection is accepted before the start is complete, which needs a disk
	// that works.
	if _, err := d.recorded(ctx); err != nil {
		return err
	}
	if err := d.rest(ctx, p, d.o.Well); err != nil {
		return err
	}
	stop := d.oracle.Start(ctx, d.site.Addr, oracle.Load{Clients: d.o.Clients, Reads: d.o.Reads, Pause: d.o.Pause, Seed: d.o.Seed})
	err = d.turns(ctx, p, faults)
	d.disk.Heal()
	stop()
	if err != nil {
		return err
	}
	d.oracle.Phase("end")
	if _, err := d.site.Drain(ctx, d.o.Drain); err != nil {
		return err
	}
	if err := p.Stop(stopTimeout); err != nil {
		return err
	}
	if d.o.OnFault == "pass" {
		if err := d.site.Again(ctx, readyTimeout, d.o.Drain, stopTimeout); err != nil {
			return err
		}
	}
	entries, err := d.site.Export(ctx, "export")
	if err != nil {
		return err
	}
	st, err := d.site.Status(ctx)
	if err != nil {
		return err
	}
	d.v.Conservation(st, "after the stop")
	d.v.Compare(d.oracle, entries, st, oracle.Rules{Pass: d.o.OnFault == "pass"})
	return nil
}

func (d *doctor) turns(ctx context.Context, p *rig.Process, faults []faultfs.Fault) error {
	bar := rig.NewProgress("faults")
	for n, f := range faults {
		i, err := d.turn(ctx, p, f)
		if err != nil {
			return fmt.Errorf("while the disk's fault was %q: %w", f, err)
		}
		d.v.Faults = append(d.v.Faults, i)
		bar.Step(n+1, len(faults), fmt.Sprintf("%s: %d hits, %d answered, %d refused, %d late, recorded again after %d ms",
			f, i.Hits, i.Acked, i.Refused, i.Late, i.HealedMS))
	}
	return nil
}

// turn is one fault and its cure.
func (d *doctor) turn(ctx context.Context, p *rig.Process, f faultfs.Fault) (illness, error) {
	before := d.oracle.Count()
	d.oracle.Phase(f.String())
	d.disk.Set(f)
	hits, err := d.await(ctx, p, f)
	if err != nil {
		return illness{}, err
	}
	d.disk.Heal()
	took, err := d.recorded(ctx)
	if err != nil {
		return illness{}, err
	}
	after := d.oracle.Count()
	i := illness{
		Fault: f.String(), Hits: hits, HealedMS: took.Milliseconds(),
		Acked: after.Acked - before.Acked, Refused: after.Refused - before.Refused, Late: after.Late - before.Late,
	}
	// What the buffer does not do today cannot go wrong either.
	if hits == 0 && f.Op != faultfs.Allocate {
		d.v.Note(&d.v.Unhit, "no operation met the fault %q within %s", f, hitTimeout)
	}
	d.oracle.Phase("after " + f.String())
	if err := d.rest(ctx, p, d.o.Well); err != nil {
		return i, err
	}
	st, err := d.site.Status(ctx)
	if err != nil {
		return i, fmt.Errorf("asking for the status: %w", err)
	}
	d.v.Conservation(st, "after "+f.String())
	return i, nil
}

// await lets a fault last, for longer if it has met nothing yet.
func (d *doctor) await(ctx context.Context, p *rig.Process, f faultfs.Fault) (hits int, err error) {
	if err := d.rest(ctx, p, d.o.Ill); err != nil {
		return 0, err
	}
	for end := time.Now().Add(hitTimeout); d.disk.Hits() == 0 && f.Op != faultfs.Allocate && time.Now().Before(end); {
		if err := d.rest(ctx, p, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
	if d.disk.Hits() > 0 && f.Kind == faultfs.Hang {
		// It may have come only now.
		err = d.rest(ctx, p, d.o.MaxWait+d.o.MaxWait/2)
	}
	return d.disk.Hits(), err
}

// recorded waits until a changing call and a read are recorded again, and says
// how long that took. An answer that is not late was.
func (d *doctor) recorded(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	for _, k := range []*oracle.Kind{&oracle.Kinds[0], &oracle.ReadKind} {
		for {
			conn, err := rig.Dial(d.site.Addr)
			if err != nil {
				return 0, fmt.Errorf("connecting to the build: %w", err)
			}
			c, _ := d.oracle.Send(conn, d.site.Addr, k, 0)
			conn.Close()
			if c.Acked() && !c.Late {
				break
			}
			if time.Since(start) > d.o.Heal {
				d.v.Note(&d.v.Unhealed, "calls were not recorded %s after the disk had healed; the log's last words:\n%s", d.o.Heal, d.site.LastWords())
				return time.Since(start), nil
			}
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return time.Since(start), nil
}

// rest waits, and notices a build that ends by itself.
func (d *doctor) rest(ctx context.Context, p *rig.Process, t time.Duration) error {
	for end := time.Now().Add(t); ; {
		if err := p.Crashed(); err != nil {
			return err
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(left, 50*time.Millisecond)):
		}
	}
}
