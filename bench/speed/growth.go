//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
)

// curve is how one cost grows with what an operator has more of.
type curve struct {
	Of     string  `json:"of"`   // what there is more of
	Cost   string  `json:"cost"` // with its unit
	Points []point `json:"points"`
}

// point is a curve's cost where there is so much.
type point struct {
	At   float64 `json:"at"`
	Cost spread  `json:"cost"`
}

// growth is the part that measures how costs grow, one thing at a time.
type growth struct {
	options
	requests requests
	dir      string
	curves   []curve
}

// How much of each there is. Of calls it is per second.
var (
	callRates          = []float64{100, 250, 500, 1000, 2000}
	routeCounts        = []int{10, 100, 1000, 10_000}
	storeCounts        = []int{1, 2, 4, 8}
	organizationCounts = []int{1, 100, 10_000, 100_000}
)

func (g *growth) run(ctx context.Context) error {
	g.dir = filepath.Join(g.dir, "growth")
	for _, measure := range []func(context.Context) error{g.rates, g.routes, g.stores, g.organizations, g.backlog} {
		if err := measure(ctx); err != nil {
			return err
		}
		if err := os.RemoveAll(g.dir); err != nil {
			return err
		}
	}
	return nil
}

// sweep measures each point in each round, from the least to the most and back, so that what
// the machine does meanwhile is on all of them.
func sweep[X int | float64](ctx context.Context, g *growth, of, cost string, at []X, measure func(x X) (float64, error)) error {
	bar := rig.NewProgress("growth: " + of)
	costs := make([][]float64, len(at))
	for round := range g.Rounds {
		for n := range at {
			if err := ctx.Err(); err != nil {
				return err
			}
			i := n
			if round%2 == 1 {
				i = len(at) - 1 - n
			}
			c, err := measure(at[i])
			if err != nil {
				return fmt.Errorf("measuring %s with %v %s: %w", cost, at[i], of, err)
			}
			costs[i] = append(costs[i], c)
			bar.Step(round*len(at)+n+1, g.Rounds*len(at), fmt.Sprintf("%v: %.1f", at[i], c))
		}
	}
	c := curve{Of: of, Cost: cost}
	for i, x := range at {
		c.Points = append(c.Points, point{float64(x), spreadOf(costs[i])})
	}
	g.curves = append(g.curves, c)
	return nil
}

// rates has calls come that wait for none before them, to a site that audits and to one
// that does not.
func (g *growth) rates(ctx context.Context) error {
	lives := map[string]*life{}
	defer func() {
		for _, l := range lives {
			l.proc.Kill()
		}
	}()
	for _, v := range []variant{plain, answer} {
		l, err := g.requests.start(ctx, v, filepath.Join(g.dir, v.name))
		if err != nil {
			return err
		}
		lives[v.name] = l
	}
	return sweep(ctx, g, "calls a second", "percent of a processor that recording at answer takes", callRates, func(rate float64) (float64, error) {
		var percent [2]float64
		for i, v := range []variant{answer, plain} {
			f, err := g.requests.measure(ctx, lives[v.name], half, rate)
			if err != nil {
				return 0, err
			}
			percent[i] = f.CPU * f.Rate / 1e4 // of what came, should it not be what was asked for
		}
		return round3(percent[0] - percent[1]), nil
	})
}

// routes derives entries by catalogs of more and more operations.
func (g *growth) routes(ctx context.Context) error {
	const calls = 50_000
	derivers := map[int]*audit.Deriver{}
	for _, n := range routeCounts {
		var operations []audit.Operation
		for i := range n {
			operations = append(operations, audit.Operation{
				Method: "GET", Template: fmt.Sprintf("/v1/things-%d/{id}/parts/{part}", i), Code: fmt.Sprintf("v1-get-part-%d", i),
			})
		}
		catalog, err := audit.NewCatalog(operations)
		if err != nil {
			return err
		}
		derivers[n] = &audit.Deriver{Platform: &audit.Platform{Name: "growth", Catalog: catalog}, Key: new(audit.TokenKey)}
	}
	return sweep(ctx, g, "routes", "µs to derive an entry", routeCounts, func(n int) (float64, error) {
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		paths := make([]string, 4096)
		for i := range paths {
			paths[i] = fmt.Sprintf("/v1/things-%d/thing-%d/parts/%d", rng.IntN(n), i, i)
		}
		start := time.Now()
		for i := range calls {
			c := audit.Call{
				Arrived: start, Method: "GET", Host: "api.example.com", Path: paths[i%len(paths)], Authorization: credential,
				UserAgent: "speed/1", ClientIP: "203.0.113.9", PeerIP: "203.0.113.9",
			}
			if _, facts := derivers[n].Intent(&c); facts.Operation == nil {
				return 0, fmt.Errorf("no operation was found for %s", c.Path)
			}
		}
		return round3(float64(time.Since(start).Nanoseconds()) / 1e3 / calls), nil
	})
}

