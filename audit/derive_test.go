package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func deriver() *Deriver { return &Deriver{Platform: Supabase(), Key: &TokenKey{1}, ConfigHash: "c"} }

func arrival() time.Time { return time.UnixMicro(1_700_000_000_000_000) }

func TestAnIntentSaysAllThatIsKnownBeforeTheAnswer(t *testing.T) {
	e, facts := deriver().Intent(&Call{
		Arrived: arrival(), Method: "DELETE", Host: "api.example.com", Path: "/v1/projects/abcdefghijklmnopqrst/functions/hello",
		Authorization: "Bearer " + jwtOf(`{"alg":"ES256"}`, `{"sub":"u","email":"u@example.com","session_id":"s","role":"authenticated","aal":"aal2"}`),
		UserAgent:     "cli/1", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		RequestID: "r", ClientIP: "203.0.113.9", PeerIP: "10.0.0.1", Forwarded: true, Bytes: 0,
	})
	if !facts.Changing || !facts.Operation.Secured || facts.Question.Asks() {
		t.Errorf("the facts of a DELETE are %+v", facts)
	}
	if len(e.ID) != 36 || e.ID[14] != '7' {
		t.Errorf("id %q is not a UUIDv7", e.ID)
	}
	e.ID, e.Actor.TokenHash = "", ""
	zero := int64(0)
	want := &Entry{
		Timestamp: 1_700_000_000_000_000, RecordedAt: 1_700_000_000_000_000, RequestID: "r",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", ProjectRef: "abcdefghijklmnopqrst",
		Action: Action{
			Code: "v1-delete-a-function", Name: "Delete a function", Method: "DELETE", Host: "api.example.com",
			Route: "/v1/projects/{ref}/functions/{function_slug}", Path: "/v1/projects/abcdefghijklmnopqrst/functions/hello",
			Params: map[string]string{"ref": "abcdefghijklmnopqrst", "function_slug": "hello"},
		},
		Actor: Actor{
			TokenType: TokenJWT, Verification: VerificationNone, IP: "203.0.113.9", IPSource: IPForwarded, PeerIP: "10.0.0.1",
			UserAgent: "cli/1",
			Claimed:   &Claimed{Subject: "u", Email: "u@example.com", SessionID: "s", Role: "authenticated", AAL: "aal2"},
		},
		Target:  &Target{Type: "edge_function", ID: "hello", Parent: "abcdefghijklmnopqrst"},
		Outcome: OutcomeUnknown, RequestBytes: &zero,
		Policy:        Policy{Rule: "default", Level: LevelMetadata, Durability: DurabilityStrict, ConfigHash: "c"},
		SchemaVersion: SchemaVersion,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
}

func TestWhichCallsWaitForTheirIntent(t *testing.T) {
	for _, c := range []struct {
		call Call
		want Durability
	}{
		{Call{Method: "GET"}, DurabilityAnswer},
		{Call{Method: "HEAD"}, DurabilityAnswer},
		{Call{Method: "OPTIONS"}, DurabilityAnswer},
		{Call{Method: "POST"}, DurabilityStrict},
		{Call{Method: "TRACE"}, DurabilityStrict},
		{Call{Method: "CONNECT"}, DurabilityStrict},
		{Call{Method: "get"}, DurabilityStrict},
		{Call{Method: "GET", Upgrade: true}, DurabilityStrict},
		{Call{Method: "GET", MethodOverride: "DELETE"}, DurabilityStrict},
		{Call{Method: "GET", Path: "/v1/oauth/authorize"}, DurabilityStrict},
	} {
		c.call.Arrived = arrival()
		e, facts := deriver().Intent(&c.call)
		if got := e.Policy.Durability; got != c.want || facts.Changing != (got == DurabilityStrict) {
			t.Errorf("%s %s: %s, changing %v, want %s", c.call.Method, c.call.Path, got, facts.Changing, c.want)
		}
	}
}

func TestTheAnswerMakesTheOutcome(t *testing.T) {
	for _, c := range []struct {
		method string
		answer Answer
		want   Outcome
	}{
		{"GET", Answer{Status: 200}, OutcomeSuccess},
		{"GET", Answer{Status: 304}, OutcomeSuccess},
		{"GET", Answer{Status: 101}, OutcomeSuccess},
		{"GET", Answer{Status: 401}, OutcomeDenied},
		{"GET", Answer{Status: 403}, OutcomeDenied},
		{"GET", Answer{Status: 404}, OutcomeFailure},
		{"GET", Answer{Status: 500}, OutcomeFailure},
		{"GET", Answer{}, OutcomeUnknown},
		{"GET", Answer{Status: 499, ClientGone: true}, OutcomeFailure},
		{"POST", Answer{Status: 499, ClientGone: true}, OutcomeUnknown},
		{"POST", Answer{Status: 200, ClientGone: true}, OutcomeUnknown},
	} {
		e, facts := deriver().Intent(&Call{Arrived: arrival(), Method: c.method})
		c.answer.Changing = facts.Changing
		c.answer.At = arrival().Add(time.Second)
		e.Answered(c.answer)
		if e.Outcome != c.want || e.Revision != RevisionAnswer || e.DurationUS != 1_000_000 {
			t.Errorf("%s %+v: %s, revision %d, duration %d; want %s", c.method, c.answer, e.Outcome, e.Revision, e.DurationUS, c.want)
		}
		e.Answered(c.answer)
		if e.Revision != RevisionAnswer+1 {
			t.Errorf("the next revision is %d", e.Revision)
		}
	}
}

func TestRevisionsBeforeTheAnswerRankBelowIt(t *testing.T) {
	e, _ := deriver().Intent(&Call{Arrived: arrival(), Method: "POST"})
	if e.Revision != RevisionUnknown || e.Outcome != OutcomeUnknown {
		t.Errorf("the intent has revision %d and outcome %s", e.Revision, e.Outcome)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	pending, err := Decode(Pending(b, arrival()))
	if err != nil || pending.ID != e.ID || pending.Revision >= e.Revision || pending.Outcome != OutcomePending {
		t.Errorf("pending %+v, %v", pending, err)
	}
	if Pending([]byte("not JSON"), arrival()) != nil {
		t.Error("what is no intent gave an entry")
	}
	e.Refused(arrival(), 503)
	if e.Outcome != OutcomeRefused || e.Revision != RevisionAnswer {
		t.Errorf("refused %+v", e)
	}
}

func TestATraceIDFollowsTheStandardOrIsAbsent(t *testing.T) {
	for h, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":       "4bf92f3577b34da6a3ce929d0e0e4736",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra": "4bf92f3577b34da6a3ce929d0e0e4736",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":       "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":       "",
		"00-short-01": "",
		"":            "",
	} {
		if got := traceID(h); got != want {
			t.Errorf("%q: %q, want %q", h, got, want)
		}
	}
}

// Whatever a client sends, the entry is bounded, valid, and holds no token.
func FuzzIntent(f *testing.F) {
	token := "sbp_" + hex40
	f.Add("POST", "/v1/projects/abcdefghijklmnopqrst", "Bearer "+token, "", "agent", "host")
	f.Add("GET", "/v1/organizations/a/project-claim/"+token, "", token, token, token)
	f.Add("GET", "/%00%ff/"+strings.Repeat("a/", 3000)+token, "Basic x", "\xff", "\x00", "\n")
	f.Add("\xff", "", jwtOf(`{"alg":"none"}`, `{"sub":"\u0000"}`), "", "", "")
	d := deriver()
	f.Fuzz(func(t *testing.T, method, path, authorization, key, agent, host string) {
		e, _ := d.Intent(&Call{
			Arrived: arrival(), Method: method, Path: path, Authorization: authorization, APIKey: key,
			UserAgent: agent, Host: host, RequestID: agent, ClientIP: host, PeerIP: host, TraceParent: agent,
		})
		e.Answered(Answer{At: arrival(), Status: 200, RequestID: key, Bytes: -1})
		b, err := e.Encode()
		if err != nil || !utf8.Valid(b) || !json.Valid(b) {
			t.Fatalf("%q, %v", b, err)
		}
		if len(b) > 64<<10 {
			t.Errorf("%d bytes", len(b))
		}
		if strings.Contains(string(b), token) {
			t.Errorf("the token is in %s", b)
		}
		if e.Actor.UserID != "" || e.Actor.Email != "" {
			t.Errorf("an actor that nobody verified: %+v", e.Actor)
		}
		if again, err := Decode(b); err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(e, again); diff != "" {
			t.Error(diff)
		}
	})
}
