package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const fillPackage = "github.com/caddy-audit-log/caddy-audit-log/bench/backlog/fill"

// pace is how fast the build delivers a backlog into a store, and how fast a client
// that does nothing else writes the same rows, in entries per second.
type pace struct {
	Store   string `json:"store"`
	Entries int    `json:"entries"`
	// Build and Bare are each round's, one directly after the other.
	Build []float64 `json:"build_per_second"`
	Bare  []float64 `json:"bare_per_second"`
	// Ratio is that of Build to Bare within a round, and its median and bounds.
	Ratio  []float64 `json:"ratio"`
	Median float64   `json:"median"`
	Least  float64   `json:"least"`
	Most   float64   `json:"most"`
}

// drain measures stores that have a bare client.
func (o options) drain(ctx context.Context, stores []string, dir string) (all []*pace, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	fill := filepath.Join(dir, "fill")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", fill, fillPackage).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building fill (run inside the module): %w: %s", err, out)
	}
	backlog := filepath.Join(dir, "backlog")
	if out, err := exec.CommandContext(ctx, fill, "-dir", backlog, "-entries", fmt.Sprint(o.Backlog)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("filling a buffer: %w: %s", err, out)
	}
	for _, kind := range stores {
		if !slices.Contains(bareKinds, kind) {
			continue
		}
		p := &pace{Store: kind}
		all = append(all, p)
		for n := range o.Rounds {
			if err := o.round(ctx, p, kind, backlog, filepath.Join(dir, fmt.Sprintf("%s-%d", kind, n+1))); err != nil {
				return all, fmt.Errorf("measuring store %s: %w", kind, err)
			}
			fmt.Fprintf(os.Stderr, "drain %s, round %d of %d: %.0f/s, bare %.0f/s\n", kind, n+1, o.Rounds, p.Build[n], p.Bare[n])
		}
		sorted := slices.Sorted(slices.Values(p.Ratio))
		p.Median, p.Least, p.Most = sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
	}
	return all, nil
}

// bare is a store that a client of its own can write to.
type bare interface {
	store
	// rewrite makes an empty copy of the store's tables, writes what the store has
	// into it, size rows a transaction, and returns how long the writing took.
	rewrite(ctx context.Context, size int) (rows int, took time.Duration, err error)
}

// batch is what the build's batches grow to on a backlog.
const batch = 5000

// round delivers a copy of the backlog, and then writes the same rows once more.
func (o options) round(ctx context.Context, p *pace, kind, backlog, dir string) (err error) {
	s, err := newStage(o, &result{Name: "drain " + kind}, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(), os.RemoveAll(dir)) }()
	of, err := s.open(kind)
	if err != nil {
		return err
	}
	if kind != sqliteKind {
		s.stores = []store{of} // alone
	}
	if err := os.MkdirAll(filepath.Join(dir, "site", "audit"), 0o700); err != nil {
		return err
	}
	buffer := filepath.Join(dir, "site", "audit", "buffer")
	if err := errors.Join(os.Mkdir(buffer, 0o700), os.CopyFS(buffer, os.DirFS(backlog))); err != nil {
		return fmt.Errorf("copying the backlog: %w", err)
	}
	if err := s.configure(); err != nil {
		return err
	}
	s.o = oracle.New(maxWait)
	if s.site, err = rig.NewSite(s.Setup, filepath.Join(dir, "site"), "127.0.0.1:9"); err != nil {
		return err
	}
	if s.proc, err = s.site.Start(ctx); err != nil {
		return err
	}
	if err := s.proc.Ready(ctx, readyTimeout); err != nil {
		return err
	}
	// The start is no delivery, so the clock starts with what is delivered by then.
	first, err := s.until(ctx, s.Drain, func(st rig.Status) bool { return st.Delivered() > 0 })
	if err != nil {
		return err
	}
	began := time.Now()
	st, err := s.until(ctx, s.Drain, rig.Status.Drained)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := s.proc.Stop(stopTimeout); err != nil {
		return err
	}
	rows, bareTook, err := of.(bare).rewrite(ctx, batch)
	if err != nil {
		return fmt.Errorf("writing the same rows: %w", err)
	}
	if rows < o.Backlog || s.NotConserved > 0 {
		return fmt.Errorf("the store has %d rows of %d entries, so that the figures mean nothing: %s", rows, o.Backlog, st.Raw)
	}
	p.Entries = rows
	build, alone := float64(st.Delivered()-first.Delivered())/took.Seconds(), float64(rows)/bareTook.Seconds()
	p.Build, p.Bare = append(p.Build, math.Round(build)), append(p.Bare, math.Round(alone))
	p.Ratio = append(p.Ratio, math.Round(100*build/alone)/100)
	return nil
}
