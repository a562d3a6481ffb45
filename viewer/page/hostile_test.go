package page

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// hostiles are values that somebody may send to do harm to whoever reads them.
var hostiles = map[string]string{
	"script":       `<script src="//evil.example/x.js">alert(1)</script>`,
	"attribute":    `" onmouseover="alert(1)" style="color:red" x="`,
	"apostrophe":   `' onfocus='alert(1)' autofocus='`,
	"image":        `"><img src=x onerror=alert(1)>`,
	"closing":      `</title></textarea></script></style></svg><iframe src=javascript:alert(1)>`,
	"comment":      `--><!-- <b>`,
	"template":     `{{.Reader}}{{template "log"}}${7*7}#{7*7}<%= 7*7 %>`,
	"scheme":       `javascript:alert(document.domain)`,
	"data":         `data:text/html,<script>alert(1)</script>`,
	"way up":       `../../../platform/organizations/other/audit`,
	"host":         `//evil.example/`,
	"query":        `x&outcome=success#fragment?y=%00`,
	"override":     "invoice\u202efdp.exe",
	"isolates":     "a\u2066b\u2069c\u200f\u061c",
	"invisible":    "ad\u200bmin\u00ad\u2060\ufeff\U000e0041",
	"controls":     "a\x00b\x1b[31mc\rd\ne\tf\x7f\u0085\u2028",
	"not utf-8":    "\xff\xfe\xc3\x28\xed\xa0\x80",
	"long":         strings.Repeat("abcdefghij", 10_000),
	"long, hidden": strings.Repeat("\u202e", 33_000),
	"marks":        "e" + strings.Repeat("\u0301", 200),
	"empty":        "",
	"entity":       `&lt;script&gt;&quot;&#x202e;`,
	"dots":         "..",
}

// hostileEntry has a value in each of its texts.
func hostileEntry(s string) *audit.Entry {
	return &audit.Entry{
		ID: s, Revision: 1, RequestID: s, TraceID: s, Timestamp: noon.Add(-time.Minute).UnixMicro(), OrganizationID: s, OrganizationSlug: s, OrganizationPlan: s, ProjectRef: s,
		Action: audit.Action{
			Code: s, Name: s, Method: s, Route: s, Path: s, Host: s, Status: 200, StatusSource: audit.StatusSource(s),
			Params: map[string]string{s: s, "name": s}, Metadata: map[string]any{s: s, "list": []any{s}},
		},
		Actor: audit.Actor{
			TokenType: audit.TokenType(s), TokenHash: s, OtherTokenHashes: []string{s}, TokenAlias: s, TokenScope: s, Verification: audit.Verification(s),
			VerificationReason: audit.Reason(s), Kind: audit.ActorKind(s), UserID: s, Email: s, IP: s, IPSource: audit.IPSource(s), PeerIP: s + "x", SessionID: s, AAL: s,
			AMR: []string{s}, JWTRole: s, JWTIssuer: s, JWTSubject: s, OAuthAppID: s, OAuthAppName: s, UserAgent: s, OnBehalfOf: s, AssertedUserID: s,
			Certificate: &audit.Certificate{Subject: s, Issuer: s, Serial: s, Names: []string{s}, SHA256: s},
			Claimed:     &audit.Claimed{Subject: s, Email: s, SessionID: s, Role: s, Issuer: s, ClientID: s, AAL: s, Project: s, Username: s},
		},
		Target: &audit.Target{Type: s, ID: s, Parent: s}, Outcome: audit.Outcome(s),
		Policy:    audit.Policy{Rule: s, Level: audit.Level(s), Durability: audit.Durability(s), ConfigHash: s},
		Retention: &audit.Retention{Class: s, Plan: s}, Origin: &audit.Origin{Instance: s, Sequence: 1}, Cut: map[string]int{s: 9},
		Folded: &audit.Folded{Network: s}, Count: 2,
	}
}