// stores delivers a backlog to more and more stores that cost nothing, at the same time.
func (g *growth) stores(ctx context.Context) error {
	dir := filepath.Join(g.dir, "buffer")
	d := drains{options: g.options, dir: g.dir}
	if err := d.fill(ctx, dir, organizations, time.Now(), 1); err != nil {
		return err
	}
	attempt := 0
	return sweep(ctx, g, "stores", "µs of processor time an entry for all of them", storeCounts, func(n int) (cost float64, err error) {
		attempt++
		b, err := buffer.Open(dir, buffer.Options{MaxSize: 1 << 40, MaxWait: time.Minute})
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, b.Close(ctx)) }()
		if err := b.Attach("who keeps it", buffer.Attachment{Destination: "who keeps it", From: buffer.FromOldest}); err != nil {
			return 0, err
		}
		running, stop := context.WithTimeout(ctx, drainTime)
		defer stop()
		head, names, ended := b.Stats().Head, []string{}, make(chan error, n)
		before, err := usageOf(os.Getpid())
		if err != nil {
			return 0, err
		}
		for i := range n {
			name := fmt.Sprintf("store %d of attempt %d", i, attempt)
			if err := b.Attach(name, buffer.Attachment{Destination: name, From: buffer.FromOldest}); err != nil {
				return 0, err
			}
			names = append(names, name)
			go func() { ended <- forwarder.New(name, source{b}, nothing{}, forwarder.Options{}).Run(running) }()
		}
		for _, name := range names {
			for b.Position(name) < head && running.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
		after, err := usageOf(os.Getpid())
		late := running.Err()
		stop()
		for range names {
			err = errors.Join(err, <-ended)
		}
		for _, name := range names {
			b.Remove(name, time.Time{})
		}
		return round3(float64((after.CPU - before.CPU).Microseconds()) / float64(head)), errors.Join(err, late)
	})
}

// organizations delivers the entries of more and more organizations to SQLite.
func (g *growth) organizations(ctx context.Context) error {
	d := drains{options: g.options, dir: g.dir}
	seed := uint64(0)
	return sweep(ctx, g, "organizations", "µs to deliver an entry to SQLite", organizationCounts, func(n int) (float64, error) {
		dir := filepath.Join(g.dir, "organizations")
		seed++
		if err := d.fill(ctx, filepath.Join(dir, "buffer"), n, time.Now(), seed); err != nil {
			return 0, err
		}
		rate, err := d.drain(ctx, dir, intoSQLite, 0, func() (forwarder.Store, error) {
			return sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "audit.db")}, slog.New(slog.DiscardHandler))
		})
		return round3(1e6 / rate), errors.Join(err, os.RemoveAll(dir))
	})
}

// backlog appends to a buffer in which more and more wait, beside an empty one.
func (g *growth) backlog(ctx context.Context) (err error) {
	p := pending{options: g.options, dir: g.dir}
	full, err := p.open("full")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, full.close()) }()
	c := curve{Of: "entries that wait", Cost: "times the time of an append with none"}
	for _, of := range []int{100, 10, 1} {
		if have := int(full.Stats().Head); have < g.Pending/of {
			p.Pending = g.Pending/of - have
			if err := p.fill(ctx, full); err != nil {
				return fmt.Errorf("filling a buffer: %w", err)
			}
		}
		at := full.Stats().Head
		fulls, empties, err := p.turns(ctx, full)
		if err != nil {
			return err
		}
		c.Points = append(c.Points, point{float64(at), ratios(empties, fulls)})
	}
	g.curves = append(g.curves, c)
	return nil
}

// plotWidth is how many characters the highest cost of a curve takes.
const plotWidth = 40

// plot draws a curve.
func (c curve) plot(w io.Writer) {
	most := 0.0
	for _, p := range c.Points {
		most = max(most, p.Cost.Median)
	}
	fmt.Fprintf(w, "\n%s\n", c.Cost)
	for i, p := range c.Points {
		length := 0
		if most > 0 {
			length = max(0, int(p.Cost.Median/most*plotWidth+0.5))
		}
		of := ""
		if i == 0 {
			of = c.Of
		}
		fmt.Fprintf(w, "%18s %10.0f %-*s %s\n", of, p.At, plotWidth, strings.Repeat("█", length), p.Cost.text("%.2f"))
	}
}
