package audit

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var updateFormats = flag.Bool("update-formats", false, "write the examples of docs/formats.md anew")

// ocsfExample is the call of docs/formats.md, with most of what an entry has.
func ocsfExample() *Entry {
	sent, received := int64(61), int64(412)
	return &Entry{
		ID: "0198c0de-7a10-7c3e-9f2e-3b1f4a5c6d7e", Revision: RevisionAnswer,
		RequestID: "9d1f0c6a-55b1-4c0e-8f53-0d5a7c1b2e11", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		Timestamp: 1767225600123456, RecordedAt: 1767225600165789, DurationUS: 41987,
		OrganizationID: "71", OrganizationSlug: "acme", ProjectRef: "abcdefghijklmnopqrst",
		Action: Action{
			Code: "v1-delete-a-function", Name: "Delete a function", Method: "DELETE",
			Route: "/v1/projects/{ref}/functions/{function_slug}", Path: "/v1/projects/abcdefghijklmnopqrst/functions/hello",
			Host: "api.example.com", Status: 200, StatusSource: StatusWritten,
			Params: map[string]string{"ref": "abcdefghijklmnopqrst", "function_slug": "hello"},
		},
		Actor: Actor{
			TokenType: TokenJWT, TokenHash: "5f1d7a84db00d2fce00b31a7fc73224f", Verification: VerificationSignature, Kind: ActorPerson,
			UserID: "8f6f6f6c-2222-4a6e-9f2e-000000000001", Email: "ada@example.com",
			IP: "203.0.113.9", IPSource: IPForwarded, PeerIP: "10.0.0.1",
			SessionID: "1c9e4f5a-0d3b-4b8e-a7c6-000000000002", AAL: "aal2", AMR: []string{"password", "totp"},
			JWTRole: "authenticated", JWTIssuer: "https://auth.example.com", JWTSubject: "8f6f6f6c-2222-4a6e-9f2e-000000000001",
			UserAgent: "example-cli/2.1",
		},
		Target:  &Target{Type: "edge_function", ID: "hello", Parent: "abcdefghijklmnopqrst"},
		Outcome: OutcomeSuccess, RequestBytes: &sent, ResponseBytes: &received,
		Policy:        Policy{Rule: "default", Level: LevelMetadata, Durability: DurabilityStrict, ConfigHash: "b3c1"},
		Origin:        &Origin{Instance: "0198c0de-0000-7000-8000-00000000beef", Sequence: 4711},
		SchemaVersion: SchemaVersion,
	}
}

// ocsfFields is an entry's event, read back.
func ocsfFields(t testing.TB, e *Entry) map[string]any {
	t.Helper()
	doc, err := OCSF(e)
	if err != nil {
		t.Fatal(err)
	}
	if faults := ocsfSchema().validate(doc); faults != nil {
		t.Fatalf("%s\n%s", strings.Join(faults, "\n"), doc)
	}
	var v map[string]any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// at is what a dotted path leads to, and nil if that is absent.
func at(v map[string]any, path string) any {
	var value any = v
	for name := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

func wantAt(t *testing.T, v map[string]any, want map[string]any) {
	t.Helper()
	for path, value := range want {
		if got := at(v, path); !reflect.DeepEqual(got, value) {
			t.Errorf("%s is %v (%T), want %v", path, got, got, value)
		}
	}
}

// leaves collects every value of a document that is no object and no list, but
// empty ones: absent and empty are one in an entry.
func leaves(t testing.TB, doc []byte) map[string]string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, value := range v {
				walk(joinPath(path, name), value)
			}
		case []any:
			for i, value := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), value)
			}
		default:
			if text := fmt.Sprint(v); text != "" && text != "0" && text != "false" && text != "<nil>" {
				found[path] = text
			}
		}
	}
	walk("", v)
	return found
}