// hostilePages are all pages, with a value wherever one can come from somebody else.
func hostilePages(t *testing.T, s string) map[string]renderer {
	t.Helper()
	q := url.Values{}
	for _, name := range slices.Concat(single, filters) {
		q.Set(name, s[:min(len(s), 200)])
	}
	v, err := ParseView("acme", q)
	if err != nil {
		v = view(t, "")
	}
	frame := Frame{Organization: Organization{"acme", s}, Reader: Reader{Name: s, Operator: true}}
	l := &Log{
		Frame: frame, View: v, From: noon.Add(-time.Hour), To: noon, Complete: noon, Plan: s, Readable: time.Hour, Notice: s,
		Entries: []*audit.Entry{hostileEntry(s)}, Gaps: []Gap{{To: noon, Why: s}}, Newer: s, Older: s,
		Tally: forwarder.NewTally(&forwarder.Query{From: noon.Add(-time.Hour), To: noon}, 10),
	}
	b := l.Entries[0].Brief()
	l.Tally.Add(&b)
	return map[string]renderer{
		"log":         l,
		"entry":       &Entry{Frame: frame, View: v, Entry: hostileEntry(s)},
		"entry, JSON": &Entry{Frame: frame, View: v, Entry: hostileEntry(s), JSON: []byte(s)},
		"state":       &State{Frame: frame, View: v, Kind: BadRequest, Message: s, Link: s},
		"start":       &Start{Frame: Frame{Reader: Reader{Name: s}}, Organizations: []Organization{{s, s}}, Slug: s, Message: s},
	}
}

// elements are those that our templates have, and no others may come from data; nor may
// attributes.
var (
	elements = strings.Fields(`html head meta title link script body a svg defs pattern rect symbol path circle line text use g header nav span div button bdi main h1 h2 p
		time details summary ul li b search input label select option form fieldset legend section table caption thead tbody tr th td aside footer dialog kbd dl dt dd article pre code`)
	attributes = strings.Fields(`lang charset name content rel type href src class id width height viewbox viewBox aria-hidden aria-label aria-live aria-labelledby aria-describedby aria-invalid
		aria-current role title for fill stroke stroke-width stroke-linejoin stroke-linecap stroke-dasharray d cx cy r x y x1 x2 y1 y2 text-anchor patternUnits patternTransform focusable
		rx data-page data-cursor data-announce data-keep data-scroll data-id data-api data-from data-to data-exact data-state download datetime form method action value maxlength placeholder
		autocomplete autocapitalize spellcheck checked selected step open hidden tabindex colspan scope required`)
)

func TestHostileValuesAreTextAndNothingElse(t *testing.T) {
	for name, value := range hostiles {
		for page, r := range hostilePages(t, value) {
			t.Run(name+"/"+page, func(t *testing.T) {
				text := rendered(t, r)
				if !utf8.ValidString(text) {
					t.Error("the page is not UTF-8")
				}
				doc, err := html.Parse(strings.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				for n := range doc.Descendants() {
					switch n.Type {
					case html.ElementNode:
						checkElement(t, n)
					case html.TextNode:
						checkText(t, n.Data)
					case html.CommentNode:
						t.Errorf("there is a comment: %.80s", n.Data)
					}
				}
			})
		}
	}
}

// checkText is about all that a reader sees.
func checkText(t *testing.T, text string) {
	t.Helper()
	for _, c := range text {
		if c != '\n' && hidden(c) {
			t.Fatalf("the page shows a character that cannot be seen: %U", c)
		}
	}
}

func checkElement(t *testing.T, n *html.Node) {
	t.Helper()
	if !slices.Contains(elements, n.Data) {
		t.Errorf("there is an element <%s>", n.Data)
	}
	for _, a := range n.Attr {
		if !slices.Contains(attributes, a.Key) {
			t.Errorf("<%s> has an attribute %s", n.Data, a.Key)
		}
		switch a.Key {
		case "title", "aria-label", "data-announce", "placeholder":
			checkText(t, a.Val)
		case "href", "src", "action", "data-api":
			path, _, _ := strings.Cut(a.Val, "?")
			if strings.HasPrefix(path, "#") {
				continue
			}
			if path != "/" &&
				!strings.HasPrefix(path, "/organizations/") && !strings.HasPrefix(path, "/platform/organizations/") && !strings.HasPrefix(path, "/assets/audit.") && !strings.HasPrefix(path, "/assets/icon.") {
				t.Errorf("<%s> leads to %.80q", n.Data, a.Val)
			} else if parts := strings.Split(path, "/")[1:]; slices.Contains(parts, "..") || slices.Contains(parts, ".") || path != "/" && slices.Contains(parts, "") {
				t.Errorf("<%s> leads up by %.80q", n.Data, a.Val)
			}
		}
	}
	if n.Data == "script" && (attr(n, "src") != assetPaths["audit.js"] || n.FirstChild != nil) {
		t.Error("there is another script than ours")
	}
}

func TestNothingStandsInThePageThatThePolicyForbids(t *testing.T) {
	pages := hostilePages(t, "x")
	for name, r := range pages {
		for _, n := range all(parsed(t, r), func(*html.Node) bool { return true }) {
			if n.Data == "style" || n.Data == "base" || n.Data == "iframe" || n.Data == "object" || n.Data == "img" {
				t.Errorf("%s: there is a <%s>", name, n.Data)
			}
			for _, a := range n.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s: <%s> has the attribute %s", name, n.Data, a.Key)
				}
			}
		}
	}
}

