package page

import (
	"bytes"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// noon is what the clock says in these tests.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

type renderer interface{ Render(w io.Writer) error }

func rendered(t *testing.T, r renderer) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Render(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parsed(t *testing.T, r renderer) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(rendered(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// all are the elements that a test picks.
func all(root *html.Node, pick func(*html.Node) bool) (found []*html.Node) {
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && pick(n) {
			found = append(found, n)
		}
	}
	return found
}

func tag(name string) func(*html.Node) bool { return func(n *html.Node) bool { return n.Data == name } }

func class(name string) func(*html.Node) bool {
	return func(n *html.Node) bool { return slices.Contains(strings.Fields(attr(n, "class")), name) }
}

func one(t *testing.T, root *html.Node, pick func(*html.Node) bool) *html.Node {
	t.Helper()
	found := all(root, pick)
	if len(found) != 1 {
		t.Fatalf("%d elements are found instead of one", len(found))
	}
	return found[0]
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// textOf is what a node says, with its spaces as a reader sees them.
func textOf(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func view(t *testing.T, query string) View {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseView("acme", q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// call is an entry that was made some time before noon.
func call(before time.Duration, id string) *audit.Entry {
	at := noon.Add(-before)
	return &audit.Entry{
		ID: id, Revision: 1, RequestID: "request-" + id, Timestamp: at.UnixMicro(), RecordedAt: at.UnixMicro(), DurationUS: 1500,
		OrganizationID: "org", OrganizationSlug: "acme", ProjectRef: "project-a", Membership: audit.MembershipProven,
		Action:  audit.Action{Code: "v1-update-a-function", Name: "Update a function", Method: "PATCH", Route: "/v1/projects/{ref}/functions/{slug}", Status: 200},
		Actor:   audit.Actor{TokenType: audit.TokenJWT, TokenHash: "0123abcd", Verification: audit.VerificationSignature, UserID: "user-1", Email: "ada@acme.example", IP: "203.0.113.7", UserAgent: "cli/1"},
		Target:  &audit.Target{Type: "edge_function", ID: "hello", Parent: "project-a"},
		Outcome: audit.OutcomeSuccess, Policy: audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Retention: &audit.Retention{Class: "default", KeepUntil: noon.AddDate(1, 0, 0).UnixMicro(), Plan: "team", Hold: true},
		Origin:    &audit.Origin{Instance: "buffer-7", Sequence: 4711}, SchemaVersion: audit.SchemaVersion,
	}
}

// logOf is a log of the day before noon with some entries, counted.
func logOf(t *testing.T, query string, entries ...*audit.Entry) *Log {
	t.Helper()
	l := &Log{
		Frame: Frame{Organization: Organization{"acme", "Acme Rockets"}, Reader: Reader{Name: "ada@acme.example"}},
		View:  view(t, query), From: noon.Add(-24 * time.Hour), To: noon, Entries: entries,
	}
	l.Tally = forwarder.NewTally(&forwarder.Query{From: l.From, To: l.To}, 48)
	for _, e := range entries {
		b := e.Brief()
		l.Tally.Add(&b)
	}
	return l
}

// formValues are what a browser sends of a form, fields outside of it included.
func formValues(doc *html.Node, id string) url.Values {
	q := url.Values{}
	var walk func(n *html.Node, inside bool)
	walk = func(n *html.Node, inside bool) {
		inside = inside || n.Data == "form" && attr(n, "id") == id
		if n.Type == html.ElementNode && (inside || attr(n, "form") == id) {
			has := func(name string) bool {
				return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
			}
			switch {
			case n.Data == "input" && (attr(n, "type") != "checkbox" || has("checked")):
				q.Add(attr(n, "name"), attr(n, "value"))
			case n.Data == "select":
				for _, o := range all(n, tag("option")) {
					if slices.ContainsFunc(o.Attr, func(a html.Attribute) bool { return a.Key == "selected" }) {
						q.Add(attr(n, "name"), attr(o, "value"))
					}
				}
			}
		}
		for c := range n.ChildNodes() {
			walk(c, inside)
		}
	}
	walk(doc, false)
	return q
}
