//go:build servers

package page

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp/kb"
)

// bar is a part of the histogram.
type bar struct {
	From, To time.Time
	Label    string
	X, Y     float64 // its middle
}

func (b *tab) bars() []bar {
	b.Helper()
	return eval[[]bar](b, `(document.querySelector("#bars").scrollIntoView({ block: "center", behavior: "instant" }), [...document.querySelectorAll("#bars .bar")].map((g) => {
		const r = g.querySelector(".hit").getBoundingClientRect();
		return { From: g.dataset.from, To: g.dataset.to, Label: g.querySelector("a")?.getAttribute("aria-label") ?? "", X: r.left + r.width / 2, Y: r.top + r.height / 2 };
	}))`)
}

// entries is what a bar says that it has.
func (h *bar) entries(t *testing.T) int {
	t.Helper()
	if h.Label == "" {
		return 0
	}
	_, says, _ := strings.Cut(h.Label, ": ")
	n, _, _ := strings.Cut(says, " ")
	count, err := strconv.Atoi(strings.ReplaceAll(n, ",", ""))
	if err != nil {
		t.Fatalf("a bar says %q", h.Label)
	}
	return count
}

func TestBarsSayHowManyEntriesTheirTimeHas(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d")
	s := b.look()
	for i, h := range b.bars() {
		part := shown{From: h.From, To: h.To}
		if i == 0 && part.From.Before(s.From) {
			part.From = s.From
		}
		if want, got := len(part.in(acme, nil)), h.entries(t); got != want {
			t.Errorf("the bar from %s to %s says %d, and there are %d", h.From, h.To, got, want)
		}
	}
}

func TestABarLeadsToItsTime(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d&outcome=success")
	var h bar
	for _, h = range b.bars()[20:] {
		if h.Label != "" {
			break
		}
	}
	before := eval[string](b, `location.href`)
	b.mouse(input.DispatchMouseEventTypeMouseMoved, h.X, h.Y)
	b.mouse(input.DispatchMouseEventTypeMousePressed, h.X, h.Y)
	b.mouse(input.DispatchMouseEventTypeMouseReleased, h.X, h.Y)
	b.await(`location.href !== %s`, before)
	if s := b.look(); !s.From.Equal(h.From) || !s.To.Equal(h.To) || s.Total != h.entries(t) {
		t.Errorf("the bar %q leads to %d entries from %s to %s", h.Label, s.Total, s.From, s.To)
	}
	if got := fmt.Sprint(b.param("outcome")); got != "[success]" {
		t.Errorf("the filter has become %s", got)
	}
}

func TestDraggingOverBarsChoosesTheirTime(t *testing.T) {
	for name, ends := range map[string][2]int{"to the right": {10, 30}, "to the left": {30, 10}} {
		t.Run(name, func(t *testing.T) {
			b := open(t, memberEmail)
			b.visit(logOf(acme) + "?range=7d")
			bars := b.bars()
			first, last := bars[10], bars[30]
			want := 0
			for _, h := range bars[10:31] {
				want += h.entries(t)
			}
			from, to := bars[ends[0]], bars[ends[1]]
			before := eval[string](b, `location.href`)
			b.mouse(input.DispatchMouseEventTypeMouseMoved, from.X, from.Y)
			b.mouse(input.DispatchMouseEventTypeMousePressed, from.X, from.Y)
			for part := range 5 {
				b.mouse(input.DispatchMouseEventTypeMouseMoved, from.X+(to.X-from.X)*float64(part+1)/5, from.Y+2)
			}
			if b.count("#bars .drag") != 1 {
				t.Error("nothing shows what is chosen")
			}
			b.mouse(input.DispatchMouseEventTypeMouseReleased, to.X, to.Y+2)
			b.await(`location.href !== %s`, before)
			if s := b.look(); !s.From.Equal(first.From) || !s.To.Equal(last.To) || s.Total != want {
				t.Errorf("%d entries from %s to %s are shown, want %d from %s to %s", s.Total, s.From, s.To, want, first.From, last.To)
			}
			if b.count("#bars .drag") != 0 {
				t.Error("what was chosen is still marked")
			}
			b.back()
			b.await(`new URL(location).searchParams.get("range") === "7d"`)
		})
	}
}

func TestBarsAreReachedByKeysToo(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d")
	n := b.count("#bars a")
	if stops := b.count(`#bars a[tabindex="0"]`); stops != 1 {
		t.Fatalf("the bars are %d stops of the tab key", stops)
	}
	eval[any](b, `document.querySelector('#bars a[tabindex="0"]').focus()`)
	b.keys(kb.ArrowLeft + kb.ArrowLeft + kb.ArrowRight)
	label := eval[string](b, `document.activeElement.getAttribute("aria-label")`)
	if want := eval[string](b, `document.querySelectorAll("#bars a")[%s].getAttribute("aria-label")`, n-2); label != want {
		t.Errorf("the keys have come to %q, want %q", label, want)
	}
	b.keys(kb.Enter)
	b.await(`new URL(location).searchParams.has("iso_timestamp_start")`)
	h := bar{Label: label}
	if s := b.look(); s.Total != h.entries(t) {
		t.Errorf("%q leads to %d entries", label, s.Total)
	}
}
