package main

import (
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	// maxOpen is how long a start may take because of what waits, in ms.
	maxOpen = 1000
	// moreAtStart is how much more memory of its own a build may hold after a
	// start because of what waits, in MiB. A start reads one segment, of 64 MiB,
	// and keeps nothing of it but open calls; twice that leaves room for the
	// collector.
	moreAtStart = 128
	// drainOwn is what it may hold while it delivers, in MiB: an index and a
	// buffer of one segment, batches of up to 4 MiB in several shapes, and the
	// store's cache of 16 MiB, all of it twice because of the collector.
	drainOwn = 512
)

// result is what a run found; it is the program's last line. Sizes are in MiB.
type result struct {
	Entries  int     `json:"entries"`
	MiB      int64   `json:"mib"`
	Segments int     `json:"segments"`
	FillRate float64 `json:"fill_entries_per_second"`
	// Cold says that the page cache was emptied before each start and reading.
	Cold bool `json:"cold"`

	// Open is what the package alone takes to open the buffer, in ms; FirstCall
	// how much later than with an empty buffer a start has recorded its first
	// call.
	Open      spread  `json:"open_ms"`
	FirstCall float64 `json:"first_call_later_ms"`
	Full      turns   `json:"full"`
	Empty     turns   `json:"empty"`
	// Append is the rate of recorded calls into the full buffer, to that into
	// the empty one, within each round.
	Append spread `json:"append_ratio"`
	// ReadRate is what the package alone reads, in entries per second.
	ReadRate  float64  `json:"read_entries_per_second"`
	DrainRate float64  `json:"drain_entries_per_second"`
	Delivered int      `json:"delivered"`
	DrainPeak int64    `json:"drain_peak_resident"`
	DrainOwn  int64    `json:"drain_own_resident"`
	Broken    []string `json:"broken"`

	opens []float64
}

// turns are the figures of a place. Resident memory includes pages of files,
// which the system takes back when it likes; own memory does not.
type turns struct {
	Ready         spread `json:"ready_ms"`
	First         spread `json:"first_call_ms"`
	Rate          spread `json:"calls_per_second"`
	PeakAtStart   int64  `json:"start_peak_resident"`
	OwnAtStart    int64  `json:"start_own_resident"`
	PeakUnderLoad int64  `json:"load_peak_resident"`
	OwnUnderLoad  int64  `json:"load_own_resident"`

	readies, firsts, rates []float64
}

type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	v = slices.Sorted(slices.Values(v))
	return spread{round3((v[(len(v)-1)/2] + v[len(v)/2]) / 2), round3(v[0]), round3(v[len(v)-1])}
}

func round3(f float64) float64 { return math.Round(f*1e3) / 1e3 }

func rate(n int, seconds float64) float64 { return math.Round(float64(n) / seconds) }

func (r *result) summarize() {
	r.Open = spreadOf(r.opens)
	for _, t := range []*turns{&r.Full, &r.Empty} {
		t.Ready, t.First, t.Rate = spreadOf(t.readies), spreadOf(t.firsts), spreadOf(t.rates)
	}
	r.FirstCall = round3(r.Full.First.Median - r.Empty.First.Median)
	var ratios []float64
	for i, n := range r.Full.rates {
		ratios = append(ratios, n/r.Empty.rates[i])
	}
	r.Append = spreadOf(ratios)
	r.Broken = r.broken()
}

// broken says which bounds do not hold. Speed is reported, never judged: it is
// the machine's as much as the product's.
func (r *result) broken() []string {
	broken := []string{}
	bound := func(what string, is, most float64) {
		if is > most {
			broken = append(broken, fmt.Sprintf("%s: %.0f, and at most %.0f is promised", what, is, most))
		}
	}
	bound("opening the buffer, in ms", r.Open.Max, maxOpen)
	bound("a start's first call, in ms after that of an empty buffer", r.FirstCall, maxOpen)
	bound("memory after a start, in MiB beyond that with an empty buffer", float64(r.Full.OwnAtStart-r.Empty.OwnAtStart), moreAtStart)
	bound("memory under load, in MiB beyond that with an empty buffer", float64(r.Full.OwnUnderLoad-r.Empty.OwnUnderLoad), moreAtStart)
	bound("memory while it delivers, in MiB", float64(r.DrainOwn), drainOwn)
	return broken
}

func (r *result) print(w io.Writer) {
	cache := "page cache emptied before each start and reading"
	if !r.Cold {
		cache = "page cache as it was: only root may empty it"
	}
	fmt.Fprintf(w, "%d entries, %d MiB in %d segments, filled at %.0f/s; %s\n\n", r.Entries, r.MiB, r.Segments, r.FillRate, cache)
	fmt.Fprintf(w, "%-34s %10s %10s\n", "", "FULL", "EMPTY")
	for _, l := range []struct {
		name        string
		full, empty float64
	}{
		{"start to connections, ms", r.Full.Ready.Median, r.Empty.Ready.Median},
		{"start to first recorded call, ms", r.Full.First.Median, r.Empty.First.Median},
		{"own memory then, MiB", float64(r.Full.OwnAtStart), float64(r.Empty.OwnAtStart)},
		{"peak resident then, MiB", float64(r.Full.PeakAtStart), float64(r.Empty.PeakAtStart)},
		{"recorded calls/s", r.Full.Rate.Median, r.Empty.Rate.Median},
		{"own memory then, MiB", float64(r.Full.OwnUnderLoad), float64(r.Empty.OwnUnderLoad)},
		{"peak resident then, MiB", float64(r.Full.PeakUnderLoad), float64(r.Empty.PeakUnderLoad)},
	} {
		fmt.Fprintf(w, "%-34s %10.0f %10.0f\n", l.name, l.full, l.empty)
	}
	fmt.Fprintf(w, "\nthe package alone opens it in      %.0f ms (%.0f–%.0f)\n", r.Open.Median, r.Open.Min, r.Open.Max)
	fmt.Fprintf(w, "recorded calls, full to empty      %.2f (%.2f–%.2f)\n", r.Append.Median, r.Append.Min, r.Append.Max)
	fmt.Fprintf(w, "the package alone reads            %.0f entries/s\n", r.ReadRate)
	fmt.Fprintf(w, "delivered into SQLite              %.0f entries/s, own memory %d MiB, peak resident %d MiB\n\n", r.DrainRate, r.DrainOwn, r.DrainPeak)
	for _, b := range r.Broken {
		fmt.Fprintln(w, "problem:", b)
	}
}
