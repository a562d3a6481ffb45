package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// figures are what one variant did with one method in one round.
type figures struct {
	Variant string  `json:"variant"`
	Method  string  `json:"method"`
	Round   int     `json:"round"`
	Rate    float64 `json:"requests_per_second"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	// CPU is the build's own time per request while it served.
	CPU float64 `json:"cpu_us_per_request"`
	// Total is CPU with what was left to do afterwards: delivering to the
	// store. Requests that warmed up are in it, on both sides.
	Total   float64 `json:"cpu_us_per_request_delivered"`
	Written float64 `json:"kib_written_per_request"`
}

// methods are measured in each life: a read waits for one sync of ours (its
// answer), a changing call for two (intent and answer).
var methods = []string{"GET", "POST"}

// bench is a whole run.
type bench struct {
	options
	setup   rig.Setup
	self    string // this program, for the load generator
	dir     string
	api     string
	shipped string
}

// turn gives one variant one life and measures both methods in it.
func (b *bench) turn(ctx context.Context, name string, round int) (_ []figures, err error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("%d-%s", round, strings.ReplaceAll(name, " ", "-")))
	text, err := variant(name, b.shipped, filepath.Join(dir, "access.log"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the site's directory: %w", err)
	}
	setup := b.setup
	setup.Caddyfile = filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(setup.Caddyfile, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the variant: %w", err)
	}
	site, err := rig.NewSite(setup, dir, b.api)
	if err != nil {
		return nil, err
	}
	p, err := site.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	if err := p.Ready(ctx, 30*time.Second); err != nil {
		return nil, err
	}
	var out []figures
	for _, method := range methods {
		f, err := b.measure(ctx, site, p, name, method)
		if err != nil {
			return nil, fmt.Errorf("measuring %s of %s in round %d: %w", method, name, round, err)
		}
		f.Round = round
		out = append(out, f)
	}
	if err := p.Stop(30 * time.Second); err != nil {
		return nil, err
	}
	// A round must not find the disk fuller than the one before.
	return out, os.RemoveAll(dir)
}

// measure puts one load on a running variant.
func (b *bench) measure(ctx context.Context, site *rig.Site, p *rig.Process, name, method string) (figures, error) {
	var before rig.Status
	var err error
	if name == ours {
		if before, err = site.Status(ctx); err != nil {
			return figures{}, err
		}
	}
	at0, err := usageOf(p.PID)
	if err != nil {
		return figures{}, err
	}
	m, at1, at2, err := b.load(ctx, p, site.Addr, method)
	if err != nil {
		return figures{}, err
	}
	if name == ours {
		// What is pending would burden the next measurement, and is part of
		// this one's price.
		after, err := site.Drain(ctx, 2*time.Minute)
		if err != nil {
			return figures{}, err
		}
		if got := after.Calls.Recorded - before.Calls.Recorded; got != m.All {
			return figures{}, fmt.Errorf("%d requests were answered and %d recorded, so that the figures would mean nothing", m.All, got)
		}
	}
	at3, err := usageOf(p.PID)
	if err != nil {
		return figures{}, err
	}
	n, all := float64(m.Requests), float64(m.All)
	return figures{
		Variant: name, Method: method,
		Rate: round3(n / m.Elapsed.Seconds()),
		P50:  ms(m.P50), P99: ms(m.P99),
		CPU:     round3((at2.CPU - at1.CPU).Seconds() * 1e6 / n),
		Total:   round3((at3.CPU - at0.CPU).Seconds() * 1e6 / all),
		Written: round3(float64(at3.Written-at0.Written) / 1024 / all),
	}, nil
}

// load runs the load generator and takes the build's usage when measuring
// starts and when it ends.
func (b *bench) load(ctx context.Context, p *rig.Process, addr, method string) (m measured, start, end usage, err error) {
	cmd := exec.CommandContext(ctx, b.self, roleLoad, "-addr", addr, "-method", method,
		"-c", strconv.Itoa(b.Conns), "-warmup", b.Warmup.String(), "-duration", b.Duration.String())
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return m, start, end, err
	}
	if err := cmd.Start(); err != nil {
		return m, start, end, fmt.Errorf("starting the load generator: %w", err)
	}
	r := bufio.NewReader(pipe)
	if line, rerr := r.ReadString('\n'); rerr != nil || line != warm+"\n" {
		err = errors.Join(fmt.Errorf("starting the load generator: it says %q", line), rerr)
	} else if start, err = usageOf(p.PID); err == nil {
		err = json.NewDecoder(r).Decode(&m)
	}
	if err == nil {
		end, err = usageOf(p.PID)
	}
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = fmt.Errorf("running the load generator: %w", werr)
	}
	switch {
	case err != nil:
	case m.Errors > 0:
		err = fmt.Errorf("%d connections failed, the first with: %s", m.Errors, m.Error)
	case m.Requests == 0:
		err = fmt.Errorf("no request was answered in %s", b.Duration)
	}
	return m, start, end, err
}
