package audit

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// TokenType is the kind of credential that a call presented. It is
// open-ended: a platform may name others.
type TokenType string

// The token types of platform supabase, and those that every platform has.
const (
	TokenJWT         TokenType = "jwt"
	TokenV0          TokenType = "v0"
	TokenV1          TokenType = "v1"
	TokenScopedPAT   TokenType = "scoped_pat"
	TokenOAuth       TokenType = "oauth"
	TokenAnon        TokenType = "anon"
	TokenServiceRole TokenType = "service_role"
	TokenPublishable TokenType = "publishable"
	TokenSecret      TokenType = "secret"
	// TokenBasic is a user name and a password.
	TokenBasic TokenType = "basic"
	// TokenNone means that no credential was presented.
	TokenNone TokenType = "none"
	// TokenUnknown means that one was, of a shape that nobody described.
	TokenUnknown TokenType = "unknown"
)

// TokenShape recognises credentials of one type. Either Pattern or Prefix says
// how they look.
type TokenShape struct {
	Type TokenType
	// Pattern matches the whole credential.
	Pattern *regexp.Regexp
	// anywhere finds it in a longer text.
	anywhere *regexp.Regexp
	// Prefix is the public part, which everyone's credentials share.
	Prefix string
	// Alphabet and Min are what follows the prefix: at least Min characters,
	// all of the alphabet. With Exact, no more than Min. An empty alphabet
	// takes any character.
	Alphabet string
	Min      int
	Exact    bool
	// Guessable is the length below which a credential of this shape may be
	// guessed from its plain hash: of what follows the prefix, or of all that a
	// pattern matches. Zero says that none of them can be.
	Guessable int
	// Alias says that the entry may show the prefix and the first characters.
	Alias bool
}

const (
	hexDigits = "0123456789abcdef"
	wordChars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"

	// aliasChars is how much of a credential an alias shows, the reference
	// platform's own bound.
	aliasChars = 6
	// maxClaims bounds a JWT's decoded payload that is read for claims.
	maxClaims = 16 << 10
)

// supabaseTokens are tried in order. The scoped token's prefix is made of hex
// digits too, so it comes before the classic one.
var supabaseTokens = []TokenShape{
	{Type: TokenOAuth, Prefix: "sbp_oauth_", Alphabet: hexDigits, Min: 40, Exact: true},
	{Type: TokenV0, Prefix: "sbp_v0_", Alphabet: hexDigits, Min: 40, Exact: true, Alias: true},
	{Type: TokenScopedPAT, Prefix: "sbp_fc", Alphabet: wordChars, Min: 32, Alias: true},
	{Type: TokenV1, Prefix: "sbp_", Alphabet: hexDigits, Min: 40, Exact: true, Alias: true},
	{Type: TokenPublishable, Prefix: "sb_publishable_", Alphabet: wordChars, Min: 20},
	{Type: TokenSecret, Prefix: "sb_secret_", Alphabet: wordChars, Min: 20},
}

func (s *TokenShape) matches(token string) bool {
	if s.Pattern != nil {
		return len(token) <= maxToken && s.Pattern.MatchString(token)
	}
	rest, ok := strings.CutPrefix(token, s.Prefix)
	if !ok || len(rest) < s.Min || s.Exact && len(rest) != s.Min {
		return false
	}
	return s.Alphabet == "" || strings.Trim(rest, s.Alphabet) == ""
}

// isRandom reports whether nobody can guess a token of this shape from its
// plain hash.
func (s *TokenShape) isRandom(token string) bool { return len(token)-len(s.Prefix) >= s.Guessable }

// classify tells a token by its form. What reads as a JWT is one, whatever the
// shapes say: a pattern may be drawn too wide.
func (p *Platform) classify(token string) credential {
	if claims, ok := readJWT(token); ok {
		c := credential{kind: TokenJWT, token: token, recognised: true, claimed: claims}
		if claims != nil {
			if t := keyType(claims.Subject, claims.Role); t != "" {
				c.kind = t
			}
		}
		return c
	}
	for i := range p.Tokens {
		s := &p.Tokens[i]
		if !s.matches(token) {
			continue
		}
		c := credential{kind: s.Type, token: token, recognised: s.isRandom(token)}
		if s.Alias {
			c.alias = s.Prefix + token[len(s.Prefix):len(s.Prefix)+aliasChars] + "…"
		}
		return c
	}
	return credential{kind: TokenUnknown, token: token}
}

// keyType tells a legacy API key: a JWT without a subject whose role says which
// key it is. Every other JWT gives the empty string.
func keyType(subject, role string) TokenType {
	switch {
	case subject != "":
		return ""
	case role == "anon":
		return TokenAnon
	case role == "service_role":
		return TokenServiceRole
	}
	return ""
}

// readJWT reports whether a token has the form of a signed JWT, and what it
// claims. The signature is not looked at. Claims beyond the bound, or that are
// not an object, are nil.
func readJWT(token string) (*Claimed, bool) {
	head, rest, ok := strings.Cut(token, ".")
	if !ok {
		return nil, false
	}
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || len(head) > maxClaims || body == "" || len(signature) < 16 || strings.Trim(signature, wordChars) != "" {
		return nil, false
	}
	var header struct {
		Alg string `json:"alg"`
	}
	if b, err := base64.RawURLEncoding.DecodeString(head); err != nil || json.Unmarshal(b, &header) != nil || header.Alg == "" {
		return nil, false
	}
	if base64.RawURLEncoding.DecodedLen(len(body)) > maxClaims {
		return nil, strings.Trim(body, wordChars) == ""
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return nil, false
	}
	// A claim of another type than ours is no reason to lose the others.
	var claims map[string]json.RawMessage
	if json.Unmarshal(b, &claims) != nil {
		return nil, false
	}
	text := func(name string) string {
		var s string
		if v := claims[name]; len(v) > 1 && v[0] == '"' && json.Unmarshal(bytes.TrimSpace(v), &s) != nil {
			return ""
		}
		return s
	}
	return &Claimed{
		Subject: text("sub"), Email: text("email"), SessionID: text("session_id"), Role: text("role"),
		Issuer: text("iss"), ClientID: text("client_id"), AAL: text("aal"), Project: text("ref"),
	}, true
}

// TokenKey keys the hashes of credentials that could be guessed.
type TokenKey [32]byte

// Hash identifies a credential without being it. A JWT or a recognised random
// shape gives its plain SHA-256 in hex, so that whoever holds a leaked token can
// find its trail with any tool. Everything else may be a guessable password and
// gives "hmac:" and its HMAC-SHA256 under the key.
func (k *TokenKey) Hash(token string, recognised bool) string {
	if recognised {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:])
	}
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte(token))
	return "hmac:" + hex.EncodeToString(h.Sum(nil))
}

// Derive is another key for another purpose, which tells nothing of this one nor of any
// credential's hash. See RFC 5869.
func (k *TokenKey) Derive(purpose string) (derived [32]byte, err error) {
	b, err := hkdf.Key(sha512.New, k[:], nil, purpose, len(derived))
	if err != nil {
		return derived, fmt.Errorf("deriving a key for %s: %w", purpose, err)
	}
	copy(derived[:], b)
	return derived, nil
}

// String keeps the key out of logs and errors.
func (k *TokenKey) String() string { return "[redacted]" }
