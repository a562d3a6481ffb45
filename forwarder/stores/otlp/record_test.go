package otlp

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var update = flag.Bool("update", false, "write testdata/request.golden anew")

// full has every field that an attribute or anything else is made of.
func full(e *audit.Entry) {
	bytes := int64(17)
	none := int64(0)
	e.RequestID, e.TraceID = "req-1", "4bf92f3577b34da6a3ce929d0e0e4736"
	e.RecordedAt, e.DurationUS = e.Timestamp+1500, 1234
	e.OrganizationID, e.OrganizationSlug, e.ProjectRef = "org-id", "acme", "abcdefghijklmnopqrst"
	e.Action = audit.Action{
		Code: "v1-update-a-function", Name: "Update a function", Method: "PATCH", Route: "/v1/projects/{ref}/functions/{slug}",
		Path: "/v1/projects/abcdefghijklmnopqrst/functions/hello", Host: "api.example.com:8443", Status: 503, StatusSource: audit.StatusWritten,
		Params: map[string]string{"slug": "hello"}, Metadata: map[string]any{"name": "hello"},
	}
	e.Actor = audit.Actor{
		TokenType: "jwt", TokenHash: "sha256:aa", OtherTokenHashes: []string{"sha256:bb", "sha256:cc"}, TokenAlias: "sbp_12",
		Verification: audit.VerificationSignature, VerificationReason: audit.ReasonSeveralCredentials,
		Kind: audit.ActorPerson, UserID: "user-1", Email: "user@example.com", IP: "203.0.113.7", IPSource: audit.IPForwarded, PeerIP: "10.0.0.2",
		SessionID: "session-1", OAuthAppID: "app-1", OAuthAppName: "App", UserAgent: "curl/8", OnBehalfOf: "user-2",
		Certificate: &audit.Certificate{Subject: "CN=client", Issuer: "CN=issuer", SHA256: "ab12"},
		Claimed:     &audit.Claimed{Subject: "claimed-sub", Email: "claimed@example.com", SessionID: "claimed-session"},
	}
	e.Target = &audit.Target{Type: "edge_function", ID: "hello", Parent: "abcdefghijklmnopqrst"}
	e.Outcome, e.ClientGone, e.RequestBytes, e.ResponseBytes, e.Count = audit.OutcomeFailure, true, &bytes, &none, 3
	e.Retention = &audit.Retention{Class: "default", KeepUntil: 1_790_000_000_000_000, Plan: "team", Hold: true}
}

func message(batch ...forwarder.Record) *collogspb.ExportLogsServiceRequest {
	return divide(batch, 0)[0].message
}

func TestAnEntryLooksAsDocumented(t *testing.T) {
	defer func(was func() string) { version = was }(version)
	version = func() string { return "v1.2.3" }
	m := message(record(t, testInstance, 41, nil), record(t, testInstance, 42, full))
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, b, "", " "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	golden := filepath.Join("testdata", "request.golden")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("the request, or write it anew with -update (-want +got):\n%s", diff)
	}
	docs, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "otlp.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range attributesOf(t, record(t, testInstance, 42, full)) {
		if !bytes.Contains(docs, []byte("`"+name+"`")) {
			t.Errorf("docs/otlp.md does not have the attribute %s", name)
		}
	}
}

// attributesOf are a record's, as text.
func attributesOf(t testing.TB, r forwarder.Record) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range logRecord(r).GetAttributes() {
		if _, twice := all[a.GetKey()]; twice {
			t.Errorf("attribute %s is there twice", a.GetKey())
		}
		b, err := protojson.Marshal(a.GetValue())
		if err != nil {
			t.Fatal(err)
		}
		var value map[string]any
		if err := json.Unmarshal(b, &value); err != nil {
			t.Fatal(err)
		}
		for _, v := range value {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			all[a.GetKey()] = strings.Trim(string(text), `"`)
		}
	}
	return all
}

