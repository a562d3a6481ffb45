//go:build servers

package page

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// reach is what a script can see of it: structure, ARIA, labels, targets, contrast.
//
//go:embed reach.js
var reach string

// isReachable says what of the page that is open somebody could not see, hear or reach.
func (b *tab) isReachable(where string) {
	b.Helper()
	found := append(eval[[]string](b, reach), b.spoken()...)
	for _, f := range found {
		b.Errorf("%s: %s", where, f)
	}
}

// spoken looks at what Chromium tells a screen reader.
func (b *tab) spoken() (found []string) {
	b.Helper()
	tree, err := chromedp.Run(b.ctx, func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	b.must(err)
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			_ = json.Unmarshal(v.Value, &s)
		}
		return strings.TrimSpace(s)
	}
	roles, top, modal := map[string]int{}, 0, false
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, name := text(n.Role), text(n.Name)
		roles[role]++
		focusable := false
		for _, p := range n.Properties {
			switch string(p.Name) {
			case "focusable":
				focusable = string(p.Value.Value) == "true"
			case "modal":
				modal = modal || string(p.Value.Value) == "true"
			case "level":
				if role == "heading" && string(p.Value.Value) == "1" {
					top++
				}
			}
		}
		named := slices.Contains([]string{"button", "link", "checkbox", "textbox", "searchbox", "combobox", "tab", "tabpanel", "dialog", "table", "heading", "navigation", "complementary", "region", "columnheader", "DisclosureTriangle", "Date", "DateTime", "InputTime", "search"}, role)
		if name == "" && (named || focusable && role != "RootWebArea" && role != "generic") {
			found = append(found, fmt.Sprintf("a %s has no name (DOM node %d)", role, n.BackendDOMNodeID))
		}
	}
	if modal { // there is nothing else meanwhile
		return found
	}
	if top != 1 {
		found = append(found, fmt.Sprintf("there are %d headings of level 1", top))
	}
	for role, want := range map[string]int{"main": 1, "banner": 1} {
		if roles[role] != want {
			found = append(found, fmt.Sprintf("there are %d landmarks %s", roles[role], role))
		}
	}
	return found
}

// faults are what somebody may do to a page, and what must be said of it then.
var faults = map[string]string{
	`document.querySelector("#theme").removeAttribute("aria-label")`: "a button has no name",
	`document.querySelector("#text").removeAttribute("aria-label")`:  "a field has no label",
	`document.querySelector("h1").outerHTML = "<p>Audit log</p>"`:    "there are 0 headings of level 1",
	`document.querySelector("h2").outerHTML = "<h3>x</h3>"`:          "a heading of level 3 follows one of level 1",
	`document.querySelector("main").outerHTML = "<div>text</div>"`:   "there is not one main",
	`document.querySelector(".facts").style.color = "#999"`:          "has a contrast of",
	`document.querySelector("main").style.opacity = ".5"`:            "has a contrast of",
	`document.querySelectorAll(".ranges a").forEach((a) => { a.style.minHeight = "14px"; a.style.padding = "0"; a.parentNode.style.display = "block"; a.style.width = "14px"; })`: "too near to another one",
	`document.querySelector("table").setAttribute("aria-lable", "x")`:                                                         "an unknown attribute aria-lable",
	`document.querySelector("table").setAttribute("aria-describedby", "nothing")`:                                             "which is not there",
	`document.querySelector("tr").setAttribute("role", "rwo")`:                                                                "an unknown role rwo",
	`document.querySelector("h1").id = "text"`:                                                                                "an id is there twice",
	`document.querySelector(".brand").setAttribute("aria-hidden", "true")`:                                                    "can have the focus",
	`document.body.append("text"), document.body.append(document.createElement("p")), document.body.lastChild.append("text")`: "outside of the landmarks",
}

func TestTheLookFindsWhatIsWrong(t *testing.T) {
	b := open(t, memberEmail)
	for fault, want := range faults {
		b.visit(logOf(acme) + "?outcome=denied")
		eval[any](b, `(() => { `+fault+`; return null; })()`)
		found := append(eval[[]string](b, reach), b.spoken()...)
		if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%s: %q was not found, but %q", fault, want, found)
		}
	}
}

// stop is where the tab key leads to.
type stop struct {
	Key, HTML    string
	Seen, Marked bool
}

// focused describes what has the focus; a key that is empty is nothing of the page.
const focused = `(() => {
	const e = document.activeElement;
	if (!e || e === document.body || e === document.documentElement) return { Key: "" };
	window.stops ??= new Map();
	if (!stops.has(e)) stops.set(e, String(stops.size + 1));
	const r = e.getClientRects()[0] ?? e.getBoundingClientRect();
	const x = Math.min(Math.max(r.left + r.width / 2, 0), innerWidth - 1), y = Math.min(Math.max(r.top + r.height / 2, 0), innerHeight - 1);
	const hit = document.elementFromPoint(x, y);
	const style = getComputedStyle(e);
	const bar = e.closest(".bars") && e.querySelector(".hit");
	return {
		Key: stops.get(e), HTML: e.outerHTML.replace(/\s+/g, " ").slice(0, 160),
		Seen: !!hit && (e.contains(hit) || hit.contains(e) && hit.closest("label, td, .line") !== null),
		Marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 || !!bar && getComputedStyle(bar).stroke !== "none",
	};
})()`

