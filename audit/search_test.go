package audit

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

var trailKey = &TokenKey{1}

// found reports whether an entry of the call is in the credential's trail.
func found(t *testing.T, credential string, c *Call) bool {
	t.Helper()
	d := deriver()
	d.Key = trailKey
	trail := trailKey.Trail(credential)
	e := &Entry{Actor: d.Identify(c)}
	if len(trail.Hashes) > MaxTrailHashes {
		t.Errorf("%d hashes", len(trail.Hashes))
	}
	return trail.Names(e) == ByToken
}

func TestACredentialsTrailHasTheHashOfItsEntries(t *testing.T) {
	pair := "ada:correct horse"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	jwt := session(nil)
	for _, c := range []struct {
		name, pasted string
		call         Call
		want         bool
	}{
		{"a bare token", "sbp_" + hex40, Call{Authorization: "Bearer sbp_" + hex40}, true},
		{"with the line's end", " sbp_" + hex40 + "\r\n", Call{Authorization: "Bearer sbp_" + hex40}, true},
		{"a header's line", "authorization:bearer  sbp_" + hex40, Call{Authorization: "Bearer sbp_" + hex40}, true},
		{"a header's value", "Bearer sbp_" + hex40, Call{Authorization: "Bearer sbp_" + hex40}, true},
		{"the line of a key", "apikey: sb_secret_abcdefghijklmnopqrstuv", Call{APIKey: "sb_secret_abcdefghijklmnopqrstuv"}, true},
		{"the line of a site's own header", "X-Api-Key: correct-horse", Call{Others: []Credential{{Place: &Place{Kind: PlaceHeader, Name: "X-Api-Key"}, Value: "correct-horse"}}}, true},
		{"a bare pair", pair, Call{Authorization: basic}, true},
		{"the password of a bare pair", pair, Call{APIKey: "correct horse"}, true},
		{"a token as a user name", "sbp_" + hex40, Call{Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte("sbp_"+hex40+":"))}, true},
		{"what could be guessed", "correct-horse", Call{Authorization: "Bearer correct-horse"}, true},
		{"a JWT", jwt, Call{Authorization: "Bearer " + jwt}, true},
		{"a JWT as a key", "apikey: " + jwt, Call{APIKey: jwt}, true},
		{"user name and password", basic, Call{Authorization: basic}, true},
		{"in a line", "Authorization: " + basic, Call{Authorization: basic}, true},
		{"the password as a token", basic, Call{Authorization: "Bearer correct horse"}, true},
		{"the user name as a token", basic, Call{APIKey: "ada"}, true},
		{"what is no base64", "Basic %%%", Call{Authorization: "Basic %%%"}, true},
		{"another scheme", `Authorization: Digest username="ada", nc=1`, Call{Authorization: `Digest username="ada", nc=1`}, true},
		{"another token", "sbp_" + hex40, Call{Authorization: "Bearer sbp_" + hex40[1:] + "f"}, false},
		{"no token", "sbp_" + hex40, Call{}, false},
		{"nothing", "", Call{}, false},
	} {
		c.call.Arrived = arrival()
		if got := found(t, c.pasted, &c.call); got != c.want {
			t.Errorf("%s: found %v", c.name, got)
		}
	}
	if trail := trailKey.Trail(basic); !slices.Contains(trail.Hashes, trailKey.Hash(pair, false)) {
		t.Error("the decoded pair's hash is missing")
	}
}

// The twin is a signature that go-jose accepts, and each spelling one that a
// decoder which is not strict takes for it.
func TestNoCopyOfALeakedTokenEscapesItsTrail(t *testing.T) {
	for alg, want := range map[jose.SignatureAlgorithm]int{jose.ES256: 33, jose.RS256: 17, jose.HS256: 5, jose.EdDSA: 17} {
		k := issuerKeys()
		token := jwttest.Sign(alg, map[jose.SignatureAlgorithm]any{jose.ES256: k.EC, jose.RS256: k.RSA, jose.HS256: k.Secret, jose.EdDSA: k.Ed}[alg], "", nil, claimsWith(nil))
		trail := trailKey.Trail(token)
		if len(trail.Hashes) != want || trail.Hashes[0] != plainHash(token) || trail.Session != "s1" {
			t.Errorf("%s: %d hashes, session %q", alg, len(trail.Hashes), trail.Session)
		}
		signed, _ := splitJWT(token)
		for _, s := range signed.spellings() {
			if !found(t, token, &Call{Arrived: arrival(), Authorization: "Bearer " + s}) || !found(t, s, &Call{Arrived: arrival(), Authorization: "Bearer " + token}) {
				t.Errorf("%s: %q is not in the trail of %q", alg, s, token)
			}
		}
	}
	token := session(nil)
	signed, _ := splitJWT(token)
	twin := signed.signed + signed.twin()
	if twin == token {
		t.Fatal("an ES256 token has no twin")
	}
	if a := actorOf(verifying(t), twin); a.Verification != VerificationSignature || a.TokenHash != plainHash(twin) {
		t.Errorf("the twin is not verified: %+v", a)
	}
	first, err := base64.RawURLEncoding.DecodeString(signed.signature)
	for _, s := range spareBits(signed.signature) {
		b, lax := base64.RawURLEncoding.DecodeString(s)
		if err != nil || lax != nil || string(b) != string(first) {
			t.Errorf("%q decodes to another signature than %q", s, signed.signature)
		}
	}
}