// lost are the leaves of an entry that its event does not have, at whatever
// place. A truth is found at its own path in unmapped only.
func lost(t testing.TB, e *Entry) (paths []string) {
	t.Helper()
	native, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := OCSF(e)
	if err != nil {
		t.Fatal(err)
	}
	event, values := leaves(t, doc), map[string]bool{}
	for _, value := range event {
		values[value] = true
	}
	for path, value := range leaves(t, native) {
		if value == "true" && event["unmapped."+path] != value || !values[value] {
			paths = append(paths, path+" = "+value)
		}
	}
	return paths
}

// ocsfFull fills every field of an entry with a value that no other has.
func ocsfFull() *Entry {
	e, n := new(Entry), 0
	var fill func(v reflect.Value, path string)
	fill = func(v reflect.Value, path string) {
		n++
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i), joinPath(path, v.Type().Field(i).Name))
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), path)
		case reflect.String:
			v.SetString(path)
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(1000_000_001 * n))
		case reflect.Uint64:
			v.SetUint(uint64(1000_000_001 * n))
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), path)
		case reflect.Map:
			item := reflect.New(v.Type().Elem()).Elem()
			fill(item, path)
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf("key"), item)
		case reflect.Interface:
			v.Set(reflect.ValueOf(path))
		default:
			panic("the entry has a field of a new kind: " + path)
		}
	}
	fill(reflect.ValueOf(e).Elem(), "")
	return e
}

func TestNoFactOfAnEntryIsLostInOCSF(t *testing.T) {
	// There is no list of exceptions: every field has its place.
	for name, change := range map[string]func(*Entry){
		"as it is":           func(*Entry) {},
		"verified":           func(e *Entry) { e.Actor.Verification = VerificationSignature },
		"verified, an email": func(e *Entry) { e.Actor.Verification, e.Actor.Email = VerificationAsserted, "ada@example.com" },
		"a service": func(e *Entry) {
			e.Actor.Verification, e.Actor.Kind, e.Actor.UserID = VerificationIntrospection, ActorService, ""
		},
		"nobody":              func(e *Entry) { e.Actor.Verification, e.Actor.UserID, e.Actor.Email = VerificationSignature, "", "" },
		"an event":            func(e *Entry) { e.Policy.Rule, e.Action.Method = "sidecar", "" },
		"forwarded":           func(e *Entry) { e.Actor.IPSource, e.Actor.IP, e.Actor.PeerIP = IPForwarded, "203.0.113.9", "10.0.0.1" },
		"not answered":        func(e *Entry) { e.Action.Status = 0 },
		"no path":             func(e *Entry) { e.Action.Path = "" },
		"a list of things":    func(e *Entry) { e.Target.ID = "" },
		"the project":         func(e *Entry) { e.Target.Type, e.Target.ID = typeProject, e.ProjectRef },
		"the organization":    func(e *Entry) { e.Target.Type, e.Target.ID = typeOrganization, e.OrganizationSlug },
		"a usual method":      func(e *Entry) { e.Action.Method = "GET" },
		"a port":              func(e *Entry) { e.Action.Host = "api.example.com:8443" },
		"no request id":       func(e *Entry) { e.RequestID = "" },
		"no code and no name": func(e *Entry) { e.Action.Code, e.Action.Name = "", "" },
	} {
		t.Run(name, func(t *testing.T) {
			e := ocsfFull()
			change(e)
			for _, path := range lost(t, e) {
				t.Error(path)
			}
		})
	}
	r := rand.New(rand.NewPCG(6003, 7))
	for range 500 {
		e := ocsfRandom(r)
		if paths := lost(t, e); paths != nil {
			native, _ := e.Encode()
			t.Fatalf("%s\n%s", strings.Join(paths, "\n"), native)
		}
	}
}

