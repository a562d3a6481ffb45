package page

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestTheLogShowsWhatAReaderNeedsToKnow(t *testing.T) {
	l := logOf(t, "", call(time.Minute, "a"))
	l.Complete, l.Plan, l.Readable = noon.Add(-20*time.Second), "team", 62*24*time.Hour
	l.Reader.Operator = true
	doc := parsed(t, l)
	text := textOf(doc)
	for _, want := range []string{
		"Acme Rockets", "Signed in as ada@acme.example", "operator", "Complete until 11:59:40", "The plan team reads back 62 days", "1 entry",
		"Update a function", "v1-update-a-function", "29 Nov 11:59:00", "hello", "Edge function", "Success", "200", "PATCH", "jwt · 203.0.113.7",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	l.Complete = noon.Add(-26 * time.Hour)
	if text := textOf(parsed(t, l)); !strings.Contains(text, "Complete until 28 Nov, 10:00:00: later entries may still be missing") {
		t.Error("the page does not say that later entries may be missing")
	}
	l.Complete, l.Reader = time.Time{}, Reader{}
	text = textOf(parsed(t, l))
	for _, want := range []string{"Until when this is complete is not known", "Not signed in"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestGapsStandInTheOrderOfTime(t *testing.T) {
	l := logOf(t, "", call(time.Minute, "a"), call(10*time.Minute, "b"), call(time.Hour, "c"))
	l.Gaps = []Gap{
		{From: noon.Add(-40 * time.Minute), To: noon.Add(-20 * time.Minute), Missing: 12, Why: "calls were let through"},
		{To: noon.Add(-3 * time.Hour)},
		{From: noon.Add(-30 * time.Second)},
		{From: noon.Add(-8 * time.Minute), To: noon.Add(-5 * time.Minute), Missing: 1},
	}
	var got []string
	for _, tr := range all(one(t, parsed(t, l), class("entries")), func(n *html.Node) bool { return class("entry")(n) || class("gap")(n) }) {
		if class("gap")(tr) {
			got = append(got, textOf(tr))
		} else {
			got = append(got, attr(tr, "data-id"))
		}
	}
	want := []string{
		"Since 29 Nov, 11:59:30, the record may be incomplete.",
		"a",
		"Between 29 Nov, 11:52:00 and 11:55:00, 1 entry is missing.",
		"b",
		"Between 29 Nov, 11:20:00 and 11:40:00, 12 entries are missing: calls were let through",
		"c",
		"Until 29 Nov, 09:00:00, the record may be incomplete.",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the rows are\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestChosenFiltersAreChipsThatRemoveOneEach(t *testing.T) {
	doc := parsed(t, logOf(t, "actor=ada%40acme.example&outcome=denied&outcome=failure&text=x&range=7d&cursor=c", call(time.Minute, "a")))
	var got []string
	for _, a := range all(one(t, doc, class("chips")), tag("a")) {
		got = append(got, attr(a, "href"))
	}
	want := []string{
		"/organizations/acme/audit?actor=ada%40acme.example&outcome=denied&outcome=failure&range=7d",
		"/organizations/acme/audit?outcome=denied&outcome=failure&range=7d&text=x",
		"/organizations/acme/audit?actor=ada%40acme.example&outcome=failure&range=7d&text=x",
		"/organizations/acme/audit?actor=ada%40acme.example&outcome=denied&range=7d&text=x",
		"/organizations/acme/audit?range=7d",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the chips lead to\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheFormHoldsTheWholeState(t *testing.T) {
	for _, query := range []string{
		"",
		"range=7d&tz=Asia/Tokyo&text=x&actor=ada@acme.example&actor=nobody&outcome=success&ip=10.0.0.0/8&ip=203.0.113.7&token_hash=ff&target=branch/x&status=4xx",
		"iso_timestamp_start=2026-11-29T03:00:00Z&iso_timestamp_end=2026-11-29T04:00:00Z&tz=Europe/Berlin",
		"iso_timestamp_start=2026-11-29T03:00:00.25Z",
	} {
		v := view(t, query)
		l := logOf(t, query, call(time.Minute, "a"))
		if zone := v.Get(ParamZone); zone != "" {
			l.Zone, _ = time.LoadLocation(zone)
		}
		if at, err := ParseTime(v.Get(ParamStart), nil); err == nil {
			l.From = at
		}
		if at, err := ParseTime(v.Get(ParamEnd), nil); err == nil {
			l.To = at
		}
		got, err := ParseView("acme", formValues(parsed(t, l), "filters"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Concat(single, filters) {
			a, b := slices.Sorted(slices.Values(v.All(name))), slices.Sorted(slices.Values(got.All(name)))
			switch name {
			case ParamZone:
				if len(a) == 0 {
					a = []string{"UTC"}
				}
			case ParamStart, ParamEnd:
				for i := range min(len(a), len(b)) {
					x, _ := ParseTime(a[i], nil)
					y, err := ParseTime(b[i], l.Zone)
					if err == nil && x.Equal(y) {
						a[i] = b[i]
					}
				}
			}
			if !slices.Equal(a, b) {
				t.Errorf("%s: the form sends %s %q instead of %q", query, name, b, a)
			}
		}
	}
}

func TestPagesAreTurnedByTheirCursors(t *testing.T) {
	l := logOf(t, "outcome=success&cursor=now", call(time.Minute, "a"))
	l.Newer, l.Older = "new&er", "older"
	var got []string
	for _, a := range all(one(t, parsed(t, l), class("pager")), tag("a")) {
		got = append(got, textOf(a)+" "+attr(a, "href"))
	}
	want := []string{
		"Newest /organizations/acme/audit?outcome=success",
		"← Newer /organizations/acme/audit?cursor=new%26er&outcome=success",
		"Older → /organizations/acme/audit?cursor=older&outcome=success",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the pager is %q instead of %q", got, want)
	}
}

func TestExportIsOfTheTimeAndTheFiltersThatAreShown(t *testing.T) {
	doc := parsed(t, logOf(t, "outcome=success&range=24h&cursor=c&tz=Asia/Tokyo", call(time.Minute, "a")))
	var formats []string
	for _, a := range all(one(t, doc, class("export")), tag("a")) {
		u, err := url.Parse(attr(a, "href"))
		if err != nil || u.Path != "/platform/organizations/acme/audit/export" {
			t.Fatalf("a file is at %s", attr(a, "href"))
		}
		q := u.Query()
		formats = append(formats, q.Get("format"))
		q.Del("format")
		if got := q.Encode(); got != "iso_timestamp_end=2026-11-29T12%3A00%3A00Z&iso_timestamp_start=2026-11-28T12%3A00%3A00Z&outcome=success" {
			t.Errorf("a file is of %s", got)
		}
	}
	if !slices.Equal(formats, []string{"csv", "json", "ndjson", "ocsf"}) {
		t.Errorf("the formats are %q", formats)
	}
}

func TestTheChosenZoneIsThatOfAllTimes(t *testing.T) {
	l := logOf(t, "tz=Asia/Kathmandu", call(time.Minute, "a"))
	l.Zone = time.FixedZone("Asia/Kathmandu", 5*3600+45*60)
	l.Complete = noon
	doc := parsed(t, l)
	chosen := one(t, doc, func(n *html.Node) bool {
		return n.Data == "option" && slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "selected" })
	})
	if attr(chosen, "value") != "Asia/Kathmandu" {
		t.Errorf("the chosen zone is %s", attr(chosen, "value"))
	}
	text := textOf(doc)
	for _, want := range []string{"29 Nov 17:44:00", "Complete until 17:45:00", "28 Nov 2026, 17:45 – 29 Nov 2026, 17:45 Asia/Kathmandu"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestFacetsOfferWhatThereIsWithItsCount(t *testing.T) {
	l := logOf(t, "actor=ada@acme.example&project=gone", call(time.Minute, "a"), call(time.Hour, "b"))
	doc := parsed(t, l)
	boxes := map[string]string{}
	for _, label := range all(one(t, doc, class("filters")), tag("label")) {
		box := one(t, label, tag("input"))
		state := ""
		if slices.ContainsFunc(box.Attr, func(a html.Attribute) bool { return a.Key == "checked" }) {
			state = " chosen"
		}
		boxes[attr(box, "name")+"="+attr(box, "value")] = textOf(label) + state
	}
	for box, want := range map[string]string{
		"actor=ada@acme.example":      "ada@acme.example2 entries chosen",
		"project=gone":                "gone chosen",
		"project=project-a":           "project-a2 entries",
		"action=v1-update-a-function": "Update a function2 entries",
		"outcome=success":             "Success2 entries",
		"ip=203.0.113.7":              "203.0.113.72 entries",
		"target=edge_function":        "Edge function2 entries",
		"status=200":                  "2002 entries",
	} {
		if boxes[box] != want {
			t.Errorf("%s is offered as %q instead of %q", box, boxes[box], want)
		}
	}
	if boxes["actor=user-1"] != "" {
		t.Error("the actor who is chosen by their email is offered once more by their id")
	}
}

func TestAPageWithoutCountsStillHasItsFilters(t *testing.T) {
	l := logOf(t, "actor=ada", call(time.Minute, "a"))
	l.Tally = nil
	doc := parsed(t, l)
	if len(all(doc, class("chart"))) != 0 {
		t.Error("there is a histogram of nothing")
	}
	if got := formValues(doc, "filters")["actor"]; !slices.Equal(got, []string{"ada"}) {
		t.Errorf("the form has the actors %q", got)
	}
}

func TestManyEntriesMakeNoHugePage(t *testing.T) {
	var entries []*audit.Entry
	long := strings.Repeat("x\u202e", 30_000)
	for i := range 100 {
		e := call(time.Duration(i)*time.Minute, strconv.Itoa(i))
		e.Action.Name, e.Action.Code, e.Actor.Email, e.Actor.IP, e.Target.ID, e.Action.Method = long, long, long, long, long, long
		entries = append(entries, e)
	}
	if n := len(rendered(t, logOf(t, "", entries...))); n > 4<<20 {
		t.Errorf("the page has %d bytes", n)
	}
}
