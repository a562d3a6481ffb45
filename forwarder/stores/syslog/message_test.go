package syslogstore

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var update = flag.Bool("update", false, "write testdata/message.golden anew")

// documentedEntry is the one in docs/syslog.md.
func documentedEntry(t testing.TB) forwarder.Record {
	t.Helper()
	e := &audit.Entry{
		ID: "0198c0de-0000-7000-8000-000000000042", Revision: audit.RevisionAnswer, Timestamp: 1_760_000_000_000_042, OrganizationSlug: "acme",
		Action:  audit.Action{Code: "v1-delete-a-function", Method: "DELETE", Route: "/v1/projects/{ref}/functions/{slug}", Status: 403},
		Outcome: audit.OutcomeDenied, Policy: audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict},
		Origin: &audit.Origin{Instance: testInstance, Sequence: 42}, SchemaVersion: audit.SchemaVersion,
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forwarder.Record{Sequence: 42, Entry: e, JSON: b}
}

// TestAMessageLooksAsDocumented compares a message with the golden file, and that with
// docs/syslog.md.
func TestAMessageLooksAsDocumented(t *testing.T) {
	c := Config{Hostname: "gateway-1"}.withDefaults()
	f := c.format()
	r := documentedEntry(t)
	got := append(frame(nil, f.append(nil, &r)), '\n')
	const golden = "testdata/message.golden"
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	manual, err := os.ReadFile("../../../docs/syslog.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(manual, want) {
		t.Errorf("docs/syslog.md does not have the message:\n%s", want)
	}
}

