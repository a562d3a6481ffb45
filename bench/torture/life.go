package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	// readyTimeout and stopTimeout are bounds on an orderly start and stop;
	// the latter has to wait for the slowest answer of the stub API.
	readyTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// tormentor starts the build and ends it again, mostly by force.
type tormentor struct {
	site *rig.Site
	rnd  *rand.Rand
	v    *verdict
	// reloader is nil if there are to be no reloads.
	reloader *reloader
	// lived says that the build was ready once, so that there is something to
	// ask about.
	lived bool
	// note is the last life's end, for the progress line.
	note string
}

// life is one start and its end.
func (t *tormentor) life(ctx context.Context, n int) error {
	p, err := t.site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if t.rnd.IntN(7) == 0 {
		after := time.Duration(t.rnd.IntN(400)) * time.Millisecond
		t.note = fmt.Sprintf("SIGKILL %s after the start", after)
		if err := sleep(ctx, p, after); err != nil {
			return err
		}
		p.Kill()
		t.v.Kills++
		if !t.lived {
			return nil
		}
		return t.conserved(ctx, n, "offline")
	}
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	t.lived = true
	return t.ready(ctx, p, n)
}

// ready is the rest of a life that got ready.
func (t *tormentor) ready(ctx context.Context, p *rig.Process, n int) error {
	after := time.Duration(50+t.rnd.IntN(950)) * time.Millisecond
	// Half of the longer lives are asked while they last, the others when they
	// are over: the command costs the build a good part of a short life.
	asked := t.rnd.IntN(2) == 0 && after > 500*time.Millisecond
	orderly := t.rnd.IntN(10) == 0
	// Some ends are aimed at a reload; of the others, few would meet one.
	aimed := t.rnd.IntN(3) == 0 && t.reloader != nil

	l := t.reloader.start(ctx)
	defer func() {
		l.end()
		p.Kill()
		l.report(t.v)
	}()
	live := make(chan error, 1)
	if asked {
		go func() { live <- t.conserved(ctx, n, "live") }()
	}
	if err := sleep(ctx, p, after); err != nil {
		return err
	}
	if asked {
		// Waiting for the answer makes this life a little longer than drawn.
		if err := <-live; err != nil {
			return err
		}
	}
	if aimed {
		if err := t.nextReload(ctx, p, l); err != nil {
			return err
		}
	}
	where := after.String() + " after ready"
	loading := l.end()
	if loading {
		where = "in a reload, " + where
	}
	if orderly {
		t.note = "SIGTERM " + where
		if err := p.Stop(stopTimeout); err != nil {
			return err
		}
		t.v.Stops++
	} else {
		t.note = "SIGKILL " + where
		p.Kill()
		t.v.Kills++
		if loading {
			t.v.KillsInReloads++
		}
	}
	l.report(t.v)
	if asked {
		return nil
	}
	return t.conserved(ctx, n, "offline")
}

// nextReload waits until the next reload is under way, for some part of the
// time that one takes.
func (t *tormentor) nextReload(ctx context.Context, p *rig.Process, l *reloads) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.Done():
		return p.Crashed()
	case <-l.began:
		return sleep(ctx, p, time.Duration(t.rnd.Float64()*float64(t.reloader.took.Load())))
	}
}

// held is a life with two calls that the API holds for longer than the product
// waits before it writes an open call down as pending. One gets its answer,
// the other is still open when the build is killed.
func (t *tormentor) held(ctx context.Context, o *oracle.Oracle, hold time.Duration) error {
	p, err := t.site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	var calls [2]chan bool
	for i := range calls {
		conn, err := rig.Dial(t.site.Addr)
		if err != nil {
			return fmt.Errorf("connecting to the build: %w", err)
		}
		calls[i] = make(chan bool, 1)
		go func() {
			defer conn.Close()
			_, answered := o.Send(conn, t.site.Addr, &oracle.Kinds[i], hold+time.Duration(i)*hold)
			calls[i] <- answered
		}()
	}
	if !<-calls[0] {
		return fmt.Errorf("holding a call for %s: it got no answer", hold)
	}
	entries, err := t.site.Export(ctx, "export-held")
	if err != nil {
		return err
	}
	pending := 0
	for _, e := range entries {
		if e.Revision == -1 && e.Outcome == "pending" {
			pending++
		}
	}
	if pending != 1 {
		t.v.Note(&t.v.WrongStatus, "a call that was open for %s is not exported as pending: %d entries are", hold, pending)
	}
	p.Kill()
	t.v.Kills++
	<-calls[1]
	t.lived = true
	return t.conserved(ctx, 0, "held calls")
}

// conserved asks for the conservation numbers and does the sums.
func (t *tormentor) conserved(ctx context.Context, n int, how string) error {
	st, err := t.site.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking for the status of life %d (%s): %w", n, how, err)
	}
	t.v.Conservation(st, fmt.Sprintf("in life %d (%s)", n, how))
	return nil
}

// sleep waits, and notices a build that ends by itself.
func sleep(ctx context.Context, p *rig.Process, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return p.Crashed()
	}
}

// reckoning is the last, orderly life: everything is drained and exported,
// first live and then from the files.
func (t *tormentor) reckoning(ctx context.Context, drain time.Duration) ([]rig.Entry, rig.Status, error) {
	p, err := t.site.Start(ctx)
	if err != nil {
		return nil, rig.Status{}, err
	}
	defer p.Kill()
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return nil, rig.Status{}, err
	}
	st, err := t.site.Drain(ctx, drain)
	if err != nil {
		return nil, st, err
	}
	live, err := t.site.Export(ctx, "export-live")
	if err != nil {
		return nil, st, err
	}
	if err := p.Stop(stopTimeout); err != nil {
		return nil, st, err
	}
	offline, err := t.site.Export(ctx, "export-offline")
	if err != nil {
		return nil, st, err
	}
	if err := t.conserved(ctx, 0, "after the last stop"); err != nil {
		return nil, st, err
	}
	st, err = t.site.Status(ctx) // the head has moved on: stopping is an event
	if err != nil {
		return nil, st, err
	}
	t.v.OfflineEqual = true
	if diff := oracle.Unequal(live, offline); diff != "" {
		t.v.OfflineEqual = false
		t.v.Add("the live export and the one of the files differ: %s", diff)
	}
	return offline, st, nil
}
