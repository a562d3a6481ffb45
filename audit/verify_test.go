package audit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

// testKeys are those of the issuer of tests, as this room reads them.
type testKeys struct {
	*jwttest.KeyRing
	set  []byte // the public ones
	keys []Key  // those of the set, and the secret
}

var issuerKeys = sync.OnceValue(func() *testKeys {
	k := &testKeys{KeyRing: jwttest.Keys(), set: jwttest.Keys().Set("rsa", "ec", "ed")}
	keys, _, err := ParseKeys(k.set)
	if err != nil {
		panic(err)
	}
	secret, err := SecretKey(k.Secret)
	if err != nil {
		panic(err)
	}
	k.keys = append(keys, secret)
	return k
})

// atArrival are the claims of a session when the tests' calls arrive.
func atArrival() map[string]any {
	return map[string]any{
		"sub": "7b1c", "exp": arrival().Unix() + 3600, "iat": arrival().Unix(), "session_id": "s1", "aal": "aal2",
		"amr": []any{map[string]any{"method": "password", "timestamp": 1}, map[string]any{"method": "totp", "timestamp": 2}},
	}
}

func claimsWith(change map[string]any) string { return jwttest.Claims(atArrival(), change) }

func session(change map[string]any) string { return jwttest.Session(atArrival(), change) }

