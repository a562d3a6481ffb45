package page

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEachStateSaysWhatToDoNext(t *testing.T) {
	frame := Frame{Organization: Organization{"acme", "Acme Rockets"}}
	for kind, want := range map[Kind][]string{
		SignedOut:       {"Sign in to read this log", "Sign in https://go.example/", "Choose another organization /"},
		NoPermission:    {"You may not read this log", "Ask an owner or an administrator", "Sign in as somebody else https://go.example/"},
		NotEntitled:     {"The plan has no audit logs", "Upgrade the organization to a plan with audit logs", "Upgrade the plan https://go.example/"},
		RangeTooLarge:   {"That is too much time at once", "Last 7 days /organizations/acme/audit?outcome=denied&range=7d"},
		BadRequest:      {"This address cannot be understood", "Begin again without filters /organizations/acme/audit"},
		NotFound:        {"There is nothing here", "Back to the log /organizations/acme/audit?outcome=denied&range=30d"},
		Failed:          {"The log could not be read", "Try again /organizations/acme/audit?outcome=denied&range=30d"},
		Kind("another"): {"The log could not be read", "Try again"},
	} {
		doc := parsed(t, &State{Frame: frame, View: view(t, "outcome=denied&range=30d"), Kind: kind, Message: "Because <b>.", Link: "https://go.example/"})
		text := textOf(doc)
		for _, a := range all(one(t, doc, class("state")), tag("a")) {
			text += "\n" + textOf(a) + " " + attr(a, "href")
		}
		for _, w := range append(want, "Acme Rockets", "Because <b>.", "Skip to the content") {
			if !strings.Contains(text, w) {
				t.Errorf("state %s does not say %q", kind, w)
			}
		}
	}
}

func TestAStateNeverLinksToAScript(t *testing.T) {
	for _, link := range []string{"javascript:alert(1)", "//evil.example", "data:text/html,x", "\x00", " https://x", "relative"} {
		doc := parsed(t, &State{View: view(t, ""), Kind: SignedOut, Link: link})
		if got := all(one(t, doc, class("state")), tag("a")); len(got) != 1 || attr(got[0], "href") != "/" {
			t.Errorf("%q became a link", link)
		}
	}
}

func TestNothingRecordedIsNotNothingFound(t *testing.T) {
	doc := parsed(t, logOf(t, "range=24h"))
	if text := textOf(one(t, doc, class("empty"))); !strings.Contains(text, "Nothing was recorded in this time") || !strings.Contains(text, "Look at the last 7 days") {
		t.Errorf("an empty log says %q", text)
	}
	empty := one(t, parsed(t, logOf(t, "range=24h&actor=x&text=y")), class("empty"))
	if text := textOf(empty); !strings.Contains(text, "No entry passes these filters") {
		t.Errorf("a log that is filtered empty says %q", text)
	}
	if clear := all(empty, tag("a"))[0]; textOf(clear) != "Clear filters" || attr(clear, "href") != "/organizations/acme/audit?range=24h" {
		t.Errorf("it leads to %s", attr(clear, "href"))
	}
	l := logOf(t, "range=24h")
	l.Readable = 24 * time.Hour
	if text := textOf(parsed(t, l)); strings.Contains(text, "Look at the last") {
		t.Error("a range is offered that the plan does not read")
	}
}

func TestTheStartAsksForAnOrganizationOrListsThem(t *testing.T) {
	doc := parsed(t, &Start{Slug: `"><script>`, Message: "There is no such organization."})
	form := one(t, doc, tag("form"))
	if attr(form, "action") != "/" || attr(form, "method") != "get" {
		t.Error("the form leads elsewhere")
	}
	input := one(t, form, tag("input"))
	if attr(input, "name") != ParamOrganization || attr(input, "value") != `"><script>` {
		t.Errorf("the form asks for %s and has %s", attr(input, "name"), attr(input, "value"))
	}
	doc = parsed(t, &Start{Organizations: []Organization{{"acme", "Acme Rockets"}, {"b/../c", ""}, {"..", "up"}}})
	var got []string
	for _, a := range all(one(t, doc, class("organizations")), tag("a")) {
		got = append(got, textOf(a)+" "+attr(a, "href"))
	}
	if want := []string{"Acme Rockets acme /organizations/acme/audit", "b/../c /organizations/b%2F..%2Fc/audit"}; !slices.Equal(got, want) {
		t.Errorf("the organizations are %q instead of %q", got, want)
	}
}