// tabs goes around the page by the tab key, and says what it does not
// reach, and where a reader does not see where they are.
func (b *tab) tabs(where string) {
	b.Helper()
	eval[any](b, `(document.activeElement?.blur(), getSelection().removeAllRanges(), scrollTo(0, 0), delete window.stops, null)`)
	wanted := eval[int](b, `(() => {
		window.wanted = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, pre[tabindex]")].filter((e) => e.tabIndex >= 0 && !e.disabled && !e.closest("[inert]") && e.checkVisibility({ visibilityProperty: true }));
		return wanted.length;
	})()`)
	seen := map[string]bool{}
	for range 3 * (wanted + 20) { // a field for a time has several stops
		b.keys(kb.Tab)
		s := eval[stop](b, focused)
		if s.Key == "1" && len(seen) > 1 { // once around
			break
		}
		if s.Key == "" || seen[s.Key] {
			continue
		}
		seen[s.Key] = true
		if !s.Seen {
			b.Errorf("%s: something lies over what has the focus: %s", where, s.HTML)
		}
		if !s.Marked {
			b.Errorf("%s: nothing shows that this has the focus: %s", where, s.HTML)
		}
	}
	for _, missed := range eval[[]string](b, `wanted.filter((e) => !stops.has(e)).map((e) => e.outerHTML.replace(/\s+/g, " ").slice(0, 160))`) {
		b.Errorf("%s: the tab key does not reach %s", where, missed)
	}
	if wanted < 2 {
		b.Errorf("%s: there are %d things to reach", where, wanted)
	}
}

// looks are how the page may look.
var looks = []struct {
	name          string
	scheme        string
	width, height int64
	phone         bool
}{
	{"light at a desk", "light", 1280, 900, false},
	{"dark at a desk", "dark", 1280, 900, false},
	{"light on a phone", "light", 360, 740, true},
	{"dark on a phone", "dark", 360, 740, true},
}

func TestThePageIsReachableForEverybody(t *testing.T) {
	for _, look := range looks {
		t.Run(look.name, func(t *testing.T) {
			b := open(t, memberEmail)
			b.allow("Failed to load resource: the server responded with a status of ")
			b.size(look.width, look.height, look.phone)
			b.prefer(look.scheme)
			b.visit(logOf(acme) + "?range=30d&outcome=denied&outcome=failure")
			b.isReachable("the log")
			for _, menu := range []string{".export", ".custom"} {
				b.click(menu + " > summary")
				b.await(`document.querySelector(%s).open`, menu)
				b.isReachable("the menu " + menu)
				b.keys(kb.Escape)
			}
			eval[any](b, `document.querySelectorAll("details:not(.menu)").forEach((d) => { d.open = true; })`)
			b.isReachable("the log with all opened")
			b.click("tr.entry .c-select input")
			b.await(`!document.querySelector("#selected").hidden`)
			b.isReachable("a selection")
			b.click("#clear-selected")
			b.keys("?")
			b.await(`document.querySelector("#keys").open`)
			b.isReachable("the keys")
			b.keys(kb.Escape)
			b.click("tr.entry a.open")
			b.there("#panel #entry")
			b.isReachable("the panel")
			b.click("#tab-json")
			b.isReachable("the panel's JSON")
			b.visit(logOf(acme) + "/entries/" + site.of[acme.ID][5].ID)
			b.isReachable("an entry's page")
			b.visit("/")
			b.isReachable("the beginning")
			b.visit(logOf(hostile) + "?range=1h")
			b.isReachable("a hostile log")
			for name, c := range states {
				if c.email == memberEmail {
					b.visit(c.path)
					b.isReachable("the state " + name)
				}
			}
		})
	}
}

func TestTheTabKeyReachesEverything(t *testing.T) {
	for _, look := range looks {
		if look.scheme != "light" {
			continue
		}
		t.Run(look.name, func(t *testing.T) {
			b := open(t, memberEmail)
			b.size(look.width, look.height, look.phone)
			b.prefer(look.scheme)
			b.visit(logOf(acme) + "?range=7d&outcome=failure")
			if look.phone {
				b.click(".filters > summary")
			}
			b.tabs("the log")
			b.click("tr.entry a.open")
			b.there("#panel #entry")
			b.tabs("the panel")
			b.visit(logOf(acme) + "/entries/" + site.of[acme.ID][5].ID)
			b.tabs("an entry's page")
		})
	}
}

func TestWithoutScriptsThePageIsReachableToo(t *testing.T) {
	b := open(t, memberEmail)
	b.withoutScripts()
	b.visit(logOf(acme) + "?range=7d&outcome=failure")
	b.isReachable("the log")
	b.tabs("the log")
	b.visit(logOf(acme) + "/entries/" + site.of[acme.ID][5].ID)
	b.isReachable("an entry's page")
}
