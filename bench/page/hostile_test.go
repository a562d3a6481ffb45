//go:build servers

package page

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// harmless says what of the page is not as our templates have it.
const harmless = `(() => {
	const found = [];
	for (const e of document.querySelectorAll("img, iframe, object, embed, base, style, script:not([src^='/assets/']), [style], [srcdoc]")) found.push("an element " + e.outerHTML.slice(0, 120));
	for (const e of document.querySelectorAll("*")) for (const a of e.attributes) {
		if (a.name.startsWith("on")) found.push("an attribute " + a.name + " of " + e.outerHTML.slice(0, 120));
		if (/^\s*(javascript|data|vbscript):/i.test(a.value) && ["href", "src", "action", "formaction"].includes(a.name)) found.push("a link " + a.value.slice(0, 120));
	}
	const text = document.body.innerText + document.title;
	const unseen = text.match(/[\u202a-\u202e\u2066-\u2069\u200b-\u200f\u0000-\u0008\u001b\u2028]/);
	if (unseen) found.push("a character that cannot be seen: " + escape(unseen[0]));
	const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
	if (wide > 0) found.push("it is " + wide + " pixels too wide");
	for (const r of document.querySelectorAll("tr.entry")) if (r.offsetHeight > 260) found.push("a row " + r.offsetHeight + " pixels high");
	return found;
})()`

func (b *tab) isHarmless(where string) {
	b.Helper()
	for _, f := range eval[[]string](b, harmless) {
		b.Errorf("%s: there is %s", where, f)
	}
}

func TestHostileEntriesRunNothingAndBreakNothing(t *testing.T) {
	for name, phone := range map[string]bool{"desk": false, "phone": true} {
		t.Run(name, func(t *testing.T) {
			b := open(t, memberEmail)
			b.mayCopy()
			if phone {
				b.size(360, 740, true)
			}
			b.visit(logOf(hostile) + "?range=1h")
			s := b.expect(hostile, nil)
			if s.Total != len(hostiles) {
				t.Fatalf("%d hostile entries, want %d", s.Total, len(hostiles))
			}
			b.isHarmless("the log")
			if text := eval[string](b, `document.querySelector("table.entries").innerText`); !strings.Contains(text, script) || !strings.Contains(text, "⟨U+202E⟩") {
				t.Errorf("hostile texts are not shown as text: %s", text)
			}
			if org := b.text(".org"); org != script {
				t.Errorf("the organization is called %q", org)
			}
			eval[any](b, `document.querySelectorAll("details").forEach((d) => { if (!d.matches(".menu")) d.open = true; })`)
			b.isHarmless("the log with all filters open")

			list := eval[string](b, `location.href`)
			for _, id := range s.ids() {
				eval[any](b, `document.querySelector("tr.entry[data-id='" + %s + "'] a.open").click()`, id)
				b.await(`document.querySelector("#panel #entry")?.dataset.id === %s`, id)
				b.isHarmless("the panel")
				b.click("#tab-json")
				b.isHarmless("the panel's JSON")
				doc := b.document(eval[string](b, `document.querySelector("#panel #entry").dataset.api`))
				if raw := decoded(t, eval[string](b, `document.querySelector("#panel #json code").textContent`)); !same(raw, doc) {
					t.Errorf("the raw JSON of %s is not that of the API", id)
				}
				b.click("#panel .copy")
				b.await(`document.querySelector("#panel .copy").textContent === "Copied"`)
				if !same(decoded(t, b.clipboard()), doc) {
					t.Errorf("the copied JSON of %s is not that of the API", id)
				}
				b.click("#tab-overview")
				b.click("#panel > .close")
				b.await(`document.querySelector("#panel").hidden && location.href === %s`, list)
			}
			for _, id := range s.ids() {
				b.visit(logOf(hostile) + "/entries/" + id)
				b.isHarmless("the entry's page")
			}
		})
	}
}

func TestAHostileValueIsAFilterLikeAnyOther(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(hostile) + "?range=1h")
	for i := range b.count(`#filters input[type="checkbox"][name="project"]`) {
		b.visit(logOf(hostile) + "?range=1h")
		// A form carries no zero byte, and each end of a line as that of a text.
		value := eval[string](b, `(() => { const i = document.querySelectorAll('#filters input[type="checkbox"][name="project"]')[%s]; i.id = "wanted"; return i.value; })()`, i)
		if strings.ContainsAny(value, "\ufffd\r\n") {
			continue
		}
		b.follow("#wanted")
		if n := b.look().Total; n != 1 || !slices.Equal(b.param("project"), []string{value}) {
			t.Errorf("the filter %q shows %d entries", value, n)
		}
		b.isHarmless("a filtered log")
	}
}

func TestAHostileAddressRunsNothing(t *testing.T) {
	b := open(t, memberEmail)
	b.allow("Failed to load resource: the server responded with a status of ")
	for _, text := range hostiles {
		text = text[:min(len(text), 200)]
		for _, names := range [][]string{{"text", "actor", "target", "action", "outcome"}, {"iso_timestamp_start", "range", "tz", "cursor", "status", "token_hash", "ip"}} {
			values := url.Values{}
			for _, name := range names {
				values.Set(name, text)
			}
			b.visit(logOf(quiet) + "?" + values.Encode())
			b.isHarmless(strings.Join(names, " ") + " " + text)
		}
		b.visit("/?" + url.Values{"organization": {text}}.Encode())
		b.isHarmless("the organization " + text)
	}
}
