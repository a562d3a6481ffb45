//go:build servers

package page

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

// pageRows is how many entries a page has.
const pageRows = 50

func logOf(o sample.Organization) string { return "/organizations/" + o.Slug + "/audit" }

// shown is what a reader sees of the log.
type shown struct {
	From, To time.Time
	Total    int
	Rows     []row
}

type row struct{ ID, Actor, Target, Outcome, Status, Method, Event string }

func (s *shown) ids() (ids []string) {
	for _, r := range s.Rows {
		ids = append(ids, r.ID)
	}
	return ids
}

// look reads the log's page that is open.
func (b *tab) look() *shown {
	b.Helper()
	var s shown
	s.Rows = eval[[]row](b, `[...document.querySelectorAll("tr.entry")].map((r) => {
		const text = (of) => r.querySelector(of)?.innerText.trim().replace(/\s+/g, " ") ?? "";
		return { ID: r.dataset.id, Actor: text(".c-actor"), Target: text(".c-target"), Outcome: text(".c-status .outcome"), Status: text(".c-status .small"),
			Method: text(".c-method"), Event: text(".c-event .line") };
	})`)
	total, err := strconv.Atoi(strings.ReplaceAll(b.text(".count h2 b"), ",", ""))
	b.must(err)
	s.Total = total
	// An export is of exactly what is shown.
	export, err := url.Parse(eval[string](b, `document.querySelector(".export a[download]").href`))
	b.must(err)
	for name, to := range map[string]*time.Time{"iso_timestamp_start": &s.From, "iso_timestamp_end": &s.To} {
		*to, err = time.Parse(time.RFC3339Nano, export.Query().Get(name))
		b.must(err)
	}
	return &s
}

// in are those of an organization's entries that were put into the store, newest first, which
// arrived in what is shown and pass a filter.
func (s *shown) in(o sample.Organization, pass func(e *audit.Entry) bool) (all []*audit.Entry) {
	for _, e := range slices.Backward(site.of[o.ID]) {
		if at := time.UnixMicro(e.Timestamp); !at.Before(s.From) && at.Before(s.To) && (pass == nil || pass(e)) {
			all = append(all, e)
		}
	}
	return all
}

// expect compares what is shown with what was put into the store.
func (b *tab) expect(o sample.Organization, pass func(e *audit.Entry) bool) *shown {
	b.Helper()
	s := b.look()
	want := s.in(o, pass)
	if s.Total != len(want) {
		b.Errorf("%s: the page counts %d entries and there are %d", eval[string](b, `location.href`), s.Total, len(want))
	}
	ids := make([]string, 0, pageRows)
	for _, e := range want[:min(len(want), pageRows)] {
		ids = append(ids, e.ID)
	}
	if !slices.Equal(s.ids(), ids) {
		b.Errorf("%s: the page shows %d rows and not the newest %d entries", eval[string](b, `location.href`), len(s.Rows), len(ids))
	}
	return s
}

func TestAMemberSeesTheEntriesOfTheirOrganizationAndNoOthers(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme))
	s := b.expect(acme, nil)
	if got := s.To.Sub(s.From); got < 24*time.Hour || got > 24*time.Hour+time.Minute {
		t.Errorf("without a range it shows %s", got)
	}
	if len(s.Rows) != pageRows {
		t.Errorf("there are %d rows", len(s.Rows))
	}
	known := map[string]*audit.Entry{}
	for _, e := range site.of[acme.ID] {
		known[e.ID] = e
	}
	for _, r := range s.Rows {
		e := known[r.ID]
		if e == nil {
			t.Fatalf("the row %+v is not of %s", r, acme.Name)
		}
		who := e.Actor.Email
		if e.Membership == audit.MembershipUnproven {
			who = "Not shown"
		} else if who == "" {
			who = e.Actor.OAuthAppName
		}
		if !strings.Contains(r.Actor, who) || r.Event != e.Action.Name || r.Method != e.Action.Method || r.Status != strconv.Itoa(e.Action.Status) || !strings.EqualFold(r.Outcome, string(e.Outcome)) {
			t.Errorf("%+v is shown for %+v", r, e)
		}
	}
	if title := eval[string](b, `document.title`); title != "Audit log · "+acme.Name {
		t.Errorf("the title is %q", title)
	}
	if who := b.text(".reader"); !strings.HasSuffix(who, memberEmail) {
		t.Errorf("the reader is %q", who)
	}
}

func TestACallThroughTheSidecarIsSoonOnThePage(t *testing.T) {
	callAs(t, memberEmail, "PATCH", "/v1/organizations/"+calling.Slug)
	b := open(t, memberEmail)
	b.reloadUntil(logOf(calling)+"?range=1h&actor="+memberEmail, `document.querySelectorAll("tr.entry").length > 0`)
	r := b.look().Rows[0]
	if !strings.HasPrefix(r.Actor, memberEmail) || r.Method != "PATCH" || r.Outcome != "Success" {
		t.Errorf("it is shown as %+v", r)
	}
}

func TestOlderAndNewerPagesHaveEachEntryOnce(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme) + "?range=24h")
	first := b.look()
	want := first.in(acme, nil)
	seen := first.ids()
	for n := 0; b.count(`a[rel="next"]`) > 0 && n < 10; n++ {
		b.follow(`a[rel="next"]`)
		// The range's end moves with the clock and nothing new has come.
		seen = append(seen, b.look().ids()...)
	}
	ids := make([]string, 0, len(want))
	for _, e := range want {
		ids = append(ids, e.ID)
	}
	// Its beginning moves, too: an entry at the very end may leave it meanwhile.
	if len(seen) < len(ids)-3 || !slices.Equal(seen, ids[:min(len(ids), len(seen))]) {
		t.Errorf("%d entries on all pages, want %d", len(seen), len(ids))
	}
	b.follow(`a[rel="prev"]`)
	if n := b.count("tr.entry"); n != pageRows {
		t.Errorf("the page before the last one has %d rows", n)
	}
	b.follow(`.pager a`) // newest
	if got := b.look().ids(); b.count(`a[rel="prev"]`) != 0 || len(b.param("cursor")) != 0 || got[0] != ids[0] {
		t.Error("the newest page is not the first one")
	}
}
