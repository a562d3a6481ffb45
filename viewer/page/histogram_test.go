package page

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestTheBarsCoverTheRange(t *testing.T) {
	failed := call(90*time.Minute, "b")
	failed.Outcome = audit.OutcomeDenied
	l := logOf(t, "outcome=success&outcome=denied&cursor=c", call(time.Minute, "a"), failed)
	doc := parsed(t, l)
	bars := all(doc, class("bar"))
	if len(bars) != len(l.Tally.Buckets) {
		t.Fatalf("there are %d bars for %d buckets", len(bars), len(l.Tally.Buckets))
	}
	at := l.From
	links := 0
	for _, b := range bars {
		from, to := moment(t, b, "data-from"), moment(t, b, "data-to")
		if !from.Equal(at) {
			t.Fatalf("a bar begins at %s where the one before ends at %s", from, at)
		}
		at = to
		for _, a := range all(b, tag("a")) {
			links++
			href := attr(a, "href")
			if href != l.View.Between(from, to).URL() || !strings.Contains(href, "outcome=success") || strings.Contains(href, "cursor") {
				t.Errorf("the bar of %s leads to %s", from, href)
			}
			if attr(a, "aria-label") == "" {
				t.Error("a bar has no name")
			}
		}
	}
	if !at.Equal(l.To) {
		t.Fatalf("the bars end at %s", at)
	}
	if links != 2 {
		t.Errorf("%d bars have entries instead of 2", links)
	}
	if text := textOf(one(t, doc, class("as-table"))); !strings.Contains(text, "29 Nov 2026, 10:30 – 11:0011") {
		t.Errorf("the table in the histogram's place says %q", text)
	}
}

func moment(t *testing.T, n *html.Node, name string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, attr(n, name))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestFailuresAreToldApartByTheirShape(t *testing.T) {
	failed := call(time.Minute, "b")
	failed.Outcome = audit.OutcomeFailure
	doc := parsed(t, logOf(t, "", failed))
	bars := one(t, doc, func(n *html.Node) bool { return attr(n, "id") == "bars" })
	bad := all(bars, class("bad"))
	if len(bad) != 1 || attr(bad[0], "fill") != "url(#hatch)" {
		t.Error("what failed is not hatched")
	}
	if len(all(bars, class("good"))) != 0 {
		t.Error("a success is drawn where there is none")
	}
}

func TestBarsStayInsideThePlot(t *testing.T) {
	var entries []*audit.Entry
	for i := range 300 {
		e := call(time.Minute, strconv.Itoa(i))
		if i == 0 {
			e.Outcome = audit.OutcomeFailure
		}
		entries = append(entries, e)
	}
	entries = append(entries, call(2*time.Hour, "one"))
	h := newHistogram(logOf(t, "", entries...), newClock(nil, noon))
	for _, b := range h.Bars {
		if b.Top < 0 || b.Top+b.Good != b.Middle || b.Middle+b.Bad != h.Height {
			t.Errorf("a bar has the heights %d, %d at %d, %d", b.Good, b.Bad, b.Top, b.Middle)
		}
		if b.Total == "1" && b.Good < leastBar {
			t.Error("one entry alone cannot be seen")
		}
	}
}

func TestTicksStandAtWholeHoursOfTheReader(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	labels := func(from, to time.Time) (all []string) {
		for _, k := range ticks(from, to, newClock(berlin, to)) {
			all = append(all, k.Label)
		}
		return all
	}
	for name, c := range map[string]struct {
		from, to time.Time
		want     []string
	}{
		"a day":          {noon.Add(-24 * time.Hour), noon, []string{"15:00", "18:00", "21:00", "29 Nov", "03:00", "06:00", "09:00", "12:00"}},
		"an hour":        {noon.Add(-time.Hour), noon, []string{"12:10", "12:20", "12:30", "12:40", "12:50"}},
		"a minute":       {noon.Add(-time.Minute), noon, []string{"12:59:15", "12:59:30", "12:59:45"}},
		"30 days":        {noon.Add(-30 * 24 * time.Hour), noon, []string{"4 Nov", "9 Nov", "14 Nov", "19 Nov", "24 Nov"}},
		"put forward":    {time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC), time.Date(2026, 3, 29, 10, 0, 0, 0, time.UTC), []string{"03:00", "04:00", "06:00", "08:00", "10:00"}},
		"two years long": {noon.AddDate(-2, 0, 0), noon, []string{"Feb 2025", "May 2025", "Aug 2025", "Nov 2025", "Feb 2026", "May 2026", "Aug 2026"}},
	} {
		if got := labels(c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q instead of %q", name, got, c.want)
		}
	}
}
