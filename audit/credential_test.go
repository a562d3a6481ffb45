package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// robots is a site with credentials of its own.
func robots(t testing.TB, basic TokenType) *Platform {
	t.Helper()
	robot, err := PrefixShape("robot", "rb_")
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := PatternShape("ticket", `[0-9]{4}(-[0-9a-f]{8}){4}`)
	if err != nil {
		t.Fatal(err)
	}
	return Supabase().WithTokens([]TokenShape{robot, ticket}, basic)
}

const (
	robotToken  = "rb_5e0a9c1b7d3f4826a1c9"
	ticketToken = "2026-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9"
)

func basicOf(pair string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// escape writes each character as an escape.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// Every kind of credential, at every place, and what the entry says of it.
func TestEachCredentialIsToldApart(t *testing.T) {
	cookie := &Place{Kind: PlaceCookie, Name: "sid", Type: "session"}
	query := &Place{Kind: PlaceQuery, Name: "access_token"}
	pat, key := "sbp_"+hex40, "sb_secret_abcdefghijklmnopqrstuv"
	at := func(p *Place, value string) Credential { return Credential{Place: p, Value: value} }
	several := ReasonSeveralCredentials
	tokenKey := &TokenKey{1}
	for _, c := range []struct {
		name  string
		call  Call
		basic TokenType
		want  Actor
	}{
		{"nothing", Call{}, "", Actor{TokenType: TokenNone}},
		{"bearer", Call{Authorization: "Bearer " + pat}, "", Actor{TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…"}},
		{"bearer by the site's prefix", Call{Authorization: "Bearer " + robotToken}, "", Actor{TokenType: "robot", TokenHash: sha(robotToken)}},
		{"bearer by the site's pattern", Call{Authorization: "Bearer " + ticketToken}, "", Actor{TokenType: "ticket", TokenHash: sha(ticketToken)}},
		{"a short one is hashed with the key", Call{Authorization: "Bearer rb_short-one"}, "", Actor{TokenType: "robot", TokenHash: tokenKey.Hash("rb_short-one", false)}},
		{"the bare prefix", Call{Authorization: "Bearer rb_"}, "", Actor{TokenType: TokenUnknown, TokenHash: tokenKey.Hash("rb_", false)}},
		{"basic", Call{Authorization: basicOf("ada:pw")}, "", Actor{TokenType: TokenBasic, TokenHash: tokenKey.Hash("ada:pw", false)}},
		{"basic whose users have names", Call{Authorization: basicOf("ada:pw")}, "person", Actor{
			TokenType: "person", TokenHash: tokenKey.Hash("ada:pw", false), Claimed: &Claimed{Username: "ada"},
		}},
		{"basic with a token for a name", Call{Authorization: basicOf(robotToken + ":")}, "person", Actor{TokenType: "robot", TokenHash: sha(robotToken)}},
		{"basic with a token for a password", Call{Authorization: basicOf("x:" + pat)}, "person", Actor{TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…"}},
		{"basic that is none", Call{Authorization: "Basic !"}, "", Actor{TokenType: TokenUnknown, TokenHash: tokenKey.Hash("Basic !", false)}},
		{"another scheme", Call{Authorization: "Digest username=ada"}, "", Actor{TokenType: TokenUnknown, TokenHash: tokenKey.Hash("Digest username=ada", false)}},
		{"an API key", Call{APIKey: key}, "", Actor{TokenType: TokenSecret, TokenHash: sha(key)}},
		{"an API key beside a token", Call{Authorization: "Bearer " + pat, APIKey: key}, "", Actor{TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…", OtherTokenHashes: []string{sha(key)}}},
		{"an API key beside a cookie", Call{APIKey: key, Others: []Credential{at(cookie, robotToken)}}, "", Actor{
			TokenType: "robot", TokenHash: sha(robotToken), OtherTokenHashes: []string{sha(key)},
		}},
		{"bearer and a tab", Call{Authorization: "Bearer\t" + pat}, "", Actor{TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…"}},
		{"a token by another scheme", Call{Authorization: "token " + robotToken}, "", Actor{TokenType: "robot", TokenHash: sha(robotToken)}},
		{"a token without a scheme", Call{Authorization: robotToken}, "", Actor{TokenType: "robot", TokenHash: sha(robotToken)}},
		{"an escaped cookie", Call{Others: []Credential{at(cookie, "%72"+robotToken[1:])}}, "", Actor{TokenType: "robot", TokenHash: sha(robotToken)}},
		{"basic without padding", Call{Authorization: strings.TrimRight(basicOf("ada:pw"), "=")}, "", Actor{TokenType: TokenBasic, TokenHash: tokenKey.Hash("ada:pw", false)}},
		{"an empty value before it", Call{Authorization: "Bearer " + pat, SeveralCredentials: true}, "", Actor{
			TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…", VerificationReason: several,
		}},
		{"a second header", Call{Authorization: "Bearer x", SeveralCredentials: true, Rest: []string{"Bearer " + pat}}, "", Actor{
			TokenType: TokenUnknown, TokenHash: tokenKey.Hash("x", false), VerificationReason: several, OtherTokenHashes: []string{sha(pat)},
		}},
		{"a cookie of no shape", Call{Others: []Credential{at(cookie, "abc")}}, "", Actor{TokenType: "session", TokenHash: tokenKey.Hash("abc", false)}},
		{"a query parameter", Call{Others: []Credential{at(query, pat)}}, "", Actor{TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…"}},
		{"a query parameter of no shape", Call{Others: []Credential{at(query, "abc")}}, "", Actor{TokenType: TokenUnknown, TokenHash: tokenKey.Hash("abc", false)}},
		{"an empty cookie", Call{Others: []Credential{at(cookie, " ")}}, "", Actor{TokenType: TokenNone}},
		{"header and cookie of one mind", Call{Authorization: "Bearer " + pat, Others: []Credential{at(cookie, pat)}}, "", Actor{
			TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…",
		}},
		{"header and cookie at odds", Call{Authorization: "Bearer " + pat, Others: []Credential{at(cookie, robotToken)}}, "", Actor{
			TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…", VerificationReason: several, OtherTokenHashes: []string{sha(robotToken)},
		}},
		{"two cookies at odds", Call{Others: []Credential{{Place: cookie, Value: pat, Repeated: true}}}, "", Actor{
			TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…", VerificationReason: several,
		}},
		{"cookie and query at odds", Call{Others: []Credential{at(cookie, pat), at(query, robotToken)}}, "", Actor{
			TokenType: TokenV1, TokenHash: sha(pat), TokenAlias: "sbp_012345…", VerificationReason: several, OtherTokenHashes: []string{sha(robotToken)},
		}},
		{"two API keys", Call{APIKey: key, SeveralCredentials: true}, "", Actor{TokenType: TokenSecret, TokenHash: sha(key), VerificationReason: several}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &Deriver{Platform: robots(t, c.basic), Key: tokenKey}
			c.call.Arrived, c.want.Verification = arrival(), VerificationNone
			got := d.Identify(&c.call)
			t.Logf("%-34s token_type %-10s alias %-12s hash %.12s  reason %s", c.name, got.TokenType, got.TokenAlias, got.TokenHash, got.VerificationReason)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnUnverifiedCookieDoesNotLendItsHeaderASignature(t *testing.T) {
	cookie := &Place{Kind: PlaceCookie, Name: "sid"}
	d := verifying(t)
	good := session(nil)
	for name, c := range map[string]struct {
		call Call
		user string
	}{
		"in a cookie":                 {Call{Others: []Credential{{Place: cookie, Value: good}}}, "7b1c"},
		"in a cookie with a scheme":   {Call{Others: []Credential{{Place: cookie, Value: "Bearer " + good}}}, "7b1c"},
		"in both":                     {Call{Authorization: "Bearer " + good, Others: []Credential{{Place: cookie, Value: good}}}, "7b1c"},
		"another one in the header":   {Call{Authorization: "Bearer " + session(map[string]any{"sub": "x"}), Others: []Credential{{Place: cookie, Value: good}}}, ""},
		"a user name in the header":   {Call{Authorization: basicOf("ada:pw"), Others: []Credential{{Place: cookie, Value: good}}}, ""},
		"in a cookie that is doubled": {Call{Others: []Credential{{Place: cookie, Value: good, Repeated: true}}}, ""},
	} {
		c.call.Arrived = arrival()
		a := d.Identify(&c.call)
		if a.UserID != c.user || (c.user == "") != (a.VerificationReason == ReasonSeveralCredentials) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// A site's own credentials are recognised wherever they stand, as those of the
// platform are.
func TestASitesOwnCredentialsAreNeverRecorded(t *testing.T) {
	d := &Deriver{Platform: robots(t, "person"), Key: &TokenKey{1}}
	for _, token := range []string{robotToken, ticketToken} {
		for name, call := range map[string]Call{
			"path":      {Path: "/v1/projects/" + token + "/pause"},
			"no route":  {Path: "/reset/" + token},
			"agent":     {UserAgent: "curl " + token + " x"},
			"host":      {Host: token + ":80"},
			"basic":     {Authorization: basicOf(token + ":")},
			"user name": {Authorization: basicOf("a " + token + ":pw")},
			"trace":     {RequestID: token},
			"a word":    {Path: "/x/00" + token + "-1"},
		} {
			call.Arrived, call.Method = arrival(), "GET"
			e, _ := d.Intent(&call)
			b, err := e.Encode()
			if err != nil || strings.Contains(string(b), token) {
				t.Errorf("%s: %s, %v", name, b, err)
			}
		}
		for _, escaped := range []string{escape(token), strings.ReplaceAll(escape(token), "%", "%25")} {
			e, _ := d.Intent(&Call{Arrived: arrival(), Method: "GET", Path: "/reset/" + escaped + "/x"})
			if e.Action.Path != "/reset/[redacted]/x" {
				t.Errorf("path %s", e.Action.Path)
			}
		}
		if uri := d.Platform.RedactURI("/reset/" + token); strings.Contains(uri, token) {
			t.Errorf("the log shows %s", uri)
		}
		for _, p := range []*Platform{Generic().WithTokens(d.Platform.Tokens[:2], "")} {
			if route, target := p.Guess("/things/" + token); strings.Contains(fmt.Sprint(route, target), token) || target != nil && target.ID != "" {
				t.Errorf("%s %+v", route, target)
			}
		}
	}
	for _, harmless := range []string{"rb_", "verb_alternatives", "/v1/herb_garden", "2026-11-23"} {
		if d.Platform.looksSecret(harmless) {
			t.Errorf("%q looks like a credential", harmless)
		}
	}
}

func TestAShapeThatCannotWorkIsRefusedWithItsCure(t *testing.T) {
	for want, err := range map[string]error{
		"meaning of its own":    second(PrefixShape("jwt", "ab_")),
		"lower-case":            second(PrefixShape("Robot", "ab_")),
		"3 characters or more":  second(PrefixShape("robot", "ab")),
		"no space":              second(PrefixShape("robot", "ab cd")),
		"reading the pattern":   second(PatternShape("robot", "(")),
		"matches what is empty": second(PatternShape("robot", ".*")),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func second(_ TokenShape, err error) error { return err }

// recalling is a Memory of one answer.
type recalling struct {
	id    *Identity
	why   Reason
	asked []Question
}

func (m *recalling) Recall(q *Question) (*Identity, Reason) {
	m.asked = append(m.asked, *q)
	return m.id, m.why
}

func introspected(t testing.TB, answer string) (*Identity, Reason) {
	t.Helper()
	a, err := NewIntrospection(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a.Identity([]byte(answer), arrival().Add(time.Minute))
}

func TestWhatAServiceSaysFillsTheActor(t *testing.T) {
	id, why := introspected(t, `{"active":true,"sub":"u-1","email":"ada@example.com","client_id":"app","scope":"read write","sid":"s-1","exp":1700000030}`)
	if why != "" {
		t.Fatal(why)
	}
	if want := time.Unix(1_700_000_030, 0); !id.Until().Equal(want) {
		t.Errorf("it holds until %v, want its exp", id.Until())
	}
	d := deriver()
	m := &recalling{id: id}
	d.Memory = m
	a := d.Identify(&Call{Arrived: arrival(), Authorization: "Bearer " + robotToken})
	want := Actor{
		TokenType: TokenUnknown, TokenHash: d.Key.Hash(robotToken, false), Verification: VerificationIntrospection, Kind: ActorPerson,
		UserID: "u-1", Email: "ada@example.com", OAuthAppID: "app", TokenScope: "read write", SessionID: "s-1",
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error(diff)
	}
	q := m.asked[0]
	if q.Token != robotToken || q.Header != "Authorization" || q.Value != "Bearer "+robotToken || q.Type != TokenUnknown {
		t.Errorf("asked %+v", q)
	}
	if text := fmt.Sprintf("%v %s", &q, &q); strings.Contains(text, robotToken) {
		t.Errorf("the question prints as %s", text)
	}
	// A signature needs no service, and neither does who presents several.
	d = verifying(t)
	m = &recalling{id: id}
	d.Memory = m
	d.Identify(&Call{Arrived: arrival(), Authorization: "Bearer " + session(nil)})
	d.Identify(&Call{Arrived: arrival(), Authorization: "Bearer " + robotToken, SeveralCredentials: true})
	d.Identify(&Call{Arrived: arrival()})
	if len(m.asked) != 0 {
		t.Errorf("asked %d times", len(m.asked))
	}
	m.id, m.why = nil, ReasonInactive
	if a := d.Identify(&Call{Arrived: arrival(), Authorization: "Bearer " + robotToken}); a.VerificationReason != ReasonInactive || a.UserID != "" {
		t.Errorf("inactive: %+v", a)
	}
	m.why = ""
	e, facts := d.Intent(&Call{Arrived: arrival(), Authorization: "Bearer " + robotToken})
	if !facts.Question.Asks() {
		t.Error("nothing is left to ask")
	}
	if !e.Learned(id, "") || e.Actor.UserID != "u-1" || e.Learned(id, "") || e.Learned(nil, ReasonInactive) {
		t.Errorf("learned %+v", e.Actor)
	}
}

func TestWhatAServiceMaySay(t *testing.T) {
	profile, err := NewProfile(nil, map[string]string{"user_id": "gotrue_id", "email": "primary_email"})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := NewProfile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	introspection, err := NewIntrospection(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		account *Account
		answer  string
		why     Reason
		user    string
		kind    ActorKind
	}{
		{"a profile", profile, `{"id":7,"gotrue_id":"u-1","primary_email":"a@example.com"}`, "", "u-1", ActorPerson},
		{"a number for an id", plain, `{"id":7}`, "", "7", ActorPerson},
		{"a fraction for an id", plain, `{"id":7.5}`, ReasonNobody, "", ""},
		{"a huge number", plain, `{"id":1e300}`, ReasonNobody, "", ""},
		{"nobody", plain, `{}`, ReasonNobody, "", ""},
		{"a list", plain, `[]`, ReasonLookupFailed, "", ""},
		{"HTML", plain, `<html>`, ReasonLookupFailed, "", ""},
		{"a name twice", plain, `{"id":"a","id":"b"}`, ReasonLookupFailed, "", ""},
		{"nothing", plain, ``, ReasonLookupFailed, "", ""},
		{"inactive", introspection, `{"active":false,"sub":"u-1"}`, ReasonInactive, "", ""},
		{"active as a text", introspection, `{"active":"true","sub":"u-1"}`, ReasonLookupFailed, "", ""},
		{"active not there", introspection, `{"sub":"u-1"}`, ReasonLookupFailed, "", ""},
		{"a program", introspection, `{"active":true,"sub":"app","client_id":"app"}`, "", "", ActorService},
		{"one for another", introspection, `{"active":true,"sub":"u-1","act":{"sub":"u-2"}}`, "", "u-2", ""},
		{"one for another, badly", introspection, `{"active":true,"sub":"u-1","act":7}`, ReasonLookupFailed, "", ""},
	} {
		id, why := c.account.Identity([]byte(c.answer), arrival())
		if why != c.why || (id == nil) == (why == "") {
			t.Errorf("%s: %v %q, want %q", c.name, id, why, c.why)
			continue
		}
		if id != nil && (id.actor.UserID != c.user || id.actor.Kind != c.kind || id.actor.Verification != VerificationIntrospection) {
			t.Errorf("%s: %+v", c.name, id.actor)
		}
	}
}

func TestWhatTheAPIMayAssert(t *testing.T) {
	ada := map[string]string{"user_id": "u-1", "email": "ada@example.com", "token_type": "partner", "kind": "person", "organization_id": "o-1"}
	opaque := func() *Entry {
		e, _ := deriver().Intent(&Call{Arrived: arrival(), Authorization: "Bearer x"})
		return e
	}
	e := opaque()
	e.Assert(nil, ada)
	if a := e.Actor; a.Verification != VerificationAsserted || a.UserID != "u-1" || a.Email != "ada@example.com" || a.TokenType != "partner" || a.Kind != ActorPerson || e.OrganizationID != "o-1" {
		t.Errorf("%+v", a)
	}
	e = opaque()
	e.Assert(nil, map[string]string{"token_scope": "read", "token_type": "No Type", "kind": "god", "user_id": ""})
	if a := e.Actor; a.Verification != VerificationNone || a.TokenScope != "read" || a.TokenType != TokenUnknown || a.Kind != "" {
		t.Errorf("who asserts nobody: %+v", a)
	}
	signed := func() *Entry {
		e, _ := verifying(t).Intent(&Call{Arrived: arrival(), Authorization: "Bearer " + session(map[string]any{"email": nil})})
		return e
	}
	e = signed()
	e.Assert(nil, ada)
	if a := e.Actor; a.UserID != "7b1c" || a.Email != "" || a.Verification != VerificationSignature || a.VerificationReason != ReasonAssertedOther || a.AssertedUserID != "u-1" || e.OrganizationID != "" {
		t.Errorf("the API names another: %+v", a)
	}
	e = signed()
	e.Assert(nil, map[string]string{"user_id": "7b1c", "email": "ada@example.com", "organization_id": "o-1"})
	if a := e.Actor; a.Email != "ada@example.com" || a.Verification != VerificationSignature || a.VerificationReason != "" || e.OrganizationID != "o-1" {
		t.Errorf("the API names the same: %+v", a)
	}
	e = signed()
	e.Assert(nil, map[string]string{"email": "eve@example.com", "organization_id": "o-1"})
	if a := e.Actor; a.Email != "" || e.OrganizationID != "o-1" {
		t.Errorf("the API names an email alone: %+v", a)
	}
	e = opaque()
	e.Assert(nil, map[string]string{"user_id": "sbp_" + hex40, "email": strings.Repeat("x", 5000)})
	if a := e.Actor; a.UserID != redactedParam || len(a.Email) != maxText || e.Cut["actor.email"] != 5000 {
		t.Errorf("what the API asserts is not bounded: %+v %v", a, e.Cut)
	}
}

func TestWhatTheAPIAcceptedSaysNoMoreThanThat(t *testing.T) {
	for _, c := range []struct {
		name   string
		call   Call
		status int
		want   Verification
	}{
		{"a secured operation", Call{Path: "/v1/projects", Authorization: "Bearer x"}, 200, VerificationAccepted},
		{"denied", Call{Path: "/v1/projects", Authorization: "Bearer x"}, 401, VerificationNone},
		{"redirected to a sign-in", Call{Path: "/v1/projects", Authorization: "Bearer x"}, 302, VerificationNone},
		{"failed", Call{Path: "/v1/projects", Authorization: "Bearer x"}, 500, VerificationNone},
		{"nothing presented", Call{Path: "/v1/projects"}, 200, VerificationNone},
		{"several presented", Call{Path: "/v1/projects", Authorization: "Bearer x", SeveralCredentials: true}, 200, VerificationNone},
		{"a public operation", Call{Path: "/v1/projects/abc/config/database/pgbouncer", Authorization: "Bearer x"}, 200, VerificationNone},
		{"the beginning of a sign-in", Call{Path: "/v1/oauth/authorize", Authorization: "Bearer x"}, 200, VerificationNone},
		{"no description", Call{Path: "/platform/organizations", Authorization: "Bearer x"}, 200, VerificationNone},
		{"no route", Call{Path: "/nowhere", Authorization: "Bearer x"}, 200, VerificationNone},
	} {
		c.call.Arrived, c.call.Method = arrival(), "GET"
		e, facts := deriver().Intent(&c.call)
		e.Answered(Answer{At: arrival(), Status: c.status, Bytes: -1, Secured: facts.Operation != nil && facts.Operation.Secured})
		if a := e.Actor; a.Verification != c.want || a.UserID != "" || a.Email != "" {
			t.Errorf("%s: %+v, want %s", c.name, a, c.want)
		}
	}
}

// The property that all of this is for: in whatever order a call is derived,
// answered, asserted and learned about, user_id and email are there only if
// somebody verified them, and the verification is that of whoever did.
func TestNothingButAProofFillsUserIDAndEmail(t *testing.T) {
	seed := mathrand.Uint64()
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	one := func(list []string) string { return list[random.IntN(len(list))] }
	good := session(nil)
	tokens := []string{"", good, good + "x", session(map[string]any{"aud": "x"}), jwtOf(`{"alg":"none"}`, claimsWith(nil)), robotToken, ticketToken, "sbp_" + hex40, "pw"}
	headers := []string{"", "Bearer ", "bearer ", "Basic ", "Digest ", "\x00"}
	id, _ := introspected(t, `{"active":true,"sub":"by-service","email":"service@example.com"}`)
	places := []*Place{{Kind: PlaceCookie, Name: "a", Type: "session"}, {Kind: PlaceQuery, Name: "b"}, {Kind: PlaceHeader, Name: "C"}}
	byVerification := map[Verification]int{}
	for n := range 20_000 {
		header := one(headers)
		token := one(tokens)
		if header == "Basic " {
			token = base64.StdEncoding.EncodeToString([]byte(one(tokens) + ":" + one(tokens)))
		}
		call := Call{
			Arrived: arrival(), Method: one([]string{"GET", "POST"}), Path: one([]string{"/v1/projects", "/x", "/v1/oauth/authorize"}),
			Authorization: header + token, APIKey: one(tokens), SeveralCredentials: random.IntN(4) == 0,
		}
		for _, place := range places {
			if random.IntN(3) == 0 {
				call.Others = append(call.Others, Credential{Place: place, Value: one(tokens), Repeated: random.IntN(4) == 0})
			}
		}
		m := &recalling{}
		if random.IntN(2) == 0 {
			m.id = id
		} else {
			m.why = Reason(one([]string{"", string(ReasonInactive)}))
		}
		d := &Deriver{Platform: robots(t, TokenType(one([]string{"", "person"}))), Key: &TokenKey{1}, Memory: m, Verifier: verifying(t).Verifier}
		e, facts := d.Intent(&call)
		asserted := map[string]string{}
		said, told := false, m.id != nil
		for range random.IntN(4) {
			switch random.IntN(3) {
			case 0:
				for _, field := range AssertableFields() {
					if random.IntN(2) == 0 {
						asserted[field] = one([]string{"", "by-api", "service", "person", "7b1c", "by-service"})
					}
				}
				said = said || asserted["user_id"] != "" || asserted["email"] != ""
				e.Assert(nil, asserted)
			case 1:
				e.Answered(Answer{At: arrival(), Status: 200 + 201*random.IntN(2), Bytes: -1, Secured: facts.Operation != nil && facts.Operation.Secured})
			case 2:
				if random.IntN(2) == 0 {
					told = told || e.Learned(id, "")
				} else {
					e.Learned(nil, ReasonInactive)
				}
			}
			a := e.Actor
			byVerification[a.Verification]++
			named := a.UserID != "" || a.Email != ""
			var wrong bool
			switch a.Verification {
			case VerificationSignature:
				wrong = call.presents().token != good || call.presents().several || a.UserID != "7b1c" || a.Email != "ada@example.com"
			case VerificationIntrospection:
				wrong = !told || a.UserID != "by-service" || a.Email != "service@example.com"
			case VerificationAsserted:
				wrong = named && !said
			default:
				wrong = named
			}
			if wrong {
				t.Fatalf("seed %d, step %d: %+v of %+v, asserted %v", seed, n, a, call, asserted)
			}
		}
	}
	t.Logf("%v", byVerification)
	if len(byVerification) != 5 {
		t.Errorf("only these were reached: %v", byVerification)
	}
}

// Whatever a call presents, wherever, its entry holds none of it, and names
// nobody.
func FuzzCredentials(f *testing.F) {
	p := robots(f, "person")
	cookie, query := &Place{Kind: PlaceCookie, Name: "sid", Type: "session"}, &Place{Kind: PlaceQuery, Name: "access_token"}
	f.Add("Bearer "+robotToken, "", "", "/x/"+robotToken, false)
	f.Add(basicOf("ada:"+robotToken), ticketToken, "a", ticketToken, true)
	f.Add(basicOf(robotToken+":"), "Bearer "+robotToken, "Bearer ", "/", false)
	f.Add("Basic !", "\xff", "eyJhbGciOiJub25lIn0.e30.", "%72b_5e0a9c1b7d3f4826a1c9", false)
	f.Add("bearer\t"+robotToken, jwtOf(`{"alg":"HS256"}`, `{"sub":"x"}`), "", "", true)
	f.Fuzz(func(t *testing.T, authorization, inCookie, inQuery, path string, repeated bool) {
		m := &recalling{}
		d := &Deriver{Platform: p, Key: &TokenKey{1}, Memory: m}
		e, facts := d.Intent(&Call{
			Arrived: arrival(), Method: "GET", Path: path, Authorization: authorization, UserAgent: inCookie, Host: path,
			Others: []Credential{{Place: cookie, Value: inCookie, Repeated: repeated}, {Place: query, Value: inQuery}},
		})
		b, err := e.Encode()
		if err != nil || len(b) > 64<<10 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		for _, token := range []string{robotToken, ticketToken} {
			if strings.Contains(string(b), token) {
				t.Errorf("the token is in %s", b)
			}
		}
		if a := e.Actor; a.UserID != "" || a.Email != "" || a.Verification != VerificationNone || a.Kind != "" {
			t.Errorf("an actor that nobody verified: %+v", a)
		}
		if q := facts.Question; q.Asks() && (e.Actor.TokenType == TokenNone || e.Actor.VerificationReason == ReasonSeveralCredentials || len(m.asked) != 1) {
			t.Errorf("asks about %+v", e.Actor)
		}
	})
}

// A service's answer is bytes from the network: it names somebody only if it
// says so in the member that was configured, and never more than is bounded.
func FuzzAccount(f *testing.F) {
	introspection, err := NewIntrospection(nil, map[string]string{"email": "ext.mail", "service": "bot"})
	if err != nil {
		f.Fatal(err)
	}
	profile, err := NewProfile(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`{"active":true,"sub":"u","ext":{"mail":"a@example.com"},"exp":1}`, `{"active":true,"sub":"u","exp":1e308,"act":{"sub":"x"}}`,
		`{"active":false}`, `{"id":9007199254740993}`, `{"id":"u","email":["x"]}`, `{"active":true,"active":false,"sub":"u"}`, `[]`, ``, `{"id":-0}`,
		`{"active":true,"sub":"` + strings.Repeat("x", 1000) + `"}`, `{"active":true,"bot":true,"client_id":"\u0000"}`, `{"exp":-1e300,"active":true,"sub":"u"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, a := range []*Account{introspection, profile} {
			id, why := a.Identity(answer, arrival())
			if (id == nil) == (why == "") {
				t.Fatalf("%v and %q", id, why)
			}
			if id == nil {
				continue
			}
			e := Entry{ID: "x", Actor: Actor{TokenType: "robot", Verification: VerificationNone}}
			if !e.Learned(id, "") || e.Actor.Verification != VerificationIntrospection || e.Actor.UserID == "" && e.Actor.Kind != ActorService {
				t.Errorf("%+v", e.Actor)
			}
			if b, err := e.Encode(); err != nil || len(b) > 16<<10 || !json.Valid(b) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if id.Until().After(arrival()) {
				t.Error("it holds for longer than was said")
			}
		}
	})
}
