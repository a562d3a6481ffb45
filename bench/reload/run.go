package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	drainTimeout = 2 * time.Minute
)

// trial is one build under load and reloads.
type trial struct {
	options
	name  string // ours or plain
	plain bool
	site  *rig.Site
	api   *api
	admin *admin
	o     *oracle
	res   *result
}

// run is a whole trial.
func run(ctx context.Context, o options, name, dir string) (_ *result, err error) {
	t := &trial{options: o, name: name, plain: name == "plain", o: &oracle{}, res: &result{}}
	if !t.plain {
		t.res.records = &records{}
	}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return t.res, fmt.Errorf("making the directory of the run: %w", err)
	}
	if t.api, err = serve(t.o); err != nil {
		return t.res, err
	}
	defer t.api.stop()
	text, err := t.caddyfile(dir)
	if err != nil {
		return t.res, err
	}
	if t.site, err = rig.NewSite(t.Setup, filepath.Join(dir, "site"), t.api.addr); err != nil {
		return t.res, err
	}
	t.admin = &admin{rig.NewAdmin(t.site)}
	busy, err := net.Listen("tcp", net.JoinHostPort(ports.Host, "0"))
	if err != nil {
		return t.res, fmt.Errorf("keeping a port busy: %w", err)
	}
	defer busy.Close()
	all, err := faults(busy.Addr().(*net.TCPAddr).Port, dir)
	if err != nil {
		return t.res, err
	}
	r := &reloader{admin: t.admin, text: text, plain: t.plain, res: t.res}
	for _, f := range all {
		if !f.audit || !t.plain {
			r.faults = append(r.faults, f)
		}
	}
	return t.res, t.live(ctx, r)
}

// caddyfile writes down what the build starts with.
func (t *trial) caddyfile(dir string) (string, error) {
	b, err := os.ReadFile(t.Caddyfile)
	if err != nil {
		return "", fmt.Errorf("reading the Caddyfile: %w", err)
	}
	text := string(b)
	if t.plain {
		if text, err = withoutAudit(text); err != nil {
			return "", err
		}
		if t.Plain != "" {
			t.Caddy = t.Plain
		}
	} else if _, err := (rig.Changes{}).Apply(text); err != nil {
		return "", err
	}
	t.Caddyfile = filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(t.Caddyfile, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("writing the Caddyfile: %w", err)
	}
	return text, nil
}

// live is the build's life.
func (t *trial) live(ctx context.Context, r *reloader) error {
	p, err := t.site.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	if t.res.Start, err = t.admin.steady(ctx, p); err != nil {
		return err
	}
	// What exists once and from then on, exists after the warm-up.
	if err := t.phase(ctx, p, r, t.Warm, "warm-up"); err != nil {
		return err
	}
	if t.res.Before, err = t.admin.steady(ctx, p); err != nil {
		return err
	}
	if err := keepFiles(p, filepath.Join(t.site.Dir, "files-before.txt")); err != nil {
		return err
	}
	if err := t.phase(ctx, p, r, t.For, "reloads"); err != nil {
		return err
	}
	if t.res.After, err = t.admin.back(ctx, p, t.res.Before, t.site.Dir); err != nil {
		return err
	}
	if t.plain {
		t.res.count(t.o, func(int) bool { return false })
		return p.Stop(stopTimeout)
	}
	return t.reckoning(ctx, p)
}

// phase is a time of load and reloads. After it nothing is under way, and no
// connection is open.
func (t *trial) phase(ctx context.Context, p *rig.Process, r *reloader, long time.Duration, what string) error {
	l := &load{o: t.o, addr: t.site.Addr, clients: t.Clients, rest: t.Rest}
	stop := l.start(ctx)
	during, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	shown := make(chan struct{})
	go t.show(during, what, long, shown)
	err := r.loop(during, t.Every)
	cancel()
	<-shown
	stop()
	t.api.part()
	if err := errors.Join(err, ctx.Err(), p.Crashed()); err != nil || t.plain {
		return err
	}
	_, err = t.site.Drain(ctx, drainTimeout)
	return err
}

// show shows how far a phase is.
func (t *trial) show(ctx context.Context, what string, long time.Duration, done chan<- struct{}) {
	defer close(done)
	bar := rig.NewProgress(t.name + ", " + what)
	began := time.Now()
	for ctx.Err() == nil {
		bar.Step(int(time.Since(began).Seconds()), int(long.Seconds()), fmt.Sprintf("seconds, %d calls sent", t.o.sent()))
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	bar.Step(int(long.Seconds()), int(long.Seconds()), fmt.Sprintf("seconds, %d calls sent", t.o.sent()))
}

// reckoning stops the drained build and compares.
func (t *trial) reckoning(ctx context.Context, p *rig.Process) error {
	if _, err := t.site.Drain(ctx, drainTimeout); err != nil {
		return err
	}
	if err := t.conserved(ctx, "running"); err != nil {
		return err
	}
	if err := p.Stop(stopTimeout); err != nil {
		return err
	}
	entries, err := t.site.Export(ctx, "export")
	if err != nil {
		return err
	}
	if err := t.conserved(ctx, "stopped"); err != nil {
		return err
	}
	st, err := t.site.Status(ctx)
	if err != nil {
		return err
	}
	// The last entry, that the product stopped, is made after delivery has
	// ended and waits for the next start.
	delivered := st.Head
	for _, s := range st.Stores {
		delivered = min(delivered, s.Position)
	}
	t.res.compare(t.o, entries, delivered)
	t.res.counters(entries, st)
	return nil
}

// conserved asks for the conservation numbers and does the sums.
func (t *trial) conserved(ctx context.Context, when string) error {
	st, err := t.site.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking the %s build for its status: %w", when, err)
	}
	broken := st.Broken()
	if len(broken) > 0 {
		t.res.problems = append(t.res.problems, fmt.Sprintf("not conserved when %s: %s: %s", when, strings.Join(broken, "; "), st.Raw))
	}
	t.res.Conserved = len(broken) == 0 && (t.res.Conserved || when == "running")
	return nil
}
