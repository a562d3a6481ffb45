//go:build servers

package page

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestTheLogIsReadWithoutScripts(t *testing.T) {
	b := open(t, memberEmail)
	b.withoutScripts()
	b.visit(logOf(acme) + "?range=7d")
	if eval[bool](b, `document.documentElement.classList.contains("js")`) {
		t.Fatal("scripts run")
	}
	first := b.expect(acme, nil)
	for _, selector := range []string{"#theme", "tr .c-select input", "#show-keys", "#selected", "#panel"} {
		if eval[bool](b, `document.querySelector(%s)?.checkVisibility({ visibilityProperty: true }) ?? false`, selector) {
			t.Errorf("%s is shown, and does nothing", selector)
		}
	}
	// Older, and newer again.
	b.follow(`a[rel="next"]`)
	second := b.look()
	if len(second.Rows) != pageRows || slices.Contains(first.ids(), second.Rows[0].ID) {
		t.Errorf("the second page has %d rows", len(second.Rows))
	}
	b.follow(`a[rel="prev"]`)
	if !slices.Equal(b.look().ids(), first.ids()) {
		t.Error("the newer page is not the first one")
	}
	// An entry's page, with both parts.
	b.follow("tr.entry a.open")
	if path := b.path(); path != logOf(acme)+"/entries/"+first.Rows[0].ID {
		t.Errorf("the entry is at %s", path)
	}
	if doc := decoded(t, eval[string](b, `document.querySelector("#json code").innerText`)).(map[string]any); doc["id"] != first.Rows[0].ID {
		t.Errorf("the raw JSON is of %v", doc["id"])
	}
	if !eval[bool](b, `["#overview", "#json"].every((part) => document.querySelector(part).checkVisibility())`) {
		t.Error("a part of the entry is hidden")
	}
	b.follow(".back a")
	// Filters, by the form.
	b.click(`#filters input[name="outcome"][value="denied"]`)
	b.follow(`.apply button`)
	s := b.expect(acme, func(e *audit.Entry) bool { return e.Outcome == audit.OutcomeDenied })
	if s.Total == 0 || !slices.Equal(b.param("outcome"), []string{"denied"}) || !slices.Equal(b.param("range"), []string{"7d"}) {
		t.Errorf("%d entries at %s", s.Total, eval[string](b, `location.href`))
	}
	b.follow(".chip a")
	b.expect(acme, nil)
	b.click("#text")
	b.keys("nightly-report")
	b.follow(".search button")
	b.expect(acme, func(e *audit.Entry) bool { return e.Target != nil && e.Target.ID == "nightly-report" })
	// A time, by a bar's link and by its line in the table.
	b.follow("#bars a")
	if s := b.look(); s.Total == 0 || len(b.param("iso_timestamp_start")) != 1 {
		t.Errorf("a bar leads to %d entries", s.Total)
	}
	// An export is a link.
	b.visit(logOf(plainly) + "?range=30d")
	id := b.expect(plainly, nil).Rows[0].ID
	b.click(".export > summary")
	if file, _ := b.download(`.export a[href*="format=csv"]`); !strings.Contains(string(file), id) {
		t.Error("the export does not have what is shown")
	}
}

func TestAnOrganizationIsChosenAtTheBeginning(t *testing.T) {
	b := open(t, memberEmail)
	b.withoutScripts()
	b.visit("/")
	b.click("#slug")
	b.keys(acme.Slug)
	b.follow("form.slug button")
	if b.path() != logOf(acme) {
		t.Errorf("it leads to %s", b.path())
	}
	b.expect(acme, nil)
}
