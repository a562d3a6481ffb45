package audit

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func FuzzWild(f *testing.F) {
	f.Add("v1-*-function", "v1-delete-a-function")
	f.Add("*a*ab*", "aab")
	f.Add("a*a", "a")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 50 || strings.Count(pattern, "*") > 5 || strings.ContainsAny(pattern+text, "\n") {
			return
		}
		re, err := regexp.Compile(`^(?s:` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `)$`)
		if err != nil {
			return
		}
		if got, want := wild(pattern, text), re.MatchString(text); got != want {
			t.Errorf("%q, %q: %t, want %t", pattern, text, got, want)
		}
	})
}

func termOf(t testing.TB, s string) Term {
	t.Helper()
	v, err := ParseTerm(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWhatMakesNoSenseToKeep(t *testing.T) {
	class := func(name string, change func(*KeepClass)) Keep {
		c := KeepClass{Name: name, Term: Days(400), Plans: []string{"pro"}}
		change(&c)
		return Keep{Classes: []KeepClass{c}}
	}
	nothing := func(*KeepClass) {}
	two := class("a", nothing)
	two.Classes = append(two.Classes, two.Classes[0])
	for want, k := range map[string]Keep{
		"":                     {},
		" ":                    {Default: Days(400), Unattributed: Days(1), Minimum: Days(400), Maximum: Days(500), Sidecar: Days(450)},
		"by itself":            class("default", nothing),
		"by itself:":           class("sidecar", nothing),
		"a name has":           class("Enterprise", nothing),
		"a name has up":        class(strings.Repeat("a", 33), nothing),
		"there are two":        two,
		"there is no term":     class("a", func(c *KeepClass) { c.Term = Term{} }),
		"says of no call":      class("a", func(c *KeepClass) { c.Plans = nil }),
		"shorter than the":     {Default: Days(5), Minimum: Days(9), Maximum: Days(8)},
		"less than the":        {Default: Days(8), Minimum: Days(9)},
		"more than the":        {Default: Days(10), Maximum: Days(9)},
		"class unattributed k": {Default: Days(9), Unattributed: Days(10), Maximum: Days(9)},
		"class sidecar keeps":  {Default: Days(9), Sidecar: Days(8), Minimum: Days(9)},
	} {
		err := k.Check()
		if (err == nil) != (strings.TrimSpace(want) == "") || err != nil && !strings.Contains(err.Error(), strings.TrimRight(want, ":")) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestTheFirstClassThatMatchesCounts(t *testing.T) {
	k := &Keep{
		Default: Days(400), Unattributed: Days(30),
		Classes: []KeepClass{
			{Name: "secrets", Term: termOf(t, "10y"), Targets: []string{"secret"}, Plans: []string{"team", "enterprise"}},
			{Name: "deletions", Term: termOf(t, "7y"), Actions: []string{"DELETE *", "v1-bulk-delete-*"}},
			{Name: "acme", Term: termOf(t, "3y"), Organizations: []string{"acme", "o-2"}},
			{Name: "free", Term: Days(60), Plans: []string{"free"}},
		},
	}
	if err := k.Check(); err != nil {
		t.Fatal(err)
	}
	if !k.NeedsPlan() || (&Keep{}).NeedsPlan() {
		t.Error("who needs a plan?")
	}
	const arrived = 1_767_225_600_000_000 // 2026-01-01
	e := func(change ...func(*Entry)) *Entry {
		e := &Entry{Timestamp: arrived, Action: Action{Method: "GET", Route: "/x"}, Actor: Actor{Verification: VerificationSignature}}
		for _, c := range change {
			c(e)
		}
		return e
	}
	secret := func(e *Entry) { e.Target = &Target{Type: "secret"} }
	deletes := func(e *Entry) {
		e.Action = Action{Method: "DELETE", Route: "/v1/projects/{ref}", Code: "v1-delete-a-project"}
	}
	event := func(e *Entry) { e.Policy.Rule, e.Action = "sidecar", Action{Code: "audit.gap"} }
	for _, c := range []struct {
		e       *Entry
		plan    string
		pending bool
		want    string
	}{
		{e(), "", false, "default"},
		{e(), "unheard of", false, "default"},
		{e(), "free", false, "free"},
		{e(), "free", true, "unattributed"},
		{e(secret), "team", false, "secrets"},
		{e(secret), "free", false, "free"},
		{e(deletes), "", false, "deletions"},
		{e(deletes), "free", false, "deletions"},
		{e(func(e *Entry) { e.Action.Code = "v1-bulk-delete-secrets" }), "", false, "deletions"},
		{e(func(e *Entry) { e.OrganizationSlug = "acme" }), "free", false, "acme"},
		{e(func(e *Entry) { e.OrganizationID = "o-2" }), "", false, "acme"},
		{e(func(e *Entry) { e.OrganizationID, e.OrganizationSlug = "acme", "" }), "", false, "acme"},
		{e(func(e *Entry) { e.OrganizationSlug = "acm" }), "", false, "default"},
		{e(deletes, func(e *Entry) { e.Actor.Verification = VerificationNone }), "enterprise", false, "unattributed"},
		{e(func(e *Entry) { e.Actor.Verification = "" }), "", false, "unattributed"},
		{e(event), "free", true, "sidecar"},
		{e(event, func(e *Entry) { e.Actor.Verification = VerificationNone }), "", false, "sidecar"},
	} {
		r := k.Retention(c.e, c.plan, c.pending)
		if r.Class != c.want || r.Plan != c.plan || r.KeepMicros() != k.Until(c.want, arrived) || r.KeepMicros() <= arrived {
			t.Errorf("%+v of plan %q: %+v, want %s", c.e.Action, c.plan, r, c.want)
		}
	}
	if k.Until("of before", arrived) != 0 {
		t.Error("a class that is not there keeps something")
	}
	if got := k.Term(ClassSidecar); got != termOf(t, "10y") {
		t.Errorf("the sidecar's events are kept %s, which is not the longest", got)
	}
	forever := Keep{}
	if r := forever.Retention(e(), "", false); r.KeepUntil != 0 || r.KeepMicros() != ForeverMicros || forever.Until(ClassDefault, arrived) != ForeverMicros {
		t.Errorf("%+v", r)
	}
}

func TestHowFarBackAPlanReads(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	days62, month := Range{Days(62)}, Range{termOf(t, "1mo")}
	plans := &Readable{Plans: map[string]Range{"free": {}, "team": days62, "all": {Forever}, "month": month}}
	byDefault := &Readable{Plans: plans.Plans, Default: &days62}
	for _, c := range []struct {
		r    *Readable
		plan string
		want string
		ok   bool
	}{
		{&Readable{}, "any", "0001-01-01T00:00:00Z", true},
		{plans, "free", "0001-01-01T00:00:00Z", false},
		{plans, "team", "2026-01-28T12:00:00Z", true},
		{plans, "all", "0001-01-01T00:00:00Z", true},
		{plans, "month", "2026-02-28T12:00:00Z", true}, // and not the 3rd of March
		{plans, "", "0001-01-01T00:00:00Z", false},
		{plans, "other", "0001-01-01T00:00:00Z", false},
		{byDefault, "other", "2026-01-28T12:00:00Z", true},
		{byDefault, "", "2026-01-28T12:00:00Z", true},
		{byDefault, "free", "0001-01-01T00:00:00Z", false},
	} {
		from, ok := c.r.From(c.plan, now)
		if got := from.Format(time.RFC3339); got != c.want || ok != c.ok {
			t.Errorf("plan %q: from %s, %t", c.plan, got, ok)
		}
	}
}