func testIssuer(t testing.TB, p *Platform, claims map[string]string) *Issuer {
	t.Helper()
	i, err := NewIssuer(jwttest.URL, []string{"authenticated"}, p, claims)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// verifyAll is a Verifier without a memory.
type verifyAll struct {
	issuer *Issuer
	keys   []Key
}

func (v verifyAll) Identify(_ TokenSum, token string, now time.Time) (*Identity, Reason) {
	t, why := ReadToken(token)
	if t == nil {
		return nil, why
	}
	return v.issuer.Verify(t, v.keys, now)
}

func verifying(t testing.TB) *Deriver {
	d := deriver()
	d.Verifier = verifyAll{testIssuer(t, Supabase(), nil), issuerKeys().keys}
	return d
}

func actorOf(d *Deriver, token string) Actor {
	return d.Identify(&Call{Arrived: arrival(), Method: "GET", Authorization: "Bearer " + token})
}

func TestEachKindOfKeyVerifiesItsAlgorithms(t *testing.T) {
	k, d := issuerKeys(), verifying(t)
	for _, c := range []struct {
		alg jose.SignatureAlgorithm
		key any
		kid string
	}{
		{jose.RS256, k.RSA, "rsa"},
		{jose.RS384, k.RSA, "rsa"},
		{jose.RS512, k.RSA, ""},
		{jose.PS256, k.RSA, "rsa"},
		{jose.PS384, k.RSA, "rsa"},
		{jose.PS512, k.RSA, "rsa"},
		{jose.ES256, k.EC, "ec"},
		{jose.EdDSA, k.Ed, "ed"},
		{jose.EdDSA, k.Ed, ""},
		{jose.HS256, k.Secret, ""},
		{jose.HS384, k.Secret, "any"},
		{jose.HS512, k.Secret, ""},
	} {
		a := actorOf(d, jwttest.Sign(c.alg, c.key, c.kid, nil, claimsWith(nil)))
		if a.Verification != VerificationSignature || a.UserID != "7b1c" || a.VerificationReason != "" {
			t.Errorf("%s by key %q: %+v", c.alg, c.kid, a)
		}
	}
}

func TestVerifiedClaimsAreFactsAndUnverifiedOnesStayClaims(t *testing.T) {
	token := session(nil)
	sum := sha256.Sum256([]byte(token))
	want := Actor{
		TokenType: TokenJWT, TokenHash: fmt.Sprintf("%x", sum), Verification: VerificationSignature, Kind: ActorPerson,
		UserID: "7b1c", Email: "ada@example.com", SessionID: "s1", AAL: "aal2", AMR: []string{"password", "totp"},
		JWTRole: "authenticated", JWTIssuer: jwttest.URL, JWTSubject: "7b1c",
	}
	if diff := cmp.Diff(want, actorOf(verifying(t), token)); diff != "" {
		t.Error(diff)
	}
	want = Actor{
		TokenType: TokenJWT, TokenHash: want.TokenHash, Verification: VerificationNone,
		Claimed: &Claimed{
			Subject: "7b1c", Email: "ada@example.com", SessionID: "s1", Role: "authenticated", Issuer: jwttest.URL, AAL: "aal2",
		},
	}
	if diff := cmp.Diff(want, actorOf(deriver(), token)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatEachClaimBecomes(t *testing.T) {
	legacy := map[string]any{"sub": nil, "email": nil, "session_id": nil, "aal": nil, "amr": nil, "role": "service_role", "ref": "abcdefghijklmnopqrst"}
	for _, c := range []struct {
		name    string
		change  map[string]any
		claims  map[string]string
		differs func(a *Actor)
	}{
		{"amr as names", map[string]any{"amr": []any{"pwd", "otp"}}, nil, func(a *Actor) { a.AMR = []string{"pwd", "otp"} }},
		{"amr of other types", map[string]any{"amr": []any{1, map[string]any{"method": 2}, nil, "otp"}}, nil, func(a *Actor) { a.AMR = []string{"otp"} }},
		{"amr no list", map[string]any{"amr": "otp"}, nil, func(a *Actor) { a.AMR = nil }},
		{"an anonymous sign-in", map[string]any{"is_anonymous": true, "email": ""}, nil, func(a *Actor) { a.Kind, a.Email = ActorAnonymous, "" }},
		{"is_anonymous of another type", map[string]any{"is_anonymous": "true"}, nil, func(*Actor) {}},
		{"an OAuth client", map[string]any{"client_id": "app-1"}, nil, func(a *Actor) { a.OAuthAppID = "app-1" }},
		{"an email of another type", map[string]any{"email": []any{"x"}}, nil, func(a *Actor) { a.Email = "" }},
		{
			"an email that the issuer did not check",
			map[string]any{"email_verified": false},
			nil,
			func(a *Actor) { a.Email, a.Claimed = "", &Claimed{Email: "ada@example.com"} },
		},
		{"an email that it did", map[string]any{"email_verified": true}, nil, func(*Actor) {}},
		{
			"a path",
			map[string]any{"app_metadata": map[string]any{"uid": "u-9"}},
			map[string]string{"user_id": "app_metadata.uid"},
			func(a *Actor) { a.UserID = "u-9" },
		},
		{
			"a path with a dot in a name",
			map[string]any{"https://example.com/role": "owner"},
			map[string]string{"jwt_role": `https://example\.com/role`},
			func(a *Actor) { a.JWTRole = "owner" },
		},
		{
			"a path to a number",
			map[string]any{"app_metadata": map[string]any{"uid": 9}},
			map[string]string{"user_id": "app_metadata.uid"},
			func(a *Actor) { a.UserID, a.Kind = "", "" },
		},
		{"a path through a text", nil, map[string]string{"user_id": "email.x.y"}, func(a *Actor) { a.UserID, a.Kind = "", "" }},
		{"a program by RFC 9068", map[string]any{"client_id": "7b1c", "email": nil}, nil, func(a *Actor) { a.Kind, a.UserID, a.Email, a.OAuthAppID = ActorService, "", "", "7b1c" }},
		{"a person who is called like a program", map[string]any{"azp": "7b1c"}, nil, func(*Actor) {}},
		{"a program by azp", map[string]any{"azp": "7b1c", "email": nil}, nil, func(a *Actor) { a.Kind, a.UserID, a.Email, a.OAuthAppID = ActorService, "", "", "7b1c" }},
		{"a program by its grant", map[string]any{"gty": "client-credentials"}, nil, func(a *Actor) { a.Kind, a.UserID, a.Email, a.OAuthAppID = ActorService, "", "", "7b1c" }},
		{"a program by a claim of the site's", map[string]any{"bot": true}, map[string]string{"service": "bot"}, func(a *Actor) { a.Kind, a.UserID, a.Email, a.OAuthAppID = ActorService, "", "", "7b1c" }},
		{"a person of a program", map[string]any{"azp": "app-1", "gty": "password"}, nil, func(*Actor) {}},
		{"a person who says to be a program", map[string]any{"preferred_username": "service-account-x"}, nil, func(*Actor) {}},
		{
			"one who acts for another",
			map[string]any{"act": map[string]any{"sub": "admin-1", "email": "root@example.com", "act": map[string]any{"sub": "before"}}},
			nil,
			func(a *Actor) { a.UserID, a.Email, a.OnBehalfOf, a.Kind = "admin-1", "root@example.com", "7b1c", "" },
		},
		{
			"a program that acts for a person",
			map[string]any{"act": map[string]any{"sub": "robot", "client_id": "robot"}},
			nil,
			func(a *Actor) {
				a.UserID, a.Email, a.OnBehalfOf, a.Kind, a.OAuthAppID = "", "", "7b1c", ActorService, "robot"
			},
		},
		{
			"a legacy key", legacy, nil, func(a *Actor) {
				*a = Actor{
					TokenType: TokenServiceRole, Verification: VerificationSignature, Kind: ActorService, JWTRole: "service_role",
					JWTIssuer: jwttest.URL, Claimed: &Claimed{Project: "abcdefghijklmnopqrst"},
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := deriver()
			d.Verifier = verifyAll{testIssuer(t, Supabase(), c.claims), issuerKeys().keys}
			got := actorOf(d, session(c.change))
			got.TokenHash = ""
			want := Actor{
				TokenType: TokenJWT, Verification: VerificationSignature, Kind: ActorPerson,
				UserID: "7b1c", Email: "ada@example.com", SessionID: "s1", AAL: "aal2", AMR: []string{"password", "totp"},
				JWTRole: "authenticated", JWTIssuer: jwttest.URL, JWTSubject: "7b1c",
			}
			c.differs(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLongClaimsAreBoundedAndSaySo(t *testing.T) {
	long := strings.Repeat("x", 5000)
	e, _ := verifying(t).Intent(&Call{Arrived: arrival(), Authorization: "Bearer " + session(map[string]any{"email": long, "amr": slices.Repeat([]any{"otp"}, 50)})})
	if len(e.Actor.Email) != maxText || e.Cut["actor.email"] != 5000 || len(e.Actor.AMR) != maxMethods || e.Cut["actor.amr"] != 50 {
		t.Errorf("email of %d bytes, %d methods, cut %v", len(e.Actor.Email), len(e.Actor.AMR), e.Cut)
	}
}

// attack is a token that must not be believed, and why.
type attack struct {
	name, token string
	want        Reason
	kind        TokenType
}

func attacks(t testing.TB) []attack {
	t.Helper()
	k := issuerKeys()
	b64 := base64.RawURLEncoding.EncodeToString
	der, err := x509.MarshalPKIXPublicKey(k.RSA.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(header, claims string) string { // signed by the secret, whatever it is
		body := b64([]byte(header)) + "." + b64([]byte(claims))
		mac := hmac.New(sha256.New, k.Secret)
		mac.Write([]byte(body))
		return body + "." + b64(mac.Sum(nil))
	}
	const hs = `{"alg":"HS256","typ":"JWT"}`
	at := func(d time.Duration) int64 { return arrival().Add(d).Unix() }
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: k.RSA.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := encrypter.Encrypt([]byte(claimsWith(nil)))
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	good := session(nil)
	embedded := jose.JSONWebKey{Key: stranger.Public(), KeyID: "ec"}
	digest := sha256.Sum256([]byte(b64([]byte(`{"alg":"RS256","kid":"ec"}`)) + "." + b64([]byte(claimsWith(nil)))))
	rs, err := rsa.SignPKCS1v15(nil, k.RSA, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return []attack{
		{"alg none, no signature", b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(claimsWith(nil))) + ".", ReasonAlgorithm, TokenUnknown},
		{"alg nOnE, a signature", raw(`{"alg":"nOnE"}`, claimsWith(nil)), ReasonAlgorithm, TokenJWT},
		{"alg is a list", raw(`{"alg":["HS256"]}`, claimsWith(nil)), "", TokenUnknown},
		{"HS256 by the RSA public key", jwttest.Sign(jose.HS256, public, "rsa", nil, claimsWith(nil)), ReasonBadSignature, TokenJWT},
		{"RS256 with the kid of an EC key", b64([]byte(`{"alg":"RS256","kid":"ec"}`)) + "." + b64([]byte(claimsWith(nil))) + "." + b64(rs), ReasonAlgorithm, TokenJWT},
		{"ES384 by a key of the attacker", jwttest.Sign(jose.ES384, ec384, "ec", nil, claimsWith(nil)), ReasonAlgorithm, TokenJWT},
		{"another's key", jwttest.Sign(jose.ES256, stranger, "ec", nil, claimsWith(nil)), ReasonBadSignature, TokenJWT},
		{"another's key in jwk", jwttest.Sign(jose.ES256, stranger, "ec", map[string]any{"jwk": embedded}, claimsWith(nil)), ReasonBadSignature, TokenJWT},
		{"jku", jwttest.Sign(jose.ES256, stranger, "ec", map[string]any{"jku": "http://169.254.169.254/keys"}, claimsWith(nil)), ReasonBadSignature, TokenJWT},
		{"x5u", jwttest.Sign(jose.ES256, stranger, "ec", map[string]any{"x5u": "http://169.254.169.254/cert"}, claimsWith(nil)), ReasonBadSignature, TokenJWT},
		{"kid of nobody", jwttest.Sign(jose.ES256, stranger, "new", nil, claimsWith(nil)), ReasonUnknownKey, TokenJWT},
		{"kid with a path", jwttest.Sign(jose.ES256, stranger, "../../../../dev/null", nil, claimsWith(nil)), ReasonUnknownKey, TokenJWT},
		{"kid with SQL", jwttest.Sign(jose.ES256, stranger, "x' UNION SELECT 'key'--", nil, claimsWith(nil)), ReasonUnknownKey, TokenJWT},
		{"kid is a number", raw(`{"alg":"HS256","kid":7}`, claimsWith(nil)), ReasonMalformed, TokenJWT},
		{"crit", jwttest.Sign(jose.ES256, k.EC, "ec", map[string]any{"crit": []string{"exp"}, "exp": 1}, claimsWith(nil)), ReasonCriticalHeader, TokenJWT},
		{"b64 false", raw(`{"alg":"HS256","b64":false,"crit":["b64"]}`, claimsWith(nil)), ReasonCriticalHeader, TokenJWT},
		{"expired", session(map[string]any{"exp": at(-61 * time.Second)}), ReasonExpired, TokenJWT},
		{"not yet valid", session(map[string]any{"nbf": at(61 * time.Second)}), ReasonNotYetValid, TokenJWT},
		{"issued in the future", session(map[string]any{"iat": at(2 * time.Minute)}), ReasonNotYetValid, TokenJWT},
		{"no exp", session(map[string]any{"exp": nil}), ReasonNoExpiry, TokenJWT},
		{"exp beyond all years", session(map[string]any{"exp": 1e300}), ReasonBadClaim, TokenJWT},
		{"exp is a text", session(map[string]any{"exp": "tomorrow"}), ReasonBadClaim, TokenJWT},
		{"wrong issuer", session(map[string]any{"iss": jwttest.URL + "/"}), ReasonWrongIssuer, TokenJWT},
		{"no issuer", session(map[string]any{"iss": nil}), ReasonWrongIssuer, TokenJWT},
		{"issuer is a list", session(map[string]any{"iss": []string{jwttest.URL}}), ReasonBadClaim, TokenJWT},
		{"wrong audience", session(map[string]any{"aud": []string{"other", "authenticated "}}), ReasonWrongAudience, TokenJWT},
		{"no audience", session(map[string]any{"aud": nil}), ReasonWrongAudience, TokenJWT},
		{"act is a text", session(map[string]any{"act": "admin"}), ReasonBadClaim, TokenJWT},
		{"act names nobody", session(map[string]any{"act": map[string]any{"sub": 7}}), ReasonBadClaim, TokenJWT},
		{"sub is a number", session(map[string]any{"sub": 7}), ReasonBadClaim, TokenJWT},
		{"sub is an object", session(map[string]any{"sub": map[string]any{"id": "7b1c"}}), ReasonBadClaim, TokenJWT},
		{"duplicate claims", raw(hs, strings.Replace(claimsWith(nil), `"sub":`, `"sub":"admin","sub":`, 1)), ReasonDuplicateName, TokenJWT},
		{"duplicate claims, one escaped", raw(hs, strings.Replace(claimsWith(nil), `"sub":`, `"\u0073ub":"admin","sub":`, 1)), ReasonDuplicateName, TokenJWT},
		{"duplicate claims inside", raw(hs, strings.Replace(claimsWith(nil), `"sub":`, `"app_metadata":{"a":1,"a":2},"sub":`, 1)), ReasonDuplicateName, TokenJWT},
		{"duplicate headers", raw(`{"alg":"HS256","alg":"none"}`, claimsWith(nil)), ReasonDuplicateName, TokenJWT},
		{"nested, said so", jwttest.Sign(jose.ES256, k.EC, "ec", map[string]any{"cty": "JWT"}, claimsWith(nil)), ReasonNested, TokenJWT},
		{"nested, not said so", jwttest.Sign(jose.ES256, k.EC, "ec", nil, good), ReasonNested, TokenUnknown},
		{"JWE", encrypted, ReasonEncrypted, TokenUnknown},
		{"16 KiB and more", session(map[string]any{"x": strings.Repeat("x", 13<<10)}), ReasonTooLarge, TokenJWT},
		{"1 MiB", session(map[string]any{"x": strings.Repeat("x", 3<<18)}), ReasonTooLarge, TokenJWT},
		{"a second spelling of the signature", good[:len(good)-1] + respell(good[len(good)-1:]), ReasonMalformed, TokenJWT},
		{"claims that are a list", raw(hs, `[]`), ReasonMalformed, TokenUnknown},
		{"claims that are null", raw(hs, `null`), ReasonMalformed, TokenJWT},
		{"four parts", good + ".x", ReasonMalformed, TokenUnknown},
		{"one changed claim", strings.Replace(good, b64([]byte(claimsWith(nil))), b64([]byte(claimsWith(map[string]any{"sub": "8"}))), 1), ReasonBadSignature, TokenJWT},
	}
}

// respell changes a spare bit of the last character.
func respell(last string) string {
	i := strings.Index(base64URL, last)
	return base64URL[i^1 : i^1+1]
}

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func TestNoAttackIsBelievedAndEachSaysWhy(t *testing.T) {
	d := verifying(t)
	for _, c := range attacks(t) {
		t.Run(c.name, func(t *testing.T) {
			// JWEs have four dots, not the signed ones' two: others are nobody's.
			a := actorOf(d, c.token)
			if c.name == "four parts" {
				c.want = ""
			}
			claims := "nothing claimed"
			if a.Claimed != nil {
				claims = "claimed sub " + a.Claimed.Subject
			}
			t.Logf("%-36s token_type %-8s verification %-5s reason %-22s %s", c.name, a.TokenType, a.Verification, a.VerificationReason, claims)
			if a.Verification != VerificationNone || a.VerificationReason != c.want || a.TokenType != c.kind || a.TokenHash == "" {
				t.Errorf("%+v, want %s and %q", a, c.kind, c.want)
			}
			if a.UserID != "" || a.Email != "" || a.SessionID != "" || a.JWTSubject != "" || a.JWTRole != "" || a.JWTIssuer != "" {
				t.Errorf("unverified facts: %+v", a)
			}
		})
	}
}

func TestTimesHaveAMinutesLeeway(t *testing.T) {
	d := verifying(t)
	for _, change := range []map[string]any{
		{"exp": arrival().Unix() - 59},
		{"nbf": arrival().Unix() + 59},
		{"exp": float64(arrival().Unix()) + 0.5},
	} {
		if a := actorOf(d, session(change)); a.Verification != VerificationSignature {
			t.Errorf("%v: %s", change, a.VerificationReason)
		}
	}
	token, why := ReadToken(session(nil))
	if why != "" {
		t.Fatal(why)
	}
	id, _ := testIssuer(t, Supabase(), nil).Verify(token, issuerKeys().keys, arrival())
	if id == nil || !id.Until().Equal(arrival().Add(61*time.Minute)) {
		t.Errorf("an identity does not end with its token: %+v", id)
	}
}

func TestTwoCredentialsAreNobodys(t *testing.T) {
	for _, d := range []*Deriver{verifying(t), deriver()} {
		a := d.Identify(&Call{Arrived: arrival(), Authorization: "Bearer " + session(nil), SeveralCredentials: true})
		if a.VerificationReason != ReasonSeveralCredentials || a.UserID != "" || a.Claimed == nil || a.TokenHash == "" {
			t.Errorf("%+v", a)
		}
	}
}

func TestWithoutKeysNothingIsBelieved(t *testing.T) {
	d := deriver()
	d.Verifier = verifyAll{testIssuer(t, Supabase(), nil), nil}
	if a := actorOf(d, session(nil)); a.VerificationReason != ReasonNoKeys || a.UserID != "" {
		t.Errorf("%+v", a)
	}
}

func TestWhatAKeySetMayHold(t *testing.T) {
	k := issuerKeys()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		key  any
		want int
	}{
		{"public", jose.JSONWebKey{Key: k.EC.Public()}, 1},
		{"private", jose.JSONWebKey{Key: k.EC}, 0},
		{"symmetric", jose.JSONWebKey{Key: k.Secret}, 0},
		{"for encryption", jose.JSONWebKey{Key: k.RSA.Public(), Use: "enc"}, 0},
		{"with an algorithm", jose.JSONWebKey{Key: k.RSA.Public(), Algorithm: "PS256"}, 1},
		{"with another kind's algorithm", jose.JSONWebKey{Key: k.RSA.Public(), Algorithm: "HS256"}, 0},
		{"RSA of 1024 bits", jose.JSONWebKey{Key: weak.Public()}, 0},
		{"of an unknown kind", map[string]string{"kty": "LATTICE"}, 0},
		{"no object", 7, 0},
	} {
		b, err := json.Marshal(map[string]any{"keys": []any{c.key}})
		if err != nil {
			t.Fatal(err)
		}
		keys, leftOut, err := ParseKeys(b)
		if err != nil || len(keys) != c.want || leftOut != 1-c.want {
			t.Errorf("%s: %d keys, %d left out, %v", c.name, len(keys), leftOut, err)
		}
	}
	for _, set := range []string{"", "<html>", "[]", "{}", `{"keys":7}`, `{"keys":[` + strings.Repeat("0,", 64) + `0]}`} {
		if _, _, err := ParseKeys([]byte(set)); err == nil {
			t.Errorf("%.20q is a key set", set)
		}
	}
	if keys, _, err := ParseKeys([]byte(`{"keys":[]}`)); err != nil || len(keys) != 0 {
		t.Errorf("a set that was emptied gave %v, %v", keys, err)
	}
	if _, err := SecretKey([]byte("hunter2")); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a short secret: %v", err)
	}
	secret, _ := SecretKey(k.Secret)
	for _, s := range []string{fmt.Sprint(secret), fmt.Sprintf("%+v", secret), fmt.Sprintf("%#v", secret), fmt.Sprintf("%v", []Key{secret})} {
		if strings.Contains(s, "secret of") || strings.Contains(s, "97 32") {
			t.Errorf("the secret prints as %s", s)
		}
	}
}

func TestAKeyWithAnAlgorithmServesNoOther(t *testing.T) {
	k := issuerKeys()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.RSA.Public(), KeyID: "rsa", Algorithm: "PS256"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := ParseKeys(set)
	if err != nil {
		t.Fatal(err)
	}
	d := deriver()
	d.Verifier = verifyAll{testIssuer(t, Supabase(), nil), keys}
	for alg, want := range map[jose.SignatureAlgorithm]Reason{jose.PS256: "", jose.RS256: ReasonAlgorithm, jose.PS384: ReasonAlgorithm} {
		if a := actorOf(d, jwttest.Sign(alg, k.RSA, "rsa", nil, claimsWith(nil))); a.VerificationReason != want {
			t.Errorf("%s: %q, want %q", alg, a.VerificationReason, want)
		}
	}
}

func TestWhichClaimsCanBeNamed(t *testing.T) {
	for _, c := range [][2]string{
		{"token_type", "x"},
		{"verification", "x"},
		{"jwt_issuer", "x"},
		{"ip", "x"},
		{"user_id", ""},
		{"user_id", "a..b"},
		{"user_id", "user_metadata.uid"},
		{"email", "user_metadata.email"},
		{"user_id", "a.b.c.d.e.f.g.h.i"},
	} {
		if _, err := NewIssuer(jwttest.URL, nil, Supabase(), map[string]string{c[0]: c[1]}); err == nil {
			t.Errorf("claim %s %s is taken", c[0], c[1])
		}
	}
	if _, err := NewIssuer("", nil, Supabase(), nil); err == nil {
		t.Error("an issuer without a name is taken")
	}
}

// signedPart is what a token's signature is over.
func signedPart(token string) string { return token[:strings.LastIndexByte(token, '.')+1] }

// No claims but those that the issuer signed fill user_id or email: here the
// signed tokens are changed in every way that a few random steps reach, pieces
// of other tokens included.
func TestOnlyTheIssuersOwnClaimsFillUserIDAndEmail(t *testing.T) {
	d := verifying(t)
	k := issuerKeys()
	signed := []string{
		session(nil), jwttest.Sign(jose.RS256, k.RSA, "rsa", nil, claimsWith(nil)),
		jwttest.Sign(jose.EdDSA, k.Ed, "ed", nil, claimsWith(nil)), jwttest.Sign(jose.HS256, k.Secret, "", nil, claimsWith(nil)),
	}
	var pieces []string
	for _, s := range signed {
		pieces = append(pieces, strings.Split(s, ".")...)
	}
	for _, a := range attacks(t) {
		if len(a.token) < maxToken {
			pieces = append(pieces, strings.Split(a.token, ".")...)
		}
	}
	seed := mathrand.Uint64()
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	for n := range 5_000 {
		token := []byte(signed[random.IntN(len(signed))])
		for range 1 + random.IntN(3) {
			switch at := random.IntN(len(token)); random.IntN(5) {
			case 0:
				token[at] = base64URL[random.IntN(64)]
			case 1:
				token = slices.Delete(token, at, min(len(token), at+1+random.IntN(4)))
			case 2:
				token = slices.Insert(token, at, base64URL[random.IntN(64)])
			case 3:
				parts := strings.Split(string(token), ".")
				parts[random.IntN(len(parts))] = pieces[random.IntN(len(pieces))]
				token = []byte(strings.Join(parts, "."))
			case 4:
				token[at] ^= 1 << random.IntN(8)
			}
			if len(token) == 0 {
				token = []byte{'.'}
			}
		}
		a := actorOf(d, string(token))
		if believed := a.UserID != "" || a.Email != "" || a.Verification != VerificationNone; believed && !slices.ContainsFunc(signed, func(s string) bool { return signedPart(s) == signedPart(string(token)) }) {
			t.Fatalf("seed %d, step %d: %q is believed: %+v", seed, n, token, a)
		}
	}
}

// Whatever a token is, it is read without a panic, and only what was signed is
// believed.
func FuzzVerify(f *testing.F) {
	d := verifying(f)
	good := jwttest.Sign(jose.EdDSA, issuerKeys().Ed, "ed", nil, claimsWith(nil)) // the same in each process
	f.Add("Bearer "+good, "", false)
	f.Add("Bearer "+good, good, true)
	f.Add("", good, false)
	for _, a := range attacks(f) {
		if len(a.token) < 2*maxToken {
			f.Add("Bearer "+a.token, "", false)
		}
	}
	f.Fuzz(func(t *testing.T, authorization, key string, several bool) {
		e, _ := d.Intent(&Call{
			Arrived: arrival(), Method: "GET", Path: "/v1/projects", Authorization: authorization, APIKey: key, SeveralCredentials: several,
		})
		a := &e.Actor
		if a.Verification == VerificationNone && (a.UserID != "" || a.Email != "") {
			t.Fatalf("unverified facts: %+v", a)
		}
		if a.Verification != VerificationNone && (several || !strings.Contains(authorization, signedPart(good)) && !strings.HasPrefix(key, signedPart(good))) {
			t.Fatalf("%q, %q is believed: %+v", authorization, key, a)
		}
		if b, err := e.Encode(); err != nil || len(b) > 64<<10 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}

// The claims of a signed token, and the key set of an issuer, are bytes from
// the network too.
func FuzzClaims(f *testing.F) {
	i, err := NewIssuer(jwttest.URL, nil, Supabase(), map[string]string{"jwt_role": "app_metadata.role"})
	if err != nil {
		f.Fatal(err)
	}
	k := issuerKeys()
	f.Add([]byte(claimsWith(nil)), k.set)
	f.Add([]byte(claimsWith(map[string]any{"amr": []any{nil, "x", 1}, "app_metadata": map[string]any{"role": "x"}, "is_anonymous": true})), []byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
	f.Add([]byte(`{"iss":"`+jwttest.URL+`","exp":1e400}`), []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Fuzz(func(t *testing.T, claims, set []byte) {
		_, _, _ = ParseKeys(set)
		token, _ := ReadToken(jwttest.Sign(jose.HS256, k.Secret, "", nil, string(claims)))
		if token == nil {
			return
		}
		id, why := i.Verify(token, k.keys, arrival())
		if (id == nil) == (why == "") {
			t.Fatalf("%v and %q", id, why)
		}
		if id != nil {
			e := Entry{ID: "x", Actor: id.actor}
			if b, err := e.Encode(); err != nil || len(b) > 16<<10 || !json.Valid(b) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		}
	})
}
