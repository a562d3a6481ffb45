package page

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestRowsLeadToTheEntryAndBackToTheSameLog(t *testing.T) {
	doc := parsed(t, logOf(t, "outcome=success&tz=Asia%2FTokyo", call(time.Minute, "a")))
	link := one(t, doc, class("open"))
	want := "/organizations/acme/audit/entries/a?outcome=success&tz=Asia%2FTokyo"
	if got := attr(link, "href"); got != want {
		t.Fatalf("a row leads to %s instead of %s", got, want)
	}
	entry := parsed(t, &Entry{View: view(t, "outcome=success&tz=Asia%2FTokyo"), Entry: call(time.Minute, "a")})
	back := one(t, one(t, entry, class("back")), tag("a"))
	if got := attr(back, "href"); got != "/organizations/acme/audit?outcome=success&tz=Asia%2FTokyo" {
		t.Fatalf("the entry leads back to %s", got)
	}
}

// unproven is an attempt by nobody knows whom.
func unproven() *audit.Entry {
	e := call(time.Minute, "a")
	e.Membership = audit.MembershipUnproven
	e.Actor.Verification = audit.VerificationNone
	e.Actor.Claimed = &audit.Claimed{Email: "claimed@acme.example"}
	return e
}

var secretsOfAnAttempt = []string{"ada@acme.example", "user-1", "203.0.113.7", "0123abcd", "cli/1", "claimed@acme.example", "hello", "request-a"}

func TestMembersSeeAnUnprovenAttemptWithoutItsCaller(t *testing.T) {
	l := logOf(t, "")
	l.Reader.Name = "bob"
	l.Entries = []*audit.Entry{unproven()}
	pages := map[string]string{
		"log":   rendered(t, l),
		"entry": rendered(t, &Entry{Frame: l.Frame, View: l.View, Entry: unproven()}),
	}
	for name, page := range pages {
		for _, secret := range secretsOfAnAttempt {
			if strings.Contains(page, secret) {
				t.Errorf("the page of the %s shows %s", name, secret)
			}
		}
		if !strings.Contains(page, "nothing proves that it came from one of its members") {
			t.Errorf("the page of the %s does not say that the attempt is unproven", name)
		}
	}
	l.Reader.Operator = true
	if page := rendered(t, &Entry{Frame: l.Frame, View: l.View, Entry: unproven()}); !strings.Contains(page, "claimed@acme.example") || !strings.Contains(page, "do not take it for a fact") {
		t.Error("an operator does not see what the caller claims, or not that it is a claim")
	}
}

func TestOnlyOperatorsSeeWhereAnEntryCameFrom(t *testing.T) {
	e := &Entry{View: view(t, ""), Entry: call(time.Minute, "a")}
	if strings.Contains(rendered(t, e), "buffer-7") {
		t.Error("a member sees the buffer")
	}
	e.Reader.Operator = true
	if text := textOf(parsed(t, e)); !strings.Contains(text, "buffer-7") || !strings.Contains(text, "4711") {
		t.Error("an operator does not see the buffer and its sequence")
	}
	if e.Entry.Origin == nil {
		t.Error("the entry was changed")
	}
}

func TestAnEntryShowsWhatThereIsOfIt(t *testing.T) {
	text := textOf(parsed(t, &Entry{View: view(t, ""), Entry: call(time.Minute, "a")}))
	for _, want := range []string{
		"Sunday, 29 November 2026, 11:59:00.000000 UTC", "1.5 ms", "request-a", "ada@acme.example", "user-1", "The credential's signature was checked.",
		"203.0.113.7", "cli/1", "0123abcd", "/v1/projects/{ref}/functions/{slug}", "held: not deleted", "Monday, 29 November 2027", "strict", `"schema_version": 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestTheValuesOfAnEntryFilterTheLog(t *testing.T) {
	doc := parsed(t, &Entry{View: view(t, "method=PATCH&cursor=c"), Entry: call(time.Minute, "a")})
	var got []string
	for _, a := range all(doc, class("by")) {
		u, err := url.Parse(attr(a, "href"))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if !slices.Contains(q["method"], "PATCH") || q.Has("cursor") {
			t.Errorf("%s does not keep the filter, or keeps the cursor", u)
		}
		q.Del("method")
		got = append(got, q.Encode())
	}
	slices.Sort(got)
	want := []string{
		"", "action=v1-update-a-function", "actor=ada%40acme.example", "actor=user-1", "ip=203.0.113.7", "outcome=success", "project=project-a",
		"status=200", "target=edge_function", "target=edge_function%2Fhello", "token_hash=0123abcd", "token_type=jwt",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the values filter by\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
