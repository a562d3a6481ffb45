//go:build servers

package page

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestACheckboxNarrowsTheLogDownAndTheAddressSaysSo(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d")
	all := b.expect(acme, nil)
	const denied = `#filters input[name="outcome"][value="denied"]`
	counted := b.text(`label:has(input[value="denied"]) .num`)
	b.follow(denied)
	pass := func(e *audit.Entry) bool { return e.Outcome == audit.OutcomeDenied }
	s := b.expect(acme, pass)
	if s.Total == 0 || s.Total >= all.Total {
		t.Fatalf("%d of %d entries are denied: the sample shows nothing", s.Total, all.Total)
	}
	if count, _, _ := strings.Cut(counted, " "); count != b.text(".count h2 b") {
		t.Errorf("beside the checkbox stood %q, and there are %d", counted, s.Total)
	}
	if got := b.param("outcome"); !slices.Equal(got, []string{"denied"}) {
		t.Errorf("the address has the outcomes %q", got)
	}
	if got := b.param("range"); !slices.Equal(got, []string{"7d"}) {
		t.Errorf("the address has the range %q", got)
	}
	// A second one of the same facet is an alternative.
	b.follow(`#filters input[name="outcome"][value="failure"]`)
	b.expect(acme, func(e *audit.Entry) bool { return pass(e) || e.Outcome == audit.OutcomeFailure })

	b.back()
	b.await(`new URL(location).searchParams.getAll("outcome").length === 1 && document.querySelectorAll(".chip").length === 1`)
	b.expect(acme, pass)
	b.back()
	b.await(`!new URL(location).searchParams.has("outcome") && !document.querySelector(".chip")`)
	b.expect(acme, nil)
	b.step(1)
	b.await(`new URL(location).searchParams.has("outcome") && !!document.querySelector(".chip")`)
	b.expect(acme, pass)
	// What the address says, another one sees who opens it.
	colleague := open(t, memberEmail)
	colleague.visit(eval[string](b, `location.pathname + location.search`))
	colleague.expect(acme, pass)
	if !eval[bool](colleague, `document.querySelector('`+denied+`').checked`) {
		t.Error("the checkbox of a chosen filter is not checked")
	}
	// A chip takes its filter away.
	colleague.follow(".chip a")
	colleague.expect(acme, nil)
}

func TestEachFacetFiltersByWhatItSays(t *testing.T) {
	b := open(t, memberEmail)
	value := func(e *audit.Entry) map[string]string {
		brief := e.Brief()
		return map[string]string{
			"actor": brief.Actor, "action": brief.Action, "project": brief.Project, "method": brief.Method, "target": brief.TargetType, "token_type": string(brief.TokenType),
		}
	}
	for _, name := range []string{"actor", "action", "project", "method", "target", "token_type"} {
		b.visit(logOf(acme) + "?range=7d")
		input := `#filters input[type="checkbox"][name="` + name + `"]`
		chosen := eval[string](b, `(() => { const i = document.querySelector(%s); i.closest("details.facet").open = true; return i.value; })()`, input)
		b.follow(input)
		s := b.expect(acme, func(e *audit.Entry) bool { return value(e)[name] == chosen })
		if s.Total == 0 || !slices.Equal(b.param(name), []string{chosen}) {
			t.Errorf("%s: %d entries for %q at %q", name, s.Total, chosen, b.param(name))
		}
	}
}

func TestTextIsSearchedFor(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d")
	pass := func(e *audit.Entry) bool { return e.Target != nil && e.Target.ID == "nightly-report" }
	b.click("#text")
	b.keys("nightly-report")
	before := eval[string](b, `location.href`)
	b.keys(kb.Enter)
	b.await(`location.href !== %s`, before)
	if s := b.expect(acme, pass); s.Total == 0 {
		t.Error("nothing was found")
	}
	if got := b.param("text"); !slices.Equal(got, []string{"nightly-report"}) {
		t.Errorf("the address has the text %q", got)
	}
	if chip := b.text(".chip"); !strings.Contains(chip, "nightly-report") {
		t.Errorf("the chip says %q", chip)
	}
	if !eval[bool](b, `document.activeElement?.id === "text"`) {
		t.Error("the focus has left the field")
	}
	b.back()
	b.await(`!new URL(location).searchParams.has("text") && document.querySelector("#text").value === ""`)
	b.expect(acme, nil)
}

func TestAFieldTakesWhatIsNotListed(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=7d")
	eval[any](b, `document.querySelector('#filters input[type="text"][name="ip"]').closest("details").open = true`)
	b.click(`#filters input[type="text"][name="ip"]`)
	before := eval[string](b, `location.href`)
	b.keys("203.0.113.0/25" + kb.Enter)
	b.await(`location.href !== %s`, before)
	network := netip.MustParsePrefix("203.0.113.0/25")
	s := b.expect(acme, func(e *audit.Entry) bool {
		a, err := netip.ParseAddr(e.Actor.IP)
		return err == nil && network.Contains(a)
	})
	if s.Total == 0 {
		t.Error("nothing was found")
	}
}

func TestARangeIsChosenByItsNameAndByTimes(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme))
	b.follow(`.ranges a[href*="range=30d"]`)
	if s := b.expect(acme, nil); s.To.Sub(s.From) != 30*24*time.Hour || !slices.Equal(b.param("range"), []string{"30d"}) {
		t.Errorf("the range 30d is %s at %q", s.To.Sub(s.From), b.param("range"))
	}
	if chosen := b.text(`.ranges a[aria-current="true"]`); !strings.HasSuffix(chosen, "30 days") {
		t.Errorf("the chosen range is %q", chosen)
	}
	from := time.Now().UTC().Add(-10 * 24 * time.Hour).Truncate(24 * time.Hour)
	to := from.Add(36 * time.Hour)
	b.click(".custom > summary")
	for name, at := range map[string]time.Time{"iso_timestamp_start": from, "iso_timestamp_end": to} {
		eval[any](b, `document.querySelector(%s).value = %s`, `.custom input[name="`+name+`"]`, at.Format("2006-01-02T15:04"))
	}
	b.follow(`.custom button`)
	if s := b.expect(acme, nil); !s.From.Equal(from) || !s.To.Equal(to) || s.Total == 0 {
		t.Errorf("from %s to %s is shown as from %s to %s", from, to, s.From, s.To)
	}
	if len(b.param("range")) != 0 {
		t.Errorf("a range stands beside times: %q", b.param("range"))
	}
	// In another zone the same time is shown, and typed.
	eval[any](b, `(() => { const zone = document.querySelector("#zone"); zone.value = "Asia/Tokyo"; zone.dispatchEvent(new Event("change", { bubbles: true })); })()`)
	b.await(`new URL(location).searchParams.get("tz") === "Asia/Tokyo"`)
	if s := b.expect(acme, nil); !s.From.Equal(from) || !s.To.Equal(to) {
		t.Errorf("in Tokyo it is from %s to %s", s.From, s.To)
	}
	if start := eval[string](b, `document.querySelector('.custom input[name="iso_timestamp_start"]').value`); start != from.Add(9*time.Hour).Format("2006-01-02T15:04") {
		t.Errorf("in Tokyo the form has %q", start)
	}
	b.back()
	b.await(`!new URL(location).searchParams.has("tz")`)
	b.back()
	b.await(`new URL(location).searchParams.get("range") === "30d"`)
}
