package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// spread is a figure over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return spread{Median: round3((s[(n-1)/2] + s[n/2]) / 2), Min: round3(s[0]), Max: round3(s[n-1])}
}

// round3 cuts digits that no measurement here has.
func round3(v float64) float64 { return math.Round(v*1000) / 1000 }

// summary is one line of the table.
type summary struct {
	Variant string `json:"variant"`
	Method  string `json:"method"`
	Rate    spread `json:"requests_per_second"`
	P50     spread `json:"p50_ms"`
	P99     spread `json:"p99_ms"`
	CPU     spread `json:"cpu_us_per_request"`
	Total   spread `json:"cpu_us_per_request_delivered"`
	Written spread `json:"kib_written_per_request"`
	// Ratios to plain are taken within each round, where the disk and the
	// neighbours were the same, and only then summed up.
	RateRatio spread `json:"rate_of_plain"`
	CPURatio  spread `json:"cpu_of_plain"`
	// CPUExtra is the difference to plain in µs, likewise.
	CPUExtra spread `json:"cpu_us_above_plain"`
}

// syncs is what it took to make 4 KiB durable, without the product.
type syncs struct {
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Longest float64 `json:"longest_ms"`
	N       uint64  `json:"n"`
}

type result struct {
	Rounds      int     `json:"rounds"`
	Connections int     `json:"connections"`
	CPUs        int     `json:"cpus"`
	DelayMS     float64 `json:"upstream_delay_ms"`
	// Between is the disk before each round, at its own pace; During is the
	// disk ten times a second all along.
	Between syncs     `json:"fdatasync_between"`
	During  syncs     `json:"fdatasync_during"`
	Lines   []summary `json:"lines"`
	// Figures are those of each round, printed with -json.
	Figures []figures `json:"figures,omitempty"`
}

func (r *result) summarize() {
	for _, method := range methods {
		base := r.of(plain, method)
		for _, v := range variants {
			fs := r.of(v, method)
			pick := func(f func(f, base figures) float64) spread {
				var all []float64
				for i := range fs {
					all = append(all, f(fs[i], base[i]))
				}
				return spreadOf(all)
			}
			r.Lines = append(r.Lines, summary{
				Variant: v, Method: method,
				Rate:      pick(func(f, _ figures) float64 { return f.Rate }),
				P50:       pick(func(f, _ figures) float64 { return f.P50 }),
				P99:       pick(func(f, _ figures) float64 { return f.P99 }),
				CPU:       pick(func(f, _ figures) float64 { return f.CPU }),
				Total:     pick(func(f, _ figures) float64 { return f.Total }),
				Written:   pick(func(f, _ figures) float64 { return f.Written }),
				RateRatio: pick(func(f, b figures) float64 { return f.Rate / b.Rate }),
				CPURatio:  pick(func(f, b figures) float64 { return f.CPU / b.CPU }),
				CPUExtra:  pick(func(f, b figures) float64 { return f.CPU - b.CPU }),
			})
		}
	}
}

// of are the figures of a variant and method, by round.
func (r *result) of(variant, method string) []figures {
	var fs []figures
	for _, f := range r.Figures {
		if f.Variant == variant && f.Method == method {
			fs = append(fs, f)
		}
	}
	return fs
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%d rounds, %d connections, an API that takes %g ms, load generator and API on the same %d CPUs; median (min–max)\n",
		r.Rounds, r.Connections, r.DelayMS, r.CPUs)
	for _, d := range []struct {
		when string
		syncs
	}{{"before each round", r.Between}, {"during the turns", r.During}} {
		fmt.Fprintf(w, "disk: fdatasync of 4 KiB %s p50 %.2f ms, p99 %.2f ms, longest %.0f ms (%d)\n", d.when, d.P50, d.P99, d.Longest, d.N)
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "METHOD\tVARIANT\tREQUESTS/S\tOF PLAIN\tP50 MS\tP99 MS\tCPU µS/REQUEST\tABOVE PLAIN\tWITH DELIVERY\tKIB WRITTEN/REQUEST")
	for _, l := range r.Lines {
		name := l.Variant
		if name == ours {
			name += map[string]string{"GET": " (answer)", "POST": " (strict)"}[l.Method]
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Method, name,
			l.Rate.text("%.0f"), l.RateRatio.text("%.2f"), l.P50.text("%.1f"), l.P99.text("%.1f"),
			l.CPU.text("%.0f"), l.CPUExtra.text("%+.0f"), l.Total.text("%.0f"), l.Written.text("%.1f"))
	}
	_ = tw.Flush()
}

func (s spread) text(format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
}
