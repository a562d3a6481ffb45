//go:build unix

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations with an error below 2 %, in constant space: each
// power of two nanoseconds has 64 steps.
type histogram struct {
	counts [64 * 64]uint64
	n      uint64
}

func (h *histogram) add(d time.Duration) {
	h.counts[step(uint64(max(d, 0)))]++
	h.n++
}

func step(v uint64) int {
	if v < 64 {
		return int(v)
	}
	exp := bits.Len64(v) - 7 // v>>exp lies in [64, 128)
	return (exp+1)*64 + int(v>>exp) - 64
}

// floor is the smallest value of a step.
func floor(step int) uint64 {
	if step < 64 {
		return uint64(step)
	}
	return uint64(step%64+64) << (step/64 - 1)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// quantile is the value below which a share q of what was counted lies.
func (h *histogram) quantile(q float64) time.Duration {
	rank := min(uint64(q*float64(h.n)), max(h.n, 1)-1)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen > rank {
			return time.Duration(floor(i))
		}
	}
	return 0
}
