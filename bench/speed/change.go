//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// change is the part that holds a build against another one, that of the commit before:
// the processor time that each takes for a call, in turns. Time that a process has used is
// much the same however busy the machine is, which the time that passes is not.
type change struct {
	requests
	parent rig.Setup

	lines []changeLine
}

// compared are the variants of which the time is compared.
var compared = []variant{plain, answer, strict, answered}

// changeLine is what it found of a variant.
type changeLine struct {
	Variant string `json:"variant"`
	Parent  spread `json:"cpu_us_per_request_parent"`
	This    spread `json:"cpu_us_per_request"`
	Ratio   spread `json:"of_parent"`
	// Rate is the ratio of calls a second, which no limit is set to.
	Rate spread `json:"rate_of_parent"`
}

func (c *change) run(ctx context.Context) error {
	dir := filepath.Join(c.dir, "change")
	bar := rig.NewProgress("change")
	var lives [2][]*life // the parent's and ours
	defer func() {
		for _, l := range slices.Concat(lives[0], lives[1]) {
			l.proc.Kill()
		}
	}()
	for i, setup := range []rig.Setup{c.parent, c.setup} {
		q := c.requests
		q.setup = setup
		if err := q.read(); err != nil {
			return err
		}
		for n, v := range compared {
			l, err := q.start(ctx, v, filepath.Join(dir, fmt.Sprintf("%d-%d", i, n)))
			if err != nil {
				return err
			}
			lives[i] = append(lives[i], l)
		}
	}
	times, rates := make([][2][]float64, len(compared)), make([][2][]float64, len(compared))
	for round := range c.Rounds {
		for n, v := range compared {
			turn := []int{0, 1}
			if (round+n)%2 == 0 {
				slices.Reverse(turn)
			}
			for _, i := range turn {
				f, err := c.measure(ctx, lives[i][n], full, 0)
				if err != nil {
					return fmt.Errorf("measuring %s in round %d: %w", v.name, round+1, err)
				}
				times[n][i], rates[n][i] = append(times[n][i], f.CPU), append(rates[n][i], f.Rate)
			}
		}
		bar.Step(round+1, c.Rounds, "")
	}
	for n, v := range compared {
		c.lines = append(c.lines, changeLine{v.name, spreadOf(times[n][0]), spreadOf(times[n][1]), ratios(times[n][1], times[n][0]), ratios(rates[n][1], rates[n][0])})
	}
	return nil
}

// slower is the worst of the ratios, if it is beyond a limit.
func (c *change) slower(limit float64) error {
	for _, l := range c.lines {
		if l.Ratio.Median > limit {
			return fmt.Errorf("a call at %s takes %.2f of the processor time that it took in the build of -parent, and at most %.2f is allowed: look at -profiles, or say in the change why it is worth that",
				l.Variant, l.Ratio.Median, limit)
		}
	}
	return nil
}

func (c *change) print(w io.Writer) {
	fmt.Fprintf(w, "\nprocessor time of a call, 64 at a time, in µs\n%-20s %-26s %-26s %-24s %s\n", "", "PARENT", "THIS", "OF PARENT", "CALLS/S, OF PARENT")
	for _, l := range c.lines {
		fmt.Fprintf(w, "%-20s %-26s %-26s %-24s %s\n", l.Variant, l.Parent.text("%.0f"), l.This.text("%.0f"), l.Ratio.text("%.2f"), l.Rate.text("%.2f"))
	}
}
