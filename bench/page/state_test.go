//go:build servers

package page

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// states are what a reader may get instead of entries.
var states = map[string]struct {
	email, path string
	status      int64
	heading     string
	says        string
	link        string // the first of those that lead on
}{
	"empty":            {memberEmail, logOf(quiet), 200, "Nothing was recorded in this time", "Every call to the platform API leaves an entry here", "/organizations/quiet/audit?range=7d"},
	"filtered empty":   {memberEmail, logOf(acme) + "?text=there-is-no-such-text", 200, "No entry passes these filters", "There may be others in this time", logOf(acme)},
	"signed out":       {"", logOf(acme), 401, "Sign in to read this log", "your session has ended", "https://dashboard.example.com/sign-in"},
	"no permission":    {strangerEmail, logOf(acme), 403, "You may not read this log", "Ask an owner or an administrator", "/"},
	"not entitled":     {memberEmail, logOf(free), 402, "The plan has no audit logs", "Upgrade the organization", "https://dashboard.example.com/billing"},
	"range too large":  {memberEmail, logOf(acme) + "?iso_timestamp_start=2020-01-01T00:00:00Z", 400, "That is too much time at once", "366 days at most", logOf(acme) + "?range=1h"},
	"bad request":      {memberEmail, logOf(acme) + "?status=abc", 400, "This address cannot be understood", "status is a number", logOf(acme)},
	"not found":        {memberEmail, logOf(acme) + "/entries/01890000-0000-7000-8000-000000000000", 404, "There is nothing here", "may have expired", logOf(acme)},
	"failed":           {memberEmail, "/organizations/" + broken + "/audit", 503, "The log could not be read", "says nothing of what is recorded", "/organizations/" + broken + "/audit"},
	"nobody's address": {memberEmail, "/organizations/no-such-organization/audit", 403, "You may not read this log", "Ask an owner", "/"},
}

func TestEachStateSaysWhatItIsAndLeadsOn(t *testing.T) {
	for name, c := range states {
		t.Run(name, func(t *testing.T) {
			b := open(t, c.email)
			b.allow("Failed to load resource: the server responded with a status of ")
			r, err := chromedp.Run(b.ctx, chromedp.NavigateResponse(site.url+c.path))
			b.must(err)
			if r.Status != c.status {
				t.Errorf("the status is %d, want %d", r.Status, c.status)
			}
			const of = `document.querySelector("section.state, section.empty")`
			if h := eval[string](b, of+`?.querySelector("h1, h2").innerText ?? document.body.innerText`); h != c.heading {
				t.Errorf("it is headed %q, want %q", h, c.heading)
			}
			if text := eval[string](b, of+`?.innerText ?? ""`); !strings.Contains(text, c.says) {
				t.Errorf("it says %q, want %q in it", text, c.says)
			}
			if link := eval[string](b, of+`?.querySelector("a")?.getAttribute("href") ?? ""`); link != c.link {
				t.Errorf("it leads to %q, want %q", link, c.link)
			}
			if title := eval[string](b, `document.title`); title == "" {
				t.Error("it has no title")
			}
		})
	}
}

func TestAnEntryOfAnotherOrganizationIsNotThere(t *testing.T) {
	b := open(t, memberEmail)
	b.allow("status of 404")
	b.visit(logOf(acme) + "/entries/" + site.of[exporting.ID][0].ID)
	if h := b.text("h1"); h != "There is nothing here" {
		t.Errorf("it is headed %q", h)
	}
}

func TestASessionThatHasEndedIsNoSession(t *testing.T) {
	b := openWith(t, site.session(memberEmail, -time.Hour))
	b.allow("status of 401")
	b.visit(logOf(acme))
	if h := b.text("h1"); h != "Sign in to read this log" {
		t.Errorf("it is headed %q", h)
	}
}

func TestASessionThatEndsMeanwhileIsSaidInThePage(t *testing.T) {
	b := open(t, memberEmail)
	b.allow("status of 401")
	b.visit(logOf(acme))
	_, err := chromedp.Run(b.ctx, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, network.DeleteCookies, network.DeleteCookiesParams{Name: cookie, URL: site.url})
	})
	b.must(err)
	b.click("tr.entry a.open")
	b.await(`document.querySelector("#panel h1")?.textContent === "Sign in to read this log"`)
	b.keys(kb.Escape)
	b.await(`document.querySelector("#panel").hidden`)
	b.click(`#filters input[name="outcome"]`)
	b.await(`document.querySelector("main h1")?.textContent === "Sign in to read this log"`)
}

func TestWhatCannotBeUnderstoodIsSaidInThePage(t *testing.T) {
	b := open(t, memberEmail)
	b.allow("status of 400")
	b.visit(logOf(acme))
	eval[any](b, `document.querySelector('#filters input[type="text"][name="status"]').closest("details").open = true`)
	b.click(`#filters input[type="text"][name="status"]`)
	b.keys("abc" + kb.Enter)
	b.await(`document.querySelector("main h1")?.textContent === "This address cannot be understood"`)
	b.follow("main a.button")
	b.expect(acme, nil)
}
