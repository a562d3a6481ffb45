package page

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// stamp is a time as a reader sees it.
type stamp struct {
	// ISO is for programs, and Full for whoever wants all of it.
	ISO, Full string
	// Day, Clock and Fraction are it in parts.
	Day, Clock, Fraction string
}

// clock writes times in the reader's zone. The year is left out where it is the one that
// the reader is looking at.
type clock struct {
	zone *time.Location
	year int
}

func newClock(zone *time.Location, about time.Time) clock {
	if zone == nil {
		zone = time.UTC
	}
	return clock{zone, about.In(zone).Year()}
}

func (c clock) stamp(t time.Time) stamp {
	t = t.In(c.zone)
	day := "2 Jan"
	if t.Year() != c.year {
		day = "2 Jan 2006"
	}
	full := "Monday, 2 January 2006, 15:04:05.000000 UTC"
	if _, offset := t.Zone(); offset != 0 {
		full += "-07:00"
	}
	return stamp{
		ISO: t.Format("2006-01-02T15:04:05.000000Z07:00"), Full: t.Format(full),
		Day: t.Format(day), Clock: t.Format("15:04:05"), Fraction: t.Format(".000"),
	}
}

func (c clock) micros(us int64) stamp { return c.stamp(time.UnixMicro(us)) }

// short is a time beside another one: without its day where that is the same.
func (c clock) short(t, beside time.Time) string {
	s := c.stamp(t)
	if c.stamp(beside).Day == s.Day {
		return s.Clock
	}
	return s.Day + ", " + s.Clock
}

// span is a part of time.
func (c clock) span(from, to time.Time) string {
	layout := "2 Jan 2006, 15:04"
	if !from.Truncate(time.Minute).Equal(from) || !to.Truncate(time.Minute).Equal(to) {
		layout = "2 Jan 2006, 15:04:05"
	}
	from, to = from.In(c.zone), to.In(c.zone)
	end := to.Format(layout)
	if from.Format(time.DateOnly) == to.Format(time.DateOnly) {
		end = end[len(to.Format("2 Jan 2006, ")):]
	}
	return from.Format(layout) + " – " + end
}

// days is a length of time for people.
func days(d time.Duration) string {
	switch n := int64(d / (24 * time.Hour)); {
	case n == 1:
		return "1 day"
	case n > 1:
		return number(n) + " days"
	default:
		return d.Round(time.Minute).String()
	}
}

// length is a part of time in the one or two units that matter.
func length(d time.Duration) string {
	switch {
	case d >= day:
		d = d.Round(time.Hour)
	case d >= time.Hour:
		d = d.Round(time.Minute)
	case d >= time.Second:
		d = d.Round(time.Second)
	}
	var parts []string
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if n := int64(d / u.unit); n > 0 && len(parts) < 2 {
			parts = append(parts, number(n)+" "+u.name)
			d -= time.Duration(n) * u.unit
		}
	}
	return strings.Join(parts, " ")
}

// duration writes microseconds for people.
func duration(us int64) string {
	switch {
	case us < 1000:
		return strconv.FormatInt(us, 10) + " µs"
	case us < 10_000_000:
		return strconv.FormatFloat(float64(us)/1000, 'f', -1, 64) + " ms"
	default:
		return strconv.FormatFloat(float64(us)/1e6, 'f', 1, 64) + " s"
	}
}

// zones are those that a reader may choose beside UTC, their own and their browser's.
var zones = []string{
	"America/Los_Angeles", "America/New_York", "America/Sao_Paulo", "Europe/London", "Europe/Berlin", "Europe/Kyiv",
	"Africa/Lagos", "Asia/Dubai", "Asia/Kolkata", "Asia/Singapore", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney",
}

// choice is one of several values that a reader can have.
type choice struct {
	Value, Label, URL string
	Chosen            bool
}

func zoneChoices(zone string) []choice {
	names := slices.Concat([]string{"UTC"}, zones)
	if !slices.Contains(names, zone) {
		names = slices.Insert(names, 1, zone)
	}
	all := make([]choice, 0, len(names))
	for _, name := range names {
		all = append(all, choice{Value: name, Label: visible(name), Chosen: name == zone})
	}
	return all
}
