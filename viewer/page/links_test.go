package page

import (
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestLinksChangeOneThingAndKeepTheRest(t *testing.T) {
	v := view(t, "range=7d&tz=UTC&actor=a&actor=b&text=x&cursor=c")
	before := v.URL()
	from, to := noon.Add(-time.Hour), noon
	for name, c := range map[string]struct {
		got  View
		want string
	}{
		"with another":        {v.With(ParamOutcome, "denied"), "actor=a&actor=b&outcome=denied&range=7d&text=x&tz=UTC"},
		"with a third":        {v.With(ParamActor, "c&d"), "actor=a&actor=b&actor=c%26d&range=7d&text=x&tz=UTC"},
		"with the same":       {v.With(ParamActor, "b"), "actor=a&actor=b&range=7d&text=x&tz=UTC"},
		"with text":           {v.With(ParamText, "y"), "actor=a&actor=b&range=7d&text=y&tz=UTC"},
		"without one":         {v.Without(ParamActor, "a"), "actor=b&range=7d&text=x&tz=UTC"},
		"without none":        {v.Without(ParamActor, "z"), "actor=a&actor=b&range=7d&text=x&tz=UTC"},
		"without text":        {v.Without(ParamText, "x"), "actor=a&actor=b&range=7d&tz=UTC"},
		"unfiltered":          {v.Unfiltered(), "range=7d&tz=UTC"},
		"a range":             {v.Last("1h"), "actor=a&actor=b&range=1h&text=x&tz=UTC"},
		"times":               {v.Between(from, to), "actor=a&actor=b&iso_timestamp_end=2026-11-29T12%3A00%3A00Z&iso_timestamp_start=2026-11-29T11%3A00%3A00Z&text=x&tz=UTC"},
		"times, open":         {v.Between(from, time.Time{}), "actor=a&actor=b&iso_timestamp_start=2026-11-29T11%3A00%3A00Z&text=x&tz=UTC"},
		"times, then a range": {v.Between(from, to).Last("3h"), "actor=a&actor=b&range=3h&text=x&tz=UTC"},
		"a cursor":            {v.At("d"), "actor=a&actor=b&cursor=d&range=7d&text=x&tz=UTC"},
		"the newest":          {v.At(""), "actor=a&actor=b&range=7d&text=x&tz=UTC"},
	} {
		if got := c.got.URL(); got != "/organizations/acme/audit?"+c.want {
			t.Errorf("%s: %s instead of %s", name, got, c.want)
		}
	}
	if v.URL() != before {
		t.Error("making links changed the view")
	}
}

func TestAViewIsItsAddress(t *testing.T) {
	v := view(t, "text=1&text=2&actor=&actor=a&actor=a&unknown=x&range=1h&iso_timestamp_end=2026-01-01T00:00:00Z")
	if got, want := v.URL(), "/organizations/acme/audit?actor=a&iso_timestamp_end=2026-01-01T00%3A00%3A00Z&text=1"; got != want {
		t.Errorf("the address is %s instead of %s", got, want)
	}
	again, err := ParseView("acme", must(url.Parse(v.URL())).Query())
	if err != nil || !reflect.DeepEqual(again, v) {
		t.Errorf("its address says %v instead of %v (%v)", again, v, err)
	}
}

func must(u *url.URL, err error) *url.URL {
	if err != nil {
		panic(err)
	}
	return u
}

func TestAnAddressThatIsTooLongIsRefused(t *testing.T) {
	v, err := ParseView("acme", url.Values{"actor": {strings.Repeat("x", maxQuery)}})
	if err == nil || v.Filtered() || v.Slug() != "acme" {
		t.Errorf("it is taken: %v, %v", v, err)
	}
	for _, slug := range []string{"..", ".", strings.Repeat("x", 1000)} {
		if _, err := ParseView(slug, nil); err == nil {
			t.Errorf("the slug %.10s is taken", slug)
		}
	}
}

func TestASlugOrAnIDStaysOnePartOfThePath(t *testing.T) {
	v, err := ParseView("a/../b?c#d", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := v.EntryURL("/x?y"), "/organizations/a%2F..%2Fb%3Fc%23d/audit/entries/%2Fx%3Fy"; got != want {
		t.Errorf("the entry is at %s instead of %s", got, want)
	}
	for _, id := range []string{"", ".", ".."} {
		if v.EntryURL(id) != "" || v.EntryAPI(id) != "" {
			t.Errorf("there is an address for the id %q", id)
		}
	}
}

// A link's filter must find the entry that the link stands at.
func TestAFilterOfALongValueFindsIt(t *testing.T) {
	long := strings.Repeat("é/x", 200)
	e := hostileEntry(long)
	v := view(t, "")
	b := e.Brief()
	for _, f := range []forwarder.Filters{
		{Actors: v.With(ParamActor, e.Actor.UserID).All(ParamActor)},
		{Actions: v.With(ParamAction, e.Action.Code).All(ParamAction)},
		{Projects: v.With(ParamProject, e.ProjectRef).All(ParamProject)},
		{Methods: v.With(ParamMethod, e.Action.Method).All(ParamMethod)},
		{Outcomes: v.With(ParamOutcome, string(e.Outcome)).All(ParamOutcome)},
		{TokenTypes: v.With(ParamTokenType, string(e.Actor.TokenType)).All(ParamTokenType)},
	} {
		if !f.Match(&b) {
			t.Errorf("%+v does not find it", f)
		}
	}
	e.Target = &audit.Target{Type: "secret", ID: long}
	b = e.Brief()
	if f := (forwarder.Filters{Targets: v.With(ParamTarget, "secret/"+long).All(ParamTarget)}); !f.Match(&b) {
		t.Errorf("%+v does not find it", f)
	}
}

func TestEveryFacetHasAFilter(t *testing.T) {
	for _, f := range forwarder.Facets {
		if !slices.Contains(filters, ParamOf(f)) {
			t.Errorf("the facet %s has none", f)
		}
	}
	for _, name := range append([]string{ParamText}, filters...) {
		if paramLabels[name] == "" {
			t.Errorf("the filter %s has no name for people", name)
		}
	}
}

func TestTimesAreReadAsProgramsAndBrowsersWriteThem(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2026-07-01T12:00:00Z":             "2026-07-01T12:00:00Z",
		"2026-07-01T12:00:00.123456+02:00": "2026-07-01T10:00:00.123456Z",
		"2026-07-01T12:00":                 "2026-07-01T10:00:00Z",
		"2026-01-01T12:00:05.5":            "2026-01-01T11:00:05.5Z",
		"2026-01-01":                       "2025-12-31T23:00:00Z",
	} {
		got, err := ParseTime(text, berlin)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s is read as %v instead of %s (%v)", text, got, want, err)
		}
	}
	for _, text := range []string{"", "now", "12:00", "2026-13-01", strings.Repeat("x", 1000)} {
		if _, err := ParseTime(text, nil); err == nil || len(err.Error()) > 150 {
			t.Errorf("%.20q is read: %v", text, err)
		}
	}
}

func TestRangesAreKnownByTheirNames(t *testing.T) {
	if r, ok := RangeOf(""); !ok || r.Length != 24*time.Hour {
		t.Errorf("no range is %v", r)
	}
	if _, ok := RangeOf("2h"); ok {
		t.Error("there is a range of another name")
	}
	var names []string
	for _, r := range Ranges {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "1h 3h 6h 12h 24h 7d 30d" {
		t.Errorf("the ranges are %s", got)
	}
}
