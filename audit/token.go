package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// TokenType is the kind of credential that a call presented. It is
// open-ended: a platform may name others.
type TokenType string

// The token types of platform supabase, and the two that every platform has.
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
	// TokenNone means that no credential was presented.
	TokenNone TokenType = "none"
	// TokenUnknown means that one was, of a shape that nobody described.
	TokenUnknown TokenType = "unknown"
)

// TokenShape recognises a credential that is random enough to be identified by
// its plain hash: nobody can guess it from there.
type TokenShape struct {
	Type TokenType
	// Prefix is the public part, which everyone's credentials share.
	Prefix string
	// Alphabet and Min are what follows the prefix: at least Min characters,
	// all of the alphabet. With Exact, no more than Min.
	Alphabet string
	Min      int
	Exact    bool
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
	rest, ok := strings.CutPrefix(token, s.Prefix)
	if !ok || len(rest) < s.Min || s.Exact && len(rest) != s.Min {
		return false
	}
	return strings.Trim(rest, s.Alphabet) == ""
}

// credential is what a call presented, as far as its shape tells.
type credential struct {
	kind  TokenType
	token string
	alias string
	// recognised says that a plain hash cannot be turned back.
	recognised bool
	claimed    *Claimed
}

// isJWT reports whether the credential has the form of a JWT.
func (c *credential) isJWT() bool {
	return c.kind == TokenJWT || c.kind == TokenAnon || c.kind == TokenServiceRole
}

// mayBeJWT is a cheap look at what is worth a verifier's: a JWS has two dots, a
// JWE four.
func mayBeJWT(token string) bool {
	dots := strings.Count(token, ".")
	return dots == 2 || dots == 4
}

// presented finds the credential of a call. The Authorization header says who
// acts; an API key says only for which project, so it comes second. Opaque is
// what has no shape to look at: a user name and a password, or a scheme that
// nobody described.
func presented(c *Call) (token string, opaque bool) {
	if c.Authorization == "" {
		return c.APIKey, false
	}
	scheme, token, ok := strings.Cut(c.Authorization, " ")
	token = strings.TrimSpace(token)
	if ok && strings.EqualFold(scheme, "Bearer") && token != "" {
		return token, false
	}
	return c.Authorization, true
}

func (p *Platform) credentialOf(c *Call) credential {
	switch token, opaque := presented(c); {
	case token == "":
		return credential{kind: TokenNone}
	case opaque:
		return credential{kind: TokenUnknown, token: token}
	default:
		return p.classify(token)
	}
}

func (p *Platform) classify(token string) credential {
	for i := range p.Tokens {
		s := &p.Tokens[i]
		if !s.matches(token) {
			continue
		}
		c := credential{kind: s.Type, token: token, recognised: true}
		if s.Alias {
			c.alias = s.Prefix + token[len(s.Prefix):len(s.Prefix)+aliasChars] + "…"
		}
		return c
	}
	if claims, ok := readJWT(token); ok {
		c := credential{kind: TokenJWT, token: token, recognised: true, claimed: claims}
		if claims != nil {
			if t := keyType(claims.Subject, claims.Role); t != "" {
				c.kind = t
			}
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

// String keeps the key out of logs and errors.
func (k *TokenKey) String() string { return "[redacted]" }

// secretMarks begin the credentials that are recognised wherever they stand.
// What follows must be long enough to be one: a name may hold the mark.
var secretMarks = []struct {
	mark string
	word bool // only at the start of a word
	min  int  // word characters that follow
}{
	{mark: "sbp_", min: 16},
	{mark: "sb_secret_", min: 16},
	{mark: "eyJ", word: true, min: 17},
}

// looksSecret reports whether a text that is to be recorded holds what may be
// a credential.
func looksSecret(s string) bool {
	for _, m := range secretMarks {
		for from := 0; ; {
			i := strings.Index(s[from:], m.mark)
			if i < 0 {
				break
			}
			at := from + i
			from = at + len(m.mark)
			if m.word && !startsWord(s, at) {
				continue
			}
			rest := s[from:]
			if n := len(rest) - len(strings.TrimLeft(rest, wordChars)); n >= m.min {
				return true
			}
		}
	}
	return false
}

// startsWord takes an escaped character before the word for its end.
func startsWord(s string, at int) bool {
	return at == 0 || !strings.Contains(wordChars, s[at-1:at]) || at >= 3 && s[at-3] == '%'
}
