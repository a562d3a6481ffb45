//go:build servers

package page

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// traces are what would tell who made the attempt in doubted.
var traces = []string{strangerEmail, "192.0.2.66", "strange-agent", "strange-target"}

func TestAnUnprovenAttemptTellsMembersNothingOfTheCallerAndOperatorsAll(t *testing.T) {
	member := open(t, memberEmail)
	id := site.of[doubted.ID][0].ID
	look := func(b *tab) (html string) {
		b.visit(logOf(doubted) + "?range=1h&method=DELETE")
		html = eval[string](b, `document.documentElement.outerHTML`)
		b.click("tr.entry a.open")
		b.there("#panel #entry")
		html += eval[string](b, `document.querySelector("#panel").outerHTML`)
		b.visit(logOf(doubted) + "/entries/" + id)
		html += eval[string](b, `document.documentElement.outerHTML`)
		return html + eval[string](b, `fetch(document.querySelector("#entry").dataset.api).then((r) => r.text())`)
	}
	html := look(member)
	for _, trace := range traces {
		if strings.Contains(html, trace) {
			t.Errorf("a member is told %q", trace)
		}
	}
	member.visit(logOf(doubted) + "?range=1h&method=DELETE")
	if r := member.look().Rows[0]; r.Actor != "Not shown unproven" || r.Event != "Delete a project" || r.Outcome != "Denied" {
		t.Errorf("a member sees %+v", r)
	}
	// Nor by asking whether it was somebody.
	member.visit(logOf(doubted) + "?range=1h&actor=" + strangerEmail)
	if n := member.count("tr.entry"); n != 0 {
		t.Error("a member learns by a filter who it was")
	}

	operator := open(t, operatorEmail)
	html = look(operator)
	for _, trace := range traces {
		if !strings.Contains(html, trace) {
			t.Errorf("an operator is not told %q", trace)
		}
	}
	operator.visit(logOf(doubted) + "?range=1h&method=DELETE")
	if r := operator.look().Rows[0]; r.Actor != strangerEmail+" unproven jwt · 192.0.2.66" {
		t.Errorf("an operator sees %+v", r)
	}
	if badge := operator.text(".badge.operator"); badge != "operator" {
		t.Errorf("the operator's badge is %q", badge)
	}

	// That an operator looked is an entry, which does not tell members who it was.
	member.reloadUntil(logOf(doubted)+"?range=1h&action=audit.read", `document.querySelectorAll("tr.entry").length >= 4`)
	member.click("tr.entry a.open")
	member.there("#panel #entry")
	if html := eval[string](member, `document.documentElement.outerHTML`); strings.Contains(html, operatorEmail) {
		t.Error("members are told which operator looked")
	}
}

func TestAnOperatorsLookAtAnyOrganizationIsInItsLog(t *testing.T) {
	operator := open(t, operatorEmail)
	operator.visit(logOf(watched) + "?range=7d")
	operator.expect(watched, nil)
	member := open(t, memberEmail)
	member.reloadUntil(logOf(watched)+"?range=1h&action=audit.read", `document.querySelectorAll("tr.entry").length === 1`)
	if r := member.look().Rows[0]; !strings.HasPrefix(r.Actor, "Audit log") {
		t.Errorf("it is shown as %+v", r)
	}
}

// The platform's API gives operators neither foreign nor what nobody has.
func TestAnOperatorFindsWhatTheAPIDoesNotKnowAndIsToldWhereNothingIsKnown(t *testing.T) {
	b := open(t, operatorEmail)
	byID, nobody := foreign, foreign
	byID.Slug, nobody.Slug = foreign.ID, "nobody-has-it"
	b.visit(logOf(foreign) + "?range=7d")
	bySlug := b.expect(foreign, nil).Total
	// That they looked is an entry of the organization's by now, or is not yet.
	b.visit(logOf(byID) + "?range=7d")
	if n := b.look().Total; bySlug == 0 || n < bySlug || n > bySlug+2 {
		t.Errorf("%d entries are shown by its slug, and %d by its id", bySlug, n)
	}
	b.visit(logOf(nobody) + "?range=7d")
	if notice := b.text(".notice"); b.look().Total != 0 || !strings.Contains(notice, "Nobody says which organization this is") {
		t.Errorf("%d entries are shown, with the notice %q", b.look().Total, notice)
	}
}

func TestAGapIsARowBetweenTheEntriesAroundIt(t *testing.T) {
	b := open(t, memberEmail)
	visit := func(from, to time.Time) {
		b.visit(logOf(acme) + "?" + url.Values{"iso_timestamp_start": {from.UTC().Format(time.RFC3339)}, "iso_timestamp_end": {to.UTC().Format(time.RFC3339)}}.Encode())
	}
	visit(site.gap.Add(-time.Hour), site.gap.Add(20*time.Minute))
	if n := b.count("tr.gap"); n != 1 {
		t.Fatalf("%d gaps are shown, want 1", n)
	}
	row := b.text("tr.gap")
	if !strings.Contains(row, "the record may be incomplete") || !strings.Contains(row, "Calls went through while they could not be recorded.") || strings.Contains(row, "12345") {
		t.Errorf("the gap is shown as %q", row)
	}
	// Newer entries are above it, and older ones below.
	const rows = `[...document.querySelectorAll("tr.entry, tr.gap")].map((r) => r.className.includes("gap") ? "gap" : r.querySelector("time").dateTime)`
	above := true
	for _, at := range eval[[]string](b, rows) {
		if at == "gap" {
			above = false
			continue
		}
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}
		if above == when.Before(site.gap) {
			t.Errorf("an entry of %s is on the wrong side of the gap that ended at %s", when, site.gap)
		}
	}
	visit(site.gap.Add(time.Hour), site.gap.Add(4*time.Hour))
	if n := b.count("tr.gap"); n != 0 {
		t.Errorf("%d gaps are shown of a time without one", n)
	}
}