func TestAMessageSaysWhatTheEntrySays(t *testing.T) {
	f := Config{Hostname: "gateway-1", Facility: "local3", AppName: "audit", Enterprise: "4711.2"}.withDefaults().format()
	r := documentedEntry(t)
	m, err := parse(f.append(nil, &r))
	if err != nil {
		t.Fatal(err)
	}
	want := message{
		facility: 19, severity: 4, timestamp: time.UnixMicro(1_760_000_000_000_042).UTC(), hostname: "gateway-1", appName: "audit",
		procID: testInstance, msgID: "call",
		data: map[string]map[string]string{"audit@4711.2": {
			"id": r.Entry.ID, "revision": "1", "instance": testInstance, "sequence": "42", "action": "v1-delete-a-function",
			"outcome": "denied", "organization": "acme",
		}},
		msg: r.JSON,
	}
	if diff := cmp.Diff(want, m, cmp.AllowUnexported(message{})); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestTheSeverityIsThatOfTheOutcome(t *testing.T) {
	for _, c := range []struct {
		code    string
		outcome audit.Outcome
		want    int
		msgID   string
	}{
		{"v1-x", audit.OutcomeSuccess, 6, "call"},
		{"v1-x", audit.OutcomePending, 6, "call"},
		{"v1-x", audit.OutcomeFailure, 5, "call"},
		{"v1-x", audit.OutcomeDenied, 4, "call"},
		{"v1-x", audit.OutcomeUnknown, 4, "call"},
		{"v1-x", audit.OutcomeRefused, 3, "call"},
		{"v1-x", "", 5, "call"},
		{"v1-x", "of a later version", 5, "call"},
		{audit.EventGap, audit.OutcomeSuccess, 3, "audit.gap"},
		{audit.EventPass, audit.OutcomeSuccess, 3, "audit.pass"},
		{audit.EventQuarantined, audit.OutcomeSuccess, 4, "audit.quarantined"},
		{audit.EventUncleanStart, "", 4, "audit.unclean_start"},
		{audit.EventHeartbeat, audit.OutcomeSuccess, 6, "audit.heartbeat"},
		{"audit." + strings.Repeat("x", 30), "", 5, "call"},
	} {
		e := &audit.Entry{Action: audit.Action{Code: c.code}, Outcome: c.outcome}
		if got := severity(e); got != c.want {
			t.Errorf("%s, %s: severity %d, want %d", c.code, c.outcome, got, c.want)
		}
		if got := msgID(e); got != c.msgID {
			t.Errorf("%s: MSGID %q, want %q", c.code, got, c.msgID)
		}
	}
}

func TestWhatCannotStandInAMessageIsLeftOut(t *testing.T) {
	f := Config{}.withDefaults().format()
	for name, c := range map[string]struct {
		change func(*audit.Entry)
		params []string // that there are not
	}{
		"a long slug":       {func(e *audit.Entry) { e.OrganizationSlug = strings.Repeat("x", 256) }, []string{"organization"}},
		"a control":         {func(e *audit.Entry) { e.OrganizationSlug = "a\nb" }, []string{"organization"}},
		"no UTF-8":          {func(e *audit.Entry) { e.Action.Code = "a\xffb" }, []string{"action"}},
		"nothing":           {func(e *audit.Entry) { *e = audit.Entry{} }, []string{"id", "instance", "action", "outcome", "organization"}},
		"a far time":        {func(e *audit.Entry) { e.Timestamp = 1 << 62 }, nil},
		"a time before all": {func(e *audit.Entry) { e.Timestamp = -1 << 62 }, nil},
		"no PRINTUSASCII":   {func(e *audit.Entry) { e.Origin.Instance = "in stance" }, nil},
		"a long instance":   {func(e *audit.Entry) { e.Origin.Instance = strings.Repeat("i", 200) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := documentedEntry(t)
			c.change(r.Entry)
			m, err := parse(f.append(nil, &r))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range c.params {
				if value, ok := m.data["audit@32473"][p]; ok {
					t.Errorf("%s is %q", p, value)
				}
			}
			if !bytes.Equal(m.msg, r.JSON) {
				t.Errorf("MSG is %q", m.msg)
			}
		})
	}
}

// The oracle has to know what is wrong, and what RFC 5424 itself has as right.
func TestTheParserOfTheTestsIsStrict(t *testing.T) {
	const head = "<165>1 2003-10-11T22:14:15.000003Z h a p m "
	for _, right := range []string{
		head + `[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]`,
		head + `- ` + "\xef\xbb\xbfAn application event", head + "-", "<0>1 - - - - - -",
		head + `[a@1 b="\"\\\]"] x`,
	} {
		if _, err := parse([]byte(right)); err != nil {
			t.Errorf("%q: %v", right, err)
		}
	}
	for _, wrong := range []string{
		"", "1 - - - - - -", "<192>1 - - - - - -", "<007>1 - - - - - -", "<1>2 - - - - - -", "<1>1 2003-10-11 h a p m -",
		"<1>1 2003-13-11T22:14:15.000003Z h a p m -", "<1>1 2003-10-11T22:14:15.0000003Z h a p m -",
		"<1>1 -  a p m -", "<1>1 - " + strings.Repeat("h", 256) + " a p m -", "<1>1 - h " + strings.Repeat("a", 49) + " p m -",
		"<1>1 - h a p " + strings.Repeat("m", 33) + " -", "<1>1 - h a p m ", "<1>1 - h a p m -x", "<1>1 - h a p m []",
		`<1>1 - h a p m [a b="]"]`, `<1>1 - h a p m [a b="\x"]`, `<1>1 - h a p m [a b="]`, `<1>1 - h a p m [a b="1" b="2"]`,
		`<1>1 - h a p m [a][a]`, "<1>1 - h a p m [a b=\"\xff\"]", "<1>1 - h a p m - \xef\xbb\xbf\xff", "<1>1 - hö a p m -",
	} {
		if m, err := parse([]byte(wrong)); err == nil {
			t.Errorf("%q is read as %+v", wrong, m)
		}
	}
	for _, wrong := range []string{"", "x", " a", "01 a", "1", "5 abc", "1a b", "9999999999 a"} {
		if b, err := readFrame(bytes.NewReader([]byte(wrong))); err == nil {
			t.Errorf("%q is read as %q", wrong, b)
		}
	}
}

// FuzzMessage has anything in an entry and in the configuration: what is written can be
// read again as strictly as RFC 5424 has it, and says the same.
func FuzzMessage(f *testing.F) {
	f.Add("id", 1, int64(1_760_000_000_000_042), "action", "success", "acme", "instance", []byte(`{}`), "host", "app")
	f.Add(`"]\`, -2, int64(-1), "audit.gap", "", "a]b\"c\\", "x y", []byte("\n 12 <1>1 \x00\xff"), "", "")
	f.Add("\u2028", 0, int64(1<<62), "audit.\x00", "refused", "\xff", "\u00e9", []byte{}, "h\u00f6st", "\x7f")
	f.Fuzz(func(t *testing.T, id string, revision int, at int64, action, outcome, slug, instance string, doc []byte, host, app string) {
		c := Config{Hostname: clean(host, maxHostname), AppName: clean(app, maxAppName)}.withDefaults()
		form := c.format()
		e := &audit.Entry{
			ID: id, Revision: revision, Timestamp: at, OrganizationSlug: slug, Outcome: audit.Outcome(outcome),
			Action: audit.Action{Code: action}, Origin: &audit.Origin{Instance: instance, Sequence: 7},
		}
		r := forwarder.Record{Sequence: 7, Entry: e, JSON: doc}
		b := form.append(nil, &r)
		m, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if m.facility != 13 || m.severity != severity(e) || !bytes.Equal(m.msg, doc) {
			t.Errorf("%+v of %+v", m, r)
		}
		if !m.timestamp.IsZero() && m.timestamp.UnixMicro() != at {
			t.Errorf("timestamp %s of %d", m.timestamp, at)
		}
		params := m.data["audit@32473"]
		for name, value := range map[string]string{"id": id, "action": action, "outcome": outcome, "organization": slug, "instance": instance} {
			if got, ok := params[name]; ok && got != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
		}
		if params["revision"] != fmt.Sprint(revision) || params["sequence"] != "7" {
			t.Errorf("parameters %q", params)
		}
		if len(b)-len(doc) > 5000 {
			t.Errorf("%d bytes are before the document", len(b)-len(doc))
		}
		two := bytes.NewReader(frame(frame(nil, b), b))
		for range 2 {
			if again, err := readFrame(two); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("read as %q, %v", again, err)
			}
		}
	})
}
