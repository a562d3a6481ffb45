package page

import (
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The histogram's measures, in pixels. Along time it has the page's width, so those
// measures are in percent.
const (
	plotHeight = 72
	barShare   = 0.8
	leastBar   = 3
	mostTicks  = 9
)

// histogram is what happened over time.
type histogram struct {
	Bars  []bar
	Ticks []tick
	// Summary says it in words.
	Summary string
	// Height is the plot's; Peak is how many entries its highest bar has, and Part how
	// much time each has.
	Height     int
	Peak, Part string
}

// bar is a part of time. Each has a place, and those with entries lead to them.
type bar struct {
	// X and Width are of the part, Left and Thick of its bar: percents.
	X, Width, Left, Thick string
	// Good and Bad are the heights of what succeeded and of what did not, and Top and
	// Middle where each begins.
	Good, Bad, Top, Middle int
	Total, Failed          string
	Span, Label, URL       string
	// From and To are for the script that lets a reader drag over bars.
	From, To string
}

type tick struct{ X, Label string }

// newHistogram draws a Tally; nil if it has nothing to draw.
func newHistogram(l *Log, c clock) *histogram {
	if l.Tally == nil || len(l.Tally.Buckets) == 0 || !l.From.Before(l.To) {
		return nil
	}
	var most int64
	for _, b := range l.Tally.Buckets {
		most = max(most, b.Total)
	}
	if most == 0 {
		return nil
	}
	h := &histogram{Height: plotHeight, Peak: number(most), Part: length(l.Tally.Width()), Ticks: ticks(l.From, l.To, c)}
	h.Summary = number(l.Tally.Total) + plural(l.Tally.Total, " entry", " entries") + " over time, " + number(l.Tally.Failed) + " of them without success."
	n := len(l.Tally.Buckets)
	for i, b := range l.Tally.Buckets {
		to := l.To
		if i+1 < n {
			to = time.UnixMicro(l.Tally.Buckets[i+1].From)
		}
		h.Bars = append(h.Bars, newBar(l.View, c, b, i, n, to, most))
	}
	return h
}

func newBar(v View, c clock, b forwarder.Bucket, i, n int, to time.Time, most int64) bar {
	from := time.UnixMicro(b.From)
	width := 100 / float64(n)
	d := bar{
		X: percent(width * float64(i)), Width: percent(width),
		Left: percent(width * (float64(i) + (1-barShare)/2)), Thick: percent(width * barShare),
		Good: height(b.Total-b.Failed, most), Bad: height(b.Failed, most),
		Total: number(b.Total), Failed: number(b.Failed),
		From: from.UTC().Format(time.RFC3339Nano), To: to.UTC().Format(time.RFC3339Nano),
		Span: c.span(from, to),
	}
	d.Label = d.Span + ": " + number(b.Total) + plural(b.Total, " entry", " entries")
	d.Good = min(d.Good, plotHeight-d.Bad)
	d.Middle = plotHeight - d.Bad
	d.Top = d.Middle - d.Good
	if b.Failed > 0 {
		d.Label += ", " + number(b.Failed) + " without success"
	}
	if b.Total > 0 {
		d.URL = v.Between(from, to).URL()
	}
	return d
}

// height is that of a count. One alone can be seen beside a million.
func height(count, most int64) int {
	if count <= 0 {
		return 0
	}
	return max(leastBar, int(float64(plotHeight)*float64(count)/float64(most)))
}

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) + "%" }

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// steps are how far ticks may be apart: what people count time in.
var steps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 5 * day, 7 * day, 14 * day, 30 * day, 90 * day, 365 * day,
}

const day = 24 * time.Hour

// ticks are at whole steps of the clock on the reader's wall. Where that is put forward
// or back, they are not equally far apart.
func ticks(from, to time.Time, c clock) (all []tick) {
	length := to.Sub(from)
	step := steps[len(steps)-1]
	for _, s := range steps {
		if length/s < mostTicks {
			step = s
			break
		}
	}
	layout, midnight := "15:04", "2 Jan"
	switch {
	case step >= 90*day:
		midnight = "Jan 2006"
	case step < time.Minute:
		layout = "15:04:05"
	}
	local := from.In(c.zone)
	at := func(i int) time.Time { // a second of the wall's clock
		return time.Date(local.Year(), local.Month(), local.Day(), 0, 0, i*int(step/time.Second), 0, c.zone)
	}
	first := int(max(0, from.Sub(at(0))-2*time.Hour) / step) // the clock may have been put forward
	for i := first; ; i++ {
		at := at(i)
		if !at.Before(to) {
			break
		}
		x := float64(at.Sub(from)) / float64(length) * 100
		if at.Before(from) || x < 3 || x > 97 { // a label at the edge would be cut
			continue
		}
		label := at.Format(layout)
		if h, m, s := at.Clock(); h+m+s == 0 {
			label = at.Format(midnight)
		}
		all = append(all, tick{X: percent(x), Label: label})
	}
	return all
}