func TestEachIDIsThePagesOnlyOne(t *testing.T) {
	for name, r := range hostilePages(t, "x") {
		seen := map[string]bool{}
		for _, n := range all(parsed(t, r), func(n *html.Node) bool { return attr(n, "id") != "" }) {
			if id := attr(n, "id"); seen[id] {
				t.Errorf("%s: the id %s is there twice", name, id)
			} else {
				seen[id] = true
			}
		}
	}
}

func TestWhatCannotBeSeenIsShown(t *testing.T) {
	for text, want := range map[string]string{
		"plain ünïcode שלום 你好 👍":         "plain ünïcode שלום 你好 👍",
		"a\u202eb":                        "a⟨U+202E⟩b",
		"a\x00\x1b\n":                     "a⟨U+0000⟩⟨U+001B⟩⟨U+000A⟩",
		"\xff\xc3(":                       "⟨0xFF⟩⟨0xC3⟩(",
		"a\u00a0b\u3164c\u2800":           "a⟨U+00A0⟩b⟨U+3164⟩c⟨U+2800⟩",
		"\U000e0041":                      "⟨U+E0041⟩",
		"e\u0301\u0301\u0301\u0301\u0301": "e\u0301\u0301\u0301⟨U+0301⟩⟨U+0301⟩",
		"\ufffd":                          "\ufffd",
	} {
		if got := visible(text); got != want {
			t.Errorf("%q is shown as %q instead of %q", text, got, want)
		}
	}
}

func TestALongValueIsCutWithMoreOfItInItsTitle(t *testing.T) {
	short := newText("short", 10)
	if short != (Text{Shown: "short"}) {
		t.Errorf("a short text is shown as %+v", short)
	}
	long := newText("0123456789€abc", 12)
	if long.Shown != "0123456789…" || long.Title != "0123456789€abc" || long.Cut != "16" {
		t.Errorf("a long text is shown as %+v", long)
	}
	huge := newText(strings.Repeat("x", 100_000), 12)
	if len(huge.Title) > titleText+100 || !strings.Contains(huge.Title, "100,000 bytes") {
		t.Errorf("a huge text has a title of %d bytes", len(huge.Title))
	}
}

func TestTheRawJSONIsTheSameDocument(t *testing.T) {
	for name, value := range hostiles {
		e := hostileEntry(strings.ToValidUTF8(clip(value, 4000), "")) // in all of an entry's texts
		doc, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		shown := newJSON(doc, 32<<20)
		var a, b any
		if err := json.Unmarshal(doc, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(shown.Shown), &b); err != nil {
			t.Fatalf("%s: what is shown is no JSON: %v", name, err)
		}
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if string(x) != string(y) {
			t.Errorf("%s: what is shown is another document", name)
		}
	}
}

func FuzzTextIsOnlyWhatCanBeSeen(f *testing.F) {
	for _, value := range hostiles {
		if len(value) < 1000 {
			f.Add(value, 20)
		}
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most < 0 || most > 1<<16 {
			return
		}
		got := newText(s, most)
		for _, c := range got.Shown + got.Title {
			if hidden(c) {
				t.Fatalf("%q shows %U", s, c)
			}
		}
		if !utf8.ValidString(got.Shown) || (got.Cut == "") != (len(s) <= most) {
			t.Fatalf("%q is shown as %+v", s, got)
		}
	})
}