func TestWhatIsAbsentHasNoAttribute(t *testing.T) {
	r := record(t, "", 1, func(e *audit.Entry) { *e = audit.Entry{ID: "id"} })
	want := map[string]string{"audit.id": "id", "audit.revision": "0", "audit.schema_version": "0"}
	if diff := cmp.Diff(want, attributesOf(t, r)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	l := logRecord(r)
	if l.GetTimeUnixNano() != 0 || l.GetObservedTimeUnixNano() != 0 || l.GetTraceId() != nil {
		t.Errorf("it has a time or a trace: %v", l)
	}
}

func TestAttributesSayWhatIsKnownAndNoMore(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*audit.Entry)
		want   map[string]string // empty is absent
	}{
		"nobody verified the user": {
			func(e *audit.Entry) { full(e); e.Actor.Verification = audit.VerificationNone },
			map[string]string{"user.id": "", "user.email": "", "session.id": "", "audit.verification": "none"},
		},
		"the API accepted the credential": {
			func(e *audit.Entry) { full(e); e.Actor.Verification = audit.VerificationAccepted },
			map[string]string{"user.id": "", "user.email": "", "session.id": ""},
		},
		"the API asserted the user": {
			func(e *audit.Entry) { full(e); e.Actor.Verification = audit.VerificationAsserted },
			map[string]string{"user.id": "user-1", "user.email": "user@example.com", "session.id": "session-1"},
		},
		"only a claim": {
			func(e *audit.Entry) { e.Actor.Claimed = &audit.Claimed{Subject: "x", Email: "y", SessionID: "z"} },
			map[string]string{"user.id": "", "user.email": "", "session.id": ""},
		},
		"a method of the client's own": {
			func(e *audit.Entry) { e.Action.Method = "BREW" },
			map[string]string{"http.request.method": "_OTHER", "http.request.method_original": "BREW"},
		},
		"a method in small letters": {
			func(e *audit.Entry) { e.Action.Method = "get" },
			map[string]string{"http.request.method": "_OTHER", "http.request.method_original": "get"},
		},
		"a host without a port": {
			func(e *audit.Entry) { e.Action.Host = "api.example.com" },
			map[string]string{"server.address": "api.example.com", "server.port": ""},
		},
		"an address of IPv6 with a port": {
			func(e *audit.Entry) { e.Action.Host = "[2001:db8::1]:443" },
			map[string]string{"server.address": "2001:db8::1", "server.port": "443"},
		},
		"an address of IPv6 without one": {
			func(e *audit.Entry) { e.Action.Host = "[2001:db8::1]" },
			map[string]string{"server.address": "2001:db8::1", "server.port": ""},
		},
		"a port that is none": {
			func(e *audit.Entry) { e.Action.Host = "h:99999" },
			map[string]string{"server.address": "h", "server.port": ""},
		},
		"an error of the server's": {
			func(e *audit.Entry) { e.Action.Status = 502 },
			map[string]string{"error.type": "502", "http.response.status_code": "502"},
		},
		"an error of the client's": {
			func(e *audit.Entry) { e.Action.Status = 404 },
			map[string]string{"error.type": "", "http.response.status_code": "404"},
		},
		"a long value": {
			func(e *audit.Entry) { e.Action.Path = strings.Repeat("x", maxAttribute-1) + "ü and more" },
			map[string]string{"url.path": strings.Repeat("x", maxAttribute-1), "audit.attributes_cut": `{"values":[{"stringValue":"url.path"}]}`},
		},
		"a value that is no text": {
			func(e *audit.Entry) { e.Actor.UserAgent = "a\xffb\x00c" },
			map[string]string{"user_agent.original": "a\uFFFDb\\u0000c"},
		},
		"a body of no bytes": {
			func(e *audit.Entry) { none := int64(0); e.RequestBytes = &none },
			map[string]string{"http.request.body.size": "0", "http.response.body.size": ""},
		},
		"a pending entry": {
			func(e *audit.Entry) { e.Revision, e.Outcome = audit.RevisionPending, audit.OutcomePending },
			map[string]string{"audit.revision": "-1", "audit.outcome": "pending"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := attributesOf(t, record(t, testInstance, 1, c.change))
			for attribute, want := range c.want {
				if got[attribute] != want {
					t.Errorf("%s is %q, want %q", attribute, got[attribute], want)
				}
			}
		})
	}
}

