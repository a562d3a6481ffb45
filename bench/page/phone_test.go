//go:build servers

package page

import (
	"slices"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// tap is click by a finger.
func (b *tab) tap(selector string) {
	b.Helper()
	x, y := b.point(selector)
	b.call(chromedp.TapXY(x, y))
}

// fits says that nothing is wider than the window.
func (b *tab) fits(where string) {
	b.Helper()
	if wide := eval[int](b, `Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth`); wide > 0 {
		b.Errorf("%s is %d pixels wider than the window: %s", where, wide, eval[string](b, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.outerHTML.slice(0, 100)).join("\n")`))
	}
}

func TestThePageFitsAPhone(t *testing.T) {
	b := open(t, memberEmail)
	b.size(360, 740, true)
	b.visit(logOf(acme) + "?range=7d")
	b.fits("the log")
	b.expect(acme, nil)

	const denied = `#filters input[name="outcome"][value="denied"]`
	if eval[bool](b, `document.querySelector(%s).checkVisibility()`, denied) {
		t.Error("filters fill the window before the entries")
	}
	b.tap(".filters > summary")
	b.await(`document.querySelector(%s).checkVisibility()`, denied)
	b.fits("the log with its filters")
	before := eval[string](b, `location.href`)
	b.tap(denied)
	b.await(`location.href !== %s`, before)
	b.expect(acme, func(e *audit.Entry) bool { return e.Outcome == audit.OutcomeDenied })
	if !slices.Equal(b.param("outcome"), []string{"denied"}) {
		t.Errorf("the address has the outcomes %q", b.param("outcome"))
	}
	b.fits("the filtered log")

	b.tap(".custom > summary")
	b.await(`document.querySelector(".custom .sheet").checkVisibility()`)
	b.fits("the choice of a time")
	if !eval[bool](b, `(() => { const r = document.querySelector(".custom .sheet").getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight && r.left >= 0; })()`) {
		t.Error("the choice of a time does not fit the window")
	}
	b.tap(".export > summary")
	b.await(`document.querySelector(".export .sheet").checkVisibility()`)
	b.fits("the export's menu")
	b.tap("h1")

	b.tap("tr.entry a.open")
	b.there("#panel #entry")
	b.fits("the panel")
	if !eval[bool](b, `(() => { const r = document.querySelector("#panel").getBoundingClientRect(); return r.left === 0 && r.width === innerWidth; })()`) {
		t.Error("the panel does not take the window's width")
	}
	if !eval[bool](b, `document.querySelector("main").inert`) {
		t.Error("what lies under the panel can be reached")
	}
	b.tap("#tab-json")
	b.fits("the panel's JSON")
	b.tap("#panel > .close")
	b.await(`document.querySelector("#panel").hidden && !document.querySelector("main").inert`)

	b.tap("tr.entry .c-select input")
	b.await(`document.querySelector("#selected-count").textContent === "1 selected"`)
	b.fits("the selection")
	b.visit(logOf(acme) + "/entries/" + b.look().Rows[0].ID)
	b.fits("the entry's page")
	b.visit("/")
	b.fits("the beginning")
	b.visit(logOf(quiet))
	b.fits("an empty log")
}
