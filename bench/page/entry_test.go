//go:build servers

package page

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// mayCopy lets the tab read and write the clipboard, as a browser does once its user has
// allowed it.
func (b *tab) mayCopy() {
	b.Helper()
	c := chromedp.FromContext(b.ctx)
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := cdp.Call(b.ctx, c.Browser, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
			Permission: &cdpbrowser.PermissionDescriptor{Name: name}, Setting: cdpbrowser.PermissionSettingGranted, Origin: site.url, BrowserContextID: c.BrowserContextID,
		})
		b.must(err)
	}
}

func (b *tab) clipboard() string {
	b.Helper()
	return eval[string](b, `navigator.clipboard.readText()`)
}

// document is an entry as the API gives it.
func (b *tab) document(api string) map[string]any {
	b.Helper()
	return eval[map[string]any](b, `fetch(%s).then((r) => r.json())`, api)
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %.300s", err, text)
	}
	return v
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func TestARowOpensAPanelWithTheOverviewAndTheJSON(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d&outcome=success&token_type=jwt")
	list := eval[string](b, `location.href`)
	row := b.look().Rows[3]
	api := eval[string](b, `document.querySelectorAll("tr.entry")[3].dataset.api`)
	b.click("tr.entry:nth-of-type(4) .c-event a")
	b.there("#panel #entry")
	if path := b.path(); path != logOf(acme)+"/entries/"+row.ID {
		t.Errorf("the address is %s", path)
	}
	if h := b.text("#panel h1"); h != row.Event {
		t.Errorf("the panel of %q is headed %q", row.Event, h)
	}
	if !eval[bool](b, `document.activeElement === document.querySelector("#panel h1")`) {
		t.Error("the panel's heading has not got the focus")
	}
	doc := b.document(api)
	actor := doc["actor"].(map[string]any)
	overview := eval[string](b, `document.querySelector("#panel #overview").innerText`)
	for _, want := range []any{doc["id"], doc["request_id"], actor["email"], actor["ip"], actor["user_agent"], doc["action"].(map[string]any)["route"]} {
		if !strings.Contains(overview, want.(string)) {
			t.Errorf("the overview does not have %v", want)
		}
	}
	if eval[bool](b, `document.querySelector("#json").checkVisibility()`) {
		t.Error("both parts are shown")
	}
	b.click("#tab-json")
	b.await(`document.querySelector("#json").checkVisibility() && !document.querySelector("#overview").checkVisibility()`)
	if raw := decoded(t, eval[string](b, `document.querySelector("#json code").textContent`)); !same(raw, doc) || doc["id"] != row.ID {
		t.Errorf("the raw JSON is %v, and the API says %v", raw, doc)
	}
	// The tab that was chosen stays so for the next entry.
	b.click("tr.entry:nth-of-type(1) .c-date")
	b.await(`document.querySelector("#panel #entry")?.dataset.id === document.querySelector("tr.entry").dataset.id`)
	if !eval[bool](b, `document.querySelector("#json").checkVisibility()`) {
		t.Error("the next entry does not show the part that was chosen")
	}
	// Back closes the panel; the list under it was not asked for again.
	eval[any](b, `document.querySelector("main").same = true`)
	b.back()
	b.await(`document.querySelector("#panel").hidden && location.href === %s`, list)
	if !eval[bool](b, `document.querySelector("main").same === true`) {
		t.Error("the list was loaded again")
	}
	if !eval[bool](b, `document.activeElement === document.querySelector("tr.entry a.open")`) {
		t.Error("the focus has not come back to the row")
	}
	b.step(1)
	b.there("#panel #entry")
	b.click("#panel > .close")
	b.await(`document.querySelector("#panel").hidden && location.href === %s`, list)
	// The entry's address is a page for whoever opens it.
	b.visit(logOf(acme) + "/entries/" + row.ID)
	if h := b.text("main h1"); h != row.Event {
		t.Errorf("the entry's page is headed %q", h)
	}
	b.follow(".back a")
	b.there("tr.entry")
}

func TestCopyPutsTheEntrysJSONOnTheClipboard(t *testing.T) {
	b := open(t, memberEmail)
	b.mayCopy()
	b.visit(logOf(acme) + "?range=7d")
	b.click("tr.entry a.open")
	b.there("#panel #entry")
	b.click("#tab-json")
	b.click("#panel .copy")
	b.await(`document.querySelector("#panel .copy").textContent === "Copied"`)
	doc := b.document(eval[string](b, `document.querySelector("#entry").dataset.api`))
	if got := decoded(t, b.clipboard()); !same(got, doc) {
		t.Errorf("the clipboard has %v, and the entry is %v", got, doc)
	}
	if said := b.text("#live"); said == "" {
		t.Error("who does not see the page is not told")
	}
}

func TestSeveralRowsAreSelectedAndCopiedAsOneArray(t *testing.T) {
	b := open(t, memberEmail)
	b.mayCopy()
	b.visit(logOf(acme) + "?range=7d")
	rows := b.look().Rows
	var want []any
	var ids []string
	choose := func(n int) {
		of := format(`document.querySelectorAll("tr.entry")[%s].dataset.api`, n)
		want = append(want, b.document(eval[string](b, of)))
		eval[any](b, `document.querySelectorAll("tr.entry")[%s].id = "wanted"`, n)
		b.click("#wanted .c-select input")
		eval[any](b, `document.querySelector("#wanted").removeAttribute("id")`)
	}
	for _, n := range []int{4, 0, 17} {
		choose(n)
		ids = append(ids, rows[n].ID)
	}
	// A selection goes on over pages.
	b.follow(`a[rel="next"]`)
	choose(2)
	ids = append(ids, b.look().Rows[2].ID)
	if said := b.text("#selected-count"); said != "4 selected" {
		t.Errorf("it says %q", said)
	}
	b.click("#copy-selected")
	b.await(`document.querySelector("#selected-count").textContent === "4 copied"`)
	got, _ := decoded(t, b.clipboard()).([]any)
	if !same(got, want) {
		t.Errorf("the clipboard has %v, want %v", got, want)
	}
	var copied []string
	for _, e := range got {
		copied = append(copied, e.(map[string]any)["id"].(string))
	}
	if !slices.Equal(copied, ids) {
		t.Errorf("copied are %q in this order, want %q", copied, ids)
	}
	b.follow(`a[rel="prev"]`)
	if n := b.count("tr.entry.chosen input:checked"); n != 3 {
		t.Errorf("back at the first page %d rows are chosen", n)
	}
	b.click("#clear-selected")
	b.await(`document.querySelector("#selected").hidden && !document.querySelector("tr.chosen, tr input:checked")`)
}