func TestTheSeverityFollowsTheOutcome(t *testing.T) {
	for _, c := range []struct {
		outcome audit.Outcome
		status  int
		want    string
	}{
		{audit.OutcomeSuccess, 200, "INFO"},
		{audit.OutcomePending, 0, "INFO"},
		{audit.OutcomeDenied, 403, "WARN"},
		{audit.OutcomeUnknown, 0, "WARN"},
		{audit.OutcomeFailure, 404, "WARN"},
		{audit.OutcomeFailure, 500, "ERROR"},
		{audit.OutcomeRefused, 503, "ERROR"},
		{"of a later version", 200, "WARN"},
	} {
		e := &audit.Entry{Outcome: c.outcome, Action: audit.Action{Status: c.status}}
		number, text := severity(e)
		if text != c.want || !strings.HasSuffix(number.String(), "_"+c.want) {
			t.Errorf("%s, %d: %s, %s, want %s", c.outcome, c.status, number, text, c.want)
		}
	}
}

func TestTheSeverityOfAnEventIsWhatItTells(t *testing.T) {
	for code, want := range map[string]string{
		audit.EventGap: "ERROR", audit.EventPass: "WARN", audit.EventUncleanStart: "WARN", audit.EventConfigChanged: "WARN",
		audit.EventQuarantined: "WARN", audit.EventHeartbeat: "INFO", audit.EventStarted: "INFO",
	} {
		if _, got := severity(audit.Event(code, time.Unix(1, 0), nil)); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
	call := &audit.Entry{Action: audit.Action{Code: audit.EventGap, Method: "POST"}, Outcome: audit.OutcomeSuccess, Policy: audit.Policy{Rule: "sidecar"}}
	if _, got := severity(call); got != "INFO" {
		t.Errorf("a call that is named like an event: %s", got)
	}
}

func TestATimeAndATraceAreThereIfTheyAreOnes(t *testing.T) {
	for us, want := range map[int64]uint64{
		0: 0, -1: 0, 1_760_000_000_000_001: 1_760_000_000_000_001_000, 1 << 62: 0, 9_223_372_036_854_775: 9_223_372_036_854_775_000,
	} {
		if got := nanoseconds(us); got != want {
			t.Errorf("%d µs are %d ns, want %d", us, got, want)
		}
	}
	for trace, want := range map[string]int{
		"4bf92f3577b34da6a3ce929d0e0e4736": 16, "": 0, "4bf92f35": 0, strings.Repeat("0", 32): 0, strings.Repeat("x", 32): 0, strings.Repeat("a", 64): 0,
	} {
		if got := len(traceID(trace)); got != want {
			t.Errorf("trace %q has %d bytes, want %d", trace, got, want)
		}
	}
}

func TestTheBodyIsTheDocumentByteByByte(t *testing.T) {
	for _, doc := range []string{`{"id":"1", "x":1.0000000000000000000001,"y":"\u0000"}`, "{\"id\":\"\xff\"}"} {
		r := record(t, testInstance, 1, nil)
		r.JSON = []byte(doc)
		m := message(r)
		r.JSON[0] = '!' // the memory is not the store's
		if got := documents(m); len(got) != 1 || string(got[0]) != doc {
			t.Errorf("got %q, want %q", got, doc)
		}
		if _, ok := logs(m)[0].GetBody().GetValue().(*commonpb.AnyValue_StringValue); ok == strings.Contains(doc, "\xff") {
			t.Errorf("%q is a string: %v", doc, ok)
		}
	}
}

// An entry is OCSF by its JSON; the attributes are those of the entry all the same.
func TestTheBodyIsInTheStoresFormat(t *testing.T) {
	r := record(t, testInstance, 1, full)
	var err error
	if r.JSON, err = audit.OCSFDocument(r.JSON); err != nil {
		t.Fatal(err)
	}
	l := logs(message(r))[0]
	if got := l.GetBody().GetStringValue(); got != string(r.JSON) || !strings.Contains(got, `"class_uid":6003`) {
		t.Errorf("body %q", got)
	}
	if got := attributesOf(t, r)["user.id"]; got != "user-1" {
		t.Errorf("user.id %q", got)
	}
}

func TestAnotherInstanceIsAnotherResourceAndTheOrderStays(t *testing.T) {
	var batch []forwarder.Record
	for n, from := range []string{"a", "a", "b", "a"} {
		batch = append(batch, record(t, from, n+1, nil))
	}
	m := message(batch...)
	var got []string
	for _, r := range m.GetResourceLogs() {
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.instance.id" {
				got = append(got, a.GetValue().GetStringValue())
			}
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "a"}, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	for i, doc := range documents(m) {
		if !bytes.Equal(doc, batch[i].JSON) {
			t.Errorf("document %d is %s", i, doc)
		}
	}
}