func TestTheTwinsOfLongerCurves(t *testing.T) {
	for alg, size := range map[string]int{"ES384": 96, "ES512": 132} {
		b := make([]byte, size)
		b[size/2-1], b[size-1] = 7, 1 // r = 7, s = 1
		s := splitToken{algorithm: alg, signature: base64.RawURLEncoding.EncodeToString(b)}
		twin := splitToken{algorithm: alg, signature: s.twin()}
		if twin.signature == s.signature || twin.twin() != s.signature || len(s.spellings()) != 2 {
			t.Errorf("%s: %q, then %q", alg, twin.signature, twin.twin())
		}
	}
	for _, s := range []splitToken{
		{algorithm: "ES256", signature: base64.RawURLEncoding.EncodeToString(make([]byte, 64))},
		{algorithm: "ES256", signature: base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 64)))},
		{algorithm: "ES256", signature: "AAAA"},
		{algorithm: "HS256", signature: base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\x01", 64)))},
	} {
		if got := s.twin(); got != s.signature {
			t.Errorf("%q has the twin %q", s.signature, got)
		}
	}
}

func TestTheSessionOfATrail(t *testing.T) {
	for claims, want := range map[string]string{
		`{"session_id":"a","sid":"b"}`:                        "a",
		`{"session_id":7,"sid":"b"}`:                          "b",
		`{"sub":"u"}`:                                         "",
		`{"sid":"` + strings.Repeat("x", maxText+1) + `"}`:    "",
		`{"sid":"sbp_` + hex40 + `"}`:                         "", // redacted in each entry, so it would be everyone's
		`{"session_id":"","sid":"` + redactedParam[:3] + `"}`: redactedParam[:3],
	} {
		if got := trailKey.Trail(jwtOf(`{"alg":"HS256"}`, claims)).Session; got != want {
			t.Errorf("%.60s: %q, want %q", claims, got, want)
		}
	}
	e := &Entry{Actor: Actor{Claimed: &Claimed{SessionID: "s"}}}
	trail := Trail{Session: "s"}
	if by := trail.Names(e); by != "" {
		t.Errorf("a claimed session is found by its %s", by)
	}
	e.Actor.SessionID = "s"
	if by := trail.Names(e); by != BySession {
		t.Errorf("a verified session is found by %q", by)
	}
	if by := new(Trail).Names(new(Entry)); by != "" {
		t.Errorf("an empty trail names an entry by its %s", by)
	}
}

func TestATrailWithoutTheKeyHasThePlainHashes(t *testing.T) {
	var none *TokenKey
	if got := none.Trail("sbp_" + hex40); len(got.Hashes) != 1 || strings.HasPrefix(got.Hashes[0], "hmac:") {
		t.Errorf("hashes %v", got.Hashes)
	}
	if got := none.Trail(`Digest a="x"`); len(got.Hashes) != 0 {
		t.Errorf("hashes %v", got.Hashes)
	}
}

// The first hash is shown to people: nobody may guess a password from it.
func TestTheFirstHashOfWhatCouldBeGuessedIsKeyed(t *testing.T) {
	for credential, keyed := range map[string]bool{
		"correct-horse": true, "Basic YTpi": true, "Digest x": true, "apikey: x": true, "sbp_" + hex40: false, session(nil): false,
	} {
		if got := trailKey.Trail(credential).Hashes[0]; strings.HasPrefix(got, "hmac:") != keyed {
			t.Errorf("%q: %s", credential, got)
		}
	}
}

func FuzzTrail(f *testing.F) {
	token := jwttest.Sign(jose.EdDSA, issuerKeys().Ed, "ed", nil, claimsWith(nil)) // the same in each process
	for _, seed := range []string{
		token, "Bearer " + token, "Authorization: Bearer " + token, "apikey: " + token, token + "=", token + "\nx",
		strings.Replace(token, "eyJ", "e30", 1), "sbp_" + hex40, "Basic YTpi", "Basic Og==", "Basic " + token, "Digest x", "Authorization:", ":", "a.b.c",
		jwtOf(`{"alg":"ES256"}`, `{"sid":"\u0000"}`), jwtOf(`{"alg":"ES512"}`, `{}`) + strings.Repeat("A", 133),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, credential string) {
		trail := trailKey.Trail(credential)
		if len(trail.Hashes) > MaxTrailHashes || len(trail.Session) > maxText {
			t.Fatalf("%d hashes, a session of %d bytes", len(trail.Hashes), len(trail.Session))
		}
		text := fmt.Sprint(trail.Hashes)
		if len(credential) > 70 && strings.Contains(text, credential) {
			t.Fatalf("the trail shows %q", credential)
		}
		// Whatever a call presents is found by what it presented.
		for _, scheme := range []string{"", "Bearer ", "Basic "} {
			c := Call{Authorization: strings.TrimSpace(scheme + credential)}
			pasted := "Authorization: " + c.Authorization
			if c.presents().token != "" && !found(t, pasted, &c) {
				t.Fatalf("%q is not in its own trail", pasted)
			}
		}
	})
}
