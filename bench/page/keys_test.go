//go:build servers

package page

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
)

func TestAReaderGoesThroughTheLogByKeys(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d")
	list := eval[string](b, `location.href`)
	ids := b.look().ids()
	at := func(n int) {
		t.Helper()
		b.await(`document.querySelector("tr.entry.at")?.dataset.id === %s`, ids[n])
	}
	b.keys("j")
	at(0)
	b.keys("jjj")
	at(3)
	b.keys("k")
	at(2)
	b.keys(kb.ArrowDown)
	at(3)
	b.keys(kb.ArrowUp)
	at(2)
	if !eval[bool](b, `document.activeElement.closest("tr.entry")?.dataset.id === %s`, ids[2]) {
		t.Error("the focus is not at the row")
	}

	b.keys(kb.Enter)
	b.await(`document.querySelector("#panel #entry")?.dataset.id === %s`, ids[2])
	// With the panel open, the keys go on through the entries.
	b.keys("j")
	b.await(`document.querySelector("#panel #entry")?.dataset.id === %s && location.pathname.endsWith(%s)`, ids[3], ids[3])
	b.keys(kb.Escape)
	b.await(`document.querySelector("#panel").hidden && location.href === %s`, list)
	at(3)

	b.keys("x")
	b.await(`document.querySelectorAll("tr.entry.chosen").length === 1 && document.querySelector("tr.entry.chosen").dataset.id === %s`, ids[3])
	b.keys("jx")
	b.await(`document.querySelector("#selected-count").textContent === "2 selected"`)
	b.keys("x")
	b.await(`document.querySelector("#selected-count").textContent === "1 selected"`)

	b.keys("/")
	b.await(`document.activeElement.id === "text"`)
	b.keys("jkx?")
	if got := eval[string](b, `document.querySelector("#text").value`); got != "jkx?" {
		t.Errorf("typing jkx? into the search gives %q", got)
	}
	at(4)
	b.keys(kb.Escape)
	b.await(`document.activeElement === document.body`)

	b.keys("?")
	b.await(`document.querySelector("#keys").open`)
	b.keys("j")
	b.keys(kb.Escape)
	b.await(`!document.querySelector("#keys").open`)
	at(4)
}

func TestEscapeClosesAMenuAndLeavesTheFocusAtIt(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme))
	b.click(".export > summary")
	b.await(`document.querySelector(".export").open`)
	b.keys(kb.Escape)
	b.await(`!document.querySelector(".export").open && document.activeElement === document.querySelector(".export > summary")`)
	b.click(".export > summary")
	b.await(`document.querySelector(".export").open`)
	b.click("h1")
	b.await(`!document.querySelector(".export").open`)
}