func TestOnlyAVerifiedActorIsAUserInOCSF(t *testing.T) {
	for _, how := range []Verification{VerificationSignature, VerificationIntrospection, VerificationAsserted} {
		e := ocsfExample()
		e.Actor.Verification = how
		wantAt(t, ocsfFields(t, e), map[string]any{
			"actor.user.uid": e.Actor.UserID, "actor.user.email_addr": "ada@example.com", "actor.user.type": "User",
			"actor.session.uid": e.Actor.SessionID, "actor.session.is_mfa": true, "actor.idp.issuer": e.Actor.JWTIssuer,
			"unmapped.actor.user_id": nil, "unmapped.actor.email": nil, "unmapped.actor.verification": string(how),
		})
	}
	for _, how := range []Verification{VerificationAccepted, VerificationNone, "", "later"} {
		e := ocsfExample()
		e.Actor.Verification, e.Actor.Claimed = how, &Claimed{Subject: "mallory"}
		v := ocsfFields(t, e)
		wantAt(t, v, map[string]any{
			"actor.user": nil, "actor.session.uid": nil, "actor.session.is_mfa": nil, "actor.idp": nil, "actor.app_uid": nil, "actor.app_name": nil,
			"actor.session.credential_uid": e.Actor.TokenHash,
			"unmapped.actor.user_id":       e.Actor.UserID, "unmapped.actor.claimed.sub": "mallory",
		})
		if len(v["observables"].([]any)) != 1 {
			t.Errorf("an address that nobody verified is observable: %v", v["observables"])
		}
	}
}

func TestACallOfNobodyHasAnUnknownActorInOCSF(t *testing.T) {
	e := &Entry{
		ID: "x", Revision: 1, Action: Action{Method: "GET", Path: "/"}, Outcome: OutcomeDenied,
		Actor: Actor{TokenType: TokenNone, Verification: VerificationNone},
	}
	wantAt(t, ocsfFields(t, e), map[string]any{
		"actor":        map[string]any{"app_name": "unknown"},
		"src_endpoint": map[string]any{"name": "unknown"},
		"api":          map[string]any{"operation": "GET /"},
		"status_id":    2.0, "status": "Failure", "severity": "Low", "http_response": nil, "observables": nil, "resources": nil,
	})
}

func TestAServiceIsAUserOfItsOwnKindInOCSF(t *testing.T) {
	e := ocsfExample()
	e.Actor.Kind, e.Actor.UserID, e.Actor.Email = ActorService, "", ""
	e.Actor.JWTSubject, e.Actor.OAuthAppID, e.Actor.OAuthAppName = "deployer", "app-1", "Deployer"
	wantAt(t, ocsfFields(t, e), map[string]any{
		"actor.user":    map[string]any{"uid": "deployer", "type_id": 4.0, "type": "Service"},
		"actor.app_uid": "app-1", "actor.app_name": "Deployer",
	})
}

func TestALaterRevisionIsRecognisableInOCSF(t *testing.T) {
	e := ocsfExample()
	var last float64 = -2
	for i, revision := range []int{RevisionPending, RevisionUnknown, RevisionAnswer, 2, 3} {
		e.Revision, e.Origin.Sequence = revision, uint64(100+i)
		v := ocsfFields(t, e)
		wantAt(t, v, map[string]any{"metadata.uid": e.ID, "metadata.original_event_uid": fmt.Sprintf("%s/%d", e.Origin.Instance, 100+i)})
		now, ok := at(v, "metadata.sequence").(float64)
		if !ok || now <= last {
			t.Errorf("revision %d has sequence %v, and the one before it %v", revision, now, last)
		}
		if modified := at(v, "metadata.modified_time"); (modified != nil) != (revision > RevisionAnswer) {
			t.Errorf("revision %d was modified at %v", revision, modified)
		}
		last = now
	}
}

