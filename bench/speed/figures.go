//go:build unix

package main

import (
	"fmt"
	"math"
	"slices"
	"time"
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

func (s spread) text(format string) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
}

// ratios divides figures of the same rounds. What differs between rounds, the disk and the
// neighbours, is then on both sides.
func ratios(of, by []float64) spread {
	return pairs(of, by, func(a, b float64) float64 { return a / b })
}

func pairs(of, by []float64, f func(a, b float64) float64) spread {
	var all []float64
	for i := range min(len(of), len(by)) {
		all = append(all, f(of[i], by[i]))
	}
	return spreadOf(all)
}

// round3 cuts digits that no measurement here has.
func round3(v float64) float64 { return math.Round(v*1000) / 1000 }

func ms(d time.Duration) float64 { return round3(d.Seconds() * 1e3) }

// rate is how many there were a second.
func rate[N int | int64 | uint64](n N, d time.Duration) float64 {
	return round3(float64(n) / d.Seconds())
}
