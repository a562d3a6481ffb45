package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

const hex40 = "0123456789abcdef0123456789abcdef01234567"

func jwtOf(header, claims string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(header)) + "." + b64([]byte(claims)) + "." + b64([]byte("not a signature, but long enough"))
}

func TestATokensShapeTellsItsType(t *testing.T) {
	const hs = `{"alg":"HS256","typ":"JWT"}`
	for _, c := range []struct {
		name, token string
		want        TokenType
	}{
		{"classic", "sbp_" + hex40, TokenV1},
		{"old classic", "sbp_v0_" + hex40, TokenV0},
		{"scoped, whose prefix is hex too", "sbp_fc" + hex40, TokenScopedPAT},
		{"OAuth app", "sbp_oauth_" + hex40, TokenOAuth},
		{"publishable key", "sb_publishable_abcdefghijklmnopqrstuv_12345678", TokenPublishable},
		{"secret key", "sb_secret_abcdefghijklmnopqrstuv_12345678", TokenSecret},
		{"session", jwtOf(hs, `{"sub":"a","role":"authenticated","session_id":"s"}`), TokenJWT},
		{"session that says anon", jwtOf(hs, `{"sub":"a","role":"anon"}`), TokenJWT},
		{"legacy anon key", jwtOf(hs, `{"iss":"x","ref":"abcdefghijklmnopqrst","role":"anon"}`), TokenAnon},
		{"legacy service key", jwtOf(hs, `{"role":"service_role"}`), TokenServiceRole},
		{"claims of other types", jwtOf(hs, `{"sub":7,"role":["anon"],"email":{}}`), TokenJWT},
		{"no algorithm", jwtOf(`{}`, `{}`), TokenUnknown},
		{"claims are no object", jwtOf(hs, `[]`), TokenUnknown},
		{"claims are no JSON", jwtOf(hs, `{`), TokenUnknown},
		{"bad base64", "a!.b!.c!", TokenUnknown},
		{"two parts", "eyJhbGciOiJIUzI1NiJ9.e30", TokenUnknown},
		{"too short", "sbp_" + hex40[1:], TokenUnknown},
		{"too long", "sbp_" + hex40 + "0", TokenUnknown},
		{"upper case", "sbp_" + strings.ToUpper(hex40), TokenUnknown},
		{"password", "correct-horse", TokenUnknown},
		{"prefix alone", "sbp_", TokenUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Supabase().classify(c.token); got.kind != c.want {
				t.Errorf("%s, want %s", got.kind, c.want)
			} else if got.recognised != (c.want != TokenUnknown) {
				t.Errorf("recognised %v for %s", got.recognised, got.kind)
			}
		})
	}
}

func TestTheAuthorizationHeaderComesBeforeTheKey(t *testing.T) {
	pat, key := "sbp_"+hex40, "sb_secret_abcdefghijklmnopqrstuv"
	for _, c := range []struct {
		name string
		call Call
		want TokenType
	}{
		{"both", Call{Authorization: "Bearer " + pat, APIKey: key}, TokenV1},
		{"key alone", Call{APIKey: key}, TokenSecret},
		{"scheme in any case", Call{Authorization: "bEARER  " + pat}, TokenV1},
		{"basic", Call{Authorization: "Basic dTpw"}, TokenBasic},
		{"no scheme", Call{Authorization: pat}, TokenV1},
		{"nothing", Call{}, TokenNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			shown := c.call.presents()
			if got := Supabase().credentialOf(&shown); got.kind != c.want {
				t.Errorf("%s, want %s", got.kind, c.want)
			}
		})
	}
}

func TestOnlyWhatCannotBeGuessedIsHashedWithoutAKey(t *testing.T) {
	one, other := &TokenKey{1}, &TokenKey{2}
	token := "sbp_" + hex40
	sum := sha256.Sum256([]byte(token))
	if got := one.Hash(token, true); got != hex.EncodeToString(sum[:]) {
		t.Errorf("a recognised token's hash is %s, not its SHA-256", got)
	}
	password := one.Hash("correct-horse", false)
	if !strings.HasPrefix(password, "hmac:") || password == other.Hash("correct-horse", false) {
		t.Errorf("a password's hash %s does not depend on the key", password)
	}
	if s := fmt.Sprint(one); strings.Contains(s, "1") {
		t.Errorf("the key prints as %q", s)
	}
}

func TestAnAliasShowsThePrefixAndSixCharacters(t *testing.T) {
	for token, want := range map[string]string{
		"sbp_" + hex40:       "sbp_012345…",
		"sbp_v0_" + hex40:    "sbp_v0_012345…",
		"sbp_oauth_" + hex40: "",
	} {
		if got := Supabase().classify(token).alias; got != want {
			t.Errorf("alias %q, want %q", got, want)
		}
	}
}

func TestWhatLooksLikeACredential(t *testing.T) {
	for s, want := range map[string]bool{
		"sbp_" + hex40:                    true,
		"x/sbp_" + hex40 + "/y":           true,
		"%20eyJhbGciOiJIUzI1NiIsInR5cCI6": true,
		"eyJhbGciOiJIUzI1NiIsInR5cCI6":    true,
		"monkeyJumpingOverEverything":     false,
		"eyJ":                             false,
		"sbp_backup":                      false,
		"":                                false,
	} {
		if got := looksSecret(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