func TestTheSidecarsOwnEventsAreItsOwnActsInOCSF(t *testing.T) {
	severities := map[string]string{
		EventGap: "High", EventPass: "Medium", EventUncleanStart: "Medium", EventConfigChanged: "Low",
		"audit.quarantined": "Informational", // one that came later
	}
	for code := range eventNames {
		if severities[code] == "" {
			severities[code] = "Informational"
		}
	}
	for code, severity := range severities {
		e := Event(code, time.UnixMicro(1767225600123456), map[string]any{"last_sequence": 9})
		e.Origin = &Origin{Instance: "i", Sequence: 1}
		v := ocsfFields(t, e)
		wantAt(t, v, map[string]any{
			"actor": map[string]any{"app_name": "caddy-audit-log"}, "src_endpoint": map[string]any{"svc_name": "caddy-audit-log"},
			"api":         map[string]any{"operation": code, "service": map[string]any{"name": "caddy-audit-log"}},
			"activity_id": 99.0, "severity": severity, "unmapped.action.metadata.last_sequence": 9.0,
			"http_request": nil, "http_response": nil, "metadata.reporter.uid": "i",
		})
		if want := eventNames[code]; want != "" && v["activity_name"] != want {
			t.Errorf("%s is the activity %v", code, v["activity_name"])
		}
	}
}

func TestTheActivityFollowsTheOperationsVerbAndThenTheMethod(t *testing.T) {
	for _, c := range []struct {
		method, code, target string
		want                 int
	}{
		{"POST", "v1-create-a-project", "", ocsfCreate},
		{"POST", "v1-bulk-create-secrets", "", ocsfCreate},
		{"DELETE", "v1-bulk-delete-secrets", "", ocsfDelete},
		{"POST", "v1-list-all-network-bans", "abc", ocsfRead},
		{"POST", "LogsController_getProjectLogsViaPost", "abc", ocsfRead},
		{"POST", "ReplicationDestinationsController_updateDestination", "1", ocsfUpdate},
		{"PUT", "createOAuthApp", "", ocsfCreate},
		{"POST", "PauseController_pauseProject", "abc", ocsfOther},
		{"POST", "v1-activate-custom-hostname", "", ocsfOther},
		{"DELETE", "v1-deactivate-vanity-subdomain-config", "", ocsfDelete},
		{"GET", "v1-diff-a-branch", "b", ocsfRead},
		{"GET", "", "", ocsfRead},
		{"HEAD", "", "", ocsfRead},
		{"POST", "", "", ocsfCreate},
		{"POST", "", "abc", ocsfOther},
		{"PUT", "", "abc", ocsfUpdate},
		{"PATCH", "", "abc", ocsfUpdate},
		{"DELETE", "", "abc", ocsfDelete},
		{"OPTIONS", "", "", ocsfOther},
		{"PROPFIND", "", "", ocsfOther},
		{"", "", "", ocsfActivityUnknown},
		{"POST", "getaway", "", ocsfOther},
		{"POST", "settle", "", ocsfOther},
		{"POST", "CreateThing", "", ocsfCreate},
		{"POST", "v1", "", ocsfOther},
	} {
		e := &Entry{ID: "x", Action: Action{Method: c.method, Code: c.code}, Target: &Target{Type: "thing", ID: c.target}}
		if id, _ := ocsfActivityOf(e); id != c.want {
			t.Errorf("%s %s of %q is %s, want %s", c.method, c.code, c.target, ocsfActivities[id], ocsfActivities[c.want])
		}
	}
}

func TestFoldedCallsAreOneAggregateInOCSF(t *testing.T) {
	e := ocsfExample()
	e.Count, e.Folded, e.Revision, e.RecordedAt = 812, &Folded{Network: "203.0.113.0/24", Until: e.Timestamp + 60_000_000}, 2, e.Timestamp+60_000_000
	wantAt(t, ocsfFields(t, e), map[string]any{
		"count": 812.0, "start_time": 1767225600123.0, "end_time": 1767225660123.0, "duration": 60000.0, "unmapped.folded.network": "203.0.113.0/24",
	})
}

