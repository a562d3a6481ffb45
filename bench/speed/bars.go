//go:build unix

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// bar is something that has to be reached, and what was.
type bar struct {
	What string `json:"what"`
	// Bar is the least that is good enough, and Aim what is wanted. Of most figures more is
	// better; where Less is set, less is.
	Bar  float64 `json:"bar"`
	Aim  float64 `json:"aim"`
	Less bool    `json:"less_is_better,omitempty"`
	Got  spread  `json:"got"`
}

func (b bar) verdict() string {
	reached := func(v float64) bool {
		if b.Less {
			return b.Got.Median <= v
		}
		return b.Got.Median >= v
	}
	switch {
	case reached(b.Aim):
		return "aim"
	case reached(b.Bar):
		return "bar"
	default:
		return "below"
	}
}

// bars are those of the parts that were measured.
func (r *runner) bars() (all []bar) {
	add := func(what string, bound, aim float64, less bool, got spread) {
		if got != (spread{}) {
			all = append(all, bar{what, bound, aim, less, got})
		}
	}
	q := &r.requests
	above := func(v variant) []float64 {
		of, by := q.of(v, full, theCPU), q.of(plain, full, theCPU)
		for i := range of {
			of[i] -= by[i]
		}
		return of
	}
	share := func(v variant) spread { return ratios(q.of(v, full, theRate), q.of(plain, full, theRate)) }
	late := func(v variant) spread { return ratios(q.of(v, half, theP99), q.of(access, half, theP99)) }
	memory := pairs(q.of(answer, full, theResident), q.of(plain, full, theResident), func(a, b float64) float64 { return a - b })
	add("CPU above plain, answer / access log", 1, 0.5, true, ratios(above(answer), above(access)))
	add("the same with GOGC=100, so without headroom", 1, 0.5, true, ratios(above(frugal), above(access)))
	add("the same while SQLite is delivered to", 1, 0.5, true, ratios(above(answered), above(access)))
	add("throughput, answer / plain", 0.85, 0.95, false, share(answer))
	add("the same while SQLite is delivered to", 0.85, 0.95, false, share(answered))
	add("throughput, strict / plain", 0.75, 0.9, false, share(strict))
	add("the same while SQLite is delivered to", 0.75, 0.9, false, share(intended))
	add("p99 at half load, answer / access log", 1.5, 1.2, true, late(answer))
	add("the same while SQLite is delivered to", 1.5, 1.2, true, late(answered))
	add("throughput, none / plain", 0.99, 1, false, share(unlisted))
	add("resident memory above plain, answer, MiB", 64, 32, true, memory)
	add("buffer, 64 appenders / growing file", 0.5, 0.7, false, ratios(r.appends.of(viaBuffer, 64), r.appends.of(viaGrowing, 64)))
	add("buffer, 1024 appenders / growing file", 0.45, 0.6, false, ratios(r.appends.of(viaBuffer, 1024), r.appends.of(viaGrowing, 1024)))
	add("durable records / OpenTelemetry Collector", 4, 8, false, r.records.ratio(64))
	if p := r.pending.line; p != nil {
		add("appends with much pending / empty", 0.9, 1, false, p.Ratio)
	}
	add("drain, SQLite / bare client", 0.7, 0.9, false, r.drains.ofBare("sqlite"))
	add("drain, PostgreSQL / bare client", 0.7, 0.9, false, r.drains.ofBare("postgres"))
	add("drain, SQLite with many rows / empty", 0.7, 0.95, false, r.drains.ofEmpty())
	add("drain from cold cache, no store, entries/s", 150_000, 500_000, false, r.drains.cold())
	return all
}

func printBars(w io.Writer, bars []bar) {
	if len(bars) == 0 {
		return
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\tGOT\tBAR\tAIM\tREACHED")
	for _, b := range bars {
		format, sign := "%.2f", "≥ "
		if b.Bar > 10 {
			format = "%.0f"
		}
		if b.Less {
			sign = "≤ "
		}
		fmt.Fprintf(tw, "%s\t%s\t%s%g\t%s%g\t%s\n", b.What, b.Got.text(format), sign, b.Bar, sign, b.Aim, b.verdict())
	}
	_ = tw.Flush()
}