func TestOCSFIsTheSameEachTimeAndLeavesTheEntryAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		e := ocsfRandom(r)
		before, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		first, err := OCSF(e)
		if err != nil {
			t.Fatal(err)
		}
		second, err := OCSF(e)
		if err != nil {
			t.Fatal(err)
		}
		after, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) || !bytes.Equal(before, after) {
			t.Fatalf("%s\n%s\n%s\n%s", first, second, before, after)
		}
	}
}

func TestOCSFOfADocumentKeepsTheDigitsOfLargeNumbers(t *testing.T) {
	doc := `{"id":"x","action":{"metadata":{"n":12345678901234567890.12345678901234567890}}}`
	got, err := OCSFDocument([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(got, []byte(`"n":12345678901234567890.12345678901234567890`)) {
		t.Error(string(got))
	}
	e := ocsfExample()
	native, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := OCSF(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = OCSFDocument(native); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatJSONCannotHoldIsAnErrorThatNamesTheEntry(t *testing.T) {
	_, err := OCSF(&Entry{ID: "the-one", Action: Action{Metadata: map[string]any{"n": math.NaN()}}})
	if err == nil || !strings.Contains(err.Error(), "encoding entry the-one as ocsf") {
		t.Error(err)
	}
	if _, err := OCSFDocument([]byte(`{"id":`)); err == nil {
		t.Error("half a document was taken")
	}
	if _, err := OCSFDocument([]byte(`{}`)); err == nil {
		t.Error("an entry without an id was taken")
	}
	if _, err := OCSFDocument([]byte(`{"id":"x"} {"id":"y"}`)); err == nil {
		t.Error("two documents were taken for one")
	}
}

// TestTheExamplesInTheDocumentationAreTrue compares each block of JSON under
// "Examples" in docs/formats.md with what is written.
func TestTheExamplesInTheDocumentationAreTrue(t *testing.T) {
	const file = "../docs/formats.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e := ocsfExample()
	native, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	event, err := OCSF(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"native": native, "ocsf": event} {
		var want bytes.Buffer
		if err := json.Indent(&want, b, "", "  "); err != nil {
			t.Fatal(err)
		}
		begin := "<!-- example " + name + " -->\n```json\n"
		head, rest, ok := strings.Cut(string(doc), begin)
		got, tail, ended := strings.Cut(rest, "\n```\n")
		if !ok || !ended {
			t.Fatalf("%s has no example of %s", file, name)
		}
		if *updateFormats {
			doc = []byte(head + begin + want.String() + "\n```\n" + tail)
		} else if diff := cmp.Diff(want.String(), got); diff != "" {
			t.Errorf("the example of %s in %s is old; run this test with -update-formats: %s", name, file, diff)
		}
	}
	if *updateFormats {
		if err := os.WriteFile(file, doc, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzOCSF(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b, err := ocsfRandom(r).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"id":"x"}`))
	f.Add([]byte("{\"id\":\"\xff\",\"action\":{\"path\":\"\\ud800\",\"metadata\":{\"a\":[1e300]}}}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := Decode(doc)
		if err != nil {
			return
		}
		native, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		event, err := OCSF(e)
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(event) || len(event) > 4*len(native)+4096 {
			t.Fatalf("%d bytes of %d: %q", len(event), len(native), event)
		}
		if faults := ocsfSchema().validate(event); faults != nil {
			t.Fatalf("%s\n%s", strings.Join(faults, "\n"), event)
		}
		if paths := lost(t, e); paths != nil {
			t.Fatalf("%s\n%s", strings.Join(paths, "\n"), event)
		}
		exact, err := OCSFDocument(doc)
		if err != nil {
			t.Fatal(err)
		}
		if faults := ocsfSchema().validate(exact); faults != nil {
			t.Fatalf("%s\n%s", strings.Join(faults, "\n"), exact)
		}
	})
}

func BenchmarkOCSF(b *testing.B) {
	e := ocsfExample()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OCSF(e); err != nil {
			b.Fatal(err)
		}
	}
}
