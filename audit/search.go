package audit

import (
	"cmp"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
)

// MaxTrailHashes bounds the hashes of a Trail. An ES256 token has the most: 16
// spellings of each of two signatures, and its HMAC.
const MaxTrailHashes = 64

// Trail is what entries of one credential can bear: one of the hashes, or the
// session that it belongs to. The zero value is nobody's.
type Trail struct {
	// Hashes are what Actor.TokenHash may be. The first is what it most likely
	// is.
	Hashes []string
	// Session is the Actor.SessionID of the credential's session, whose tokens
	// are replaced every hour or so; empty if it names none.
	Session string
}

// IsZero reports whether there is nothing to look for.
func (t *Trail) IsZero() bool { return len(t.Hashes) == 0 && t.Session == "" }

// What makes an entry part of a trail.
const (
	ByToken   = "token"
	BySession = "session"
)

// Names says what makes the entry part of the trail, or is empty. The session
// of an entry counts only where it was verified: anyone can claim one.
func (t *Trail) Names(e *Entry) string {
	switch {
	case e.Actor.TokenHash != "" && slices.Contains(t.Hashes, e.Actor.TokenHash),
		slices.ContainsFunc(e.Actor.OtherTokenHashes, func(h string) bool { return slices.Contains(t.Hashes, h) }):
		return ByToken
	case t.Session != "" && e.Actor.SessionID == t.Session:
		return BySession
	}
	return ""
}

// Trail returns what a credential's entries can bear. The credential is bare,
// or the value of an Authorization header, or the line of one or of any other
// header. What it claims is not verified, which costs nothing here: it only
// selects. Without a key (nil) the hashes that need one are left out.
//
// For a JWT it has every spelling that differs in the spare bits of the
// signature's last character, and with ECDSA the signature's twin, since an API
// may take all of them for the token. It has none with characters that
// base64url does not have, such as padding.
func (k *TokenKey) Trail(credential string) Trail {
	t := &trail{key: k}
	value := strings.TrimSpace(credential)
	name, rest, named := strings.Cut(value, ":")
	switch {
	case named && strings.EqualFold(name, "Authorization"):
		t.header(strings.TrimSpace(rest))
	case named && strings.EqualFold(name, "apikey"):
		t.token(bare(rest))
	case named && strings.EqualFold(name, "cookie"):
		t.cookies(rest)
	default:
		t.header(value)
		if rest = strings.TrimSpace(rest); rest != "" && !strings.ContainsAny(name, " \t") {
			t.header(rest) // the line of a header that the site names, or a password
		}
	}
	return t.Trail
}

type trail struct {
	Trail
	key *TokenKey
}

// header adds what the value of an Authorization header can become.
func (t *trail) header(value string) {
	switch p := readAuthorization(value); p.form {
	case formBasic:
		t.basic(value, p.token)
	case formScheme:
		t.keyed(p.value)
	default:
		t.token(p.token)
		if scheme, _, _ := strings.Cut(value, " "); p.token != value && !strings.EqualFold(scheme, "Bearer") {
			t.keyed(value) // a password may hold a space
		}
	}
}

// cookies adds every value of a Cookie header, since only the site knows which
// of them is a credential.
func (t *trail) cookies(line string) {
	for pair := range strings.SplitSeq(line, ";") {
		if _, value, ok := strings.Cut(pair, "="); ok {
			t.token(bare(strings.Trim(strings.TrimSpace(value), `"`)))
		}
	}
}

// token adds the hashes of a token, and its session.
func (t *trail) token(token string) {
	if token == "" {
		return
	}
	if plain := unescapeAny(token); plain != token {
		t.token(plain) // a cookie's, as it is hashed
	}
	signed, ok := splitJWT(token)
	if !ok {
		t.text(token)
		return
	}
	for _, spelling := range signed.spellings() {
		t.add(plainHash(spelling))
	}
	t.keyed(token)
	t.Session = cmp.Or(t.Session, signed.session())
}

// text adds both hashes of what is no JWT. The plain one comes first only where
// nobody can guess the text from it, since the first is shown to people.
func (t *trail) text(text string) {
	random := slices.ContainsFunc(supabaseTokens, func(s TokenShape) bool { return s.matches(text) })
	if !random {
		t.keyed(text)
	}
	t.add(plainHash(text))
	t.keyed(text)
}

// basic adds a user name and password: together, and each by itself, since a
// token may be either.
func (t *trail) basic(value, pair string) {
	t.keyed(pair)
	t.keyed(value)
	user, password, _ := strings.Cut(pair, ":")
	for _, part := range []string{user, password} {
		t.token(part)
	}
}

func plainHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (t *trail) keyed(text string) {
	if t.key != nil {
		t.add(t.key.Hash(text, false))
	}
}

func (t *trail) add(hash string) {
	if len(t.Hashes) < MaxTrailHashes && !slices.Contains(t.Hashes, hash) {
		t.Hashes = append(t.Hashes, hash)
	}
}

// splitToken is a JWT in its parts.
type splitToken struct {
	signed    string // with the dot at its end
	body      string
	signature string
	algorithm string
}

// splitJWT takes what readJWT takes: the entries of all else have an HMAC.
func splitJWT(token string) (s splitToken, ok bool) {
	if _, ok := readJWT(token); !ok {
		return s, false
	}
	at := strings.LastIndexByte(token, '.')
	s.signed, s.signature = token[:at+1], token[at+1:]
	head, body, _ := strings.Cut(token[:at], ".")
	s.body = body
	var header struct {
		Alg string `json:"alg"`
	}
	b, err := base64.RawURLEncoding.DecodeString(head)
	if err == nil {
		err = json.Unmarshal(b, &header)
	}
	s.algorithm = header.Alg
	return s, err == nil
}

// spellings are the token's own first, then those that decode to the same
// signature, and to its twin.
func (s *splitToken) spellings() []string {
	all := []string{s.signed + s.signature}
	for _, signature := range append(spareBits(s.signature), spareBits(s.twin())...) {
		if !slices.Contains(all, s.signed+signature) {
			all = append(all, s.signed+signature)
		}
	}
	return all
}

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// spareBits returns every text that a decoder which is not strict decodes to the
// same bytes: two or four bits of the last character stand for nothing.
func spareBits(encoded string) []string {
	spare := map[int]int{2: 16, 3: 4}[len(encoded)%4]
	if spare == 0 {
		return []string{encoded}
	}
	last := strings.IndexByte(base64Digits, encoded[len(encoded)-1])
	all := make([]string, 0, spare)
	for i := range spare {
		all = append(all, encoded[:len(encoded)-1]+base64Digits[last&^(spare-1)+i:][:1])
	}
	return all
}

var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}

// twin returns the other signature of the same text by the same ECDSA key,
// (r, n−s), which anyone can compute from the first. Without one it returns the
// signature itself.
func (s *splitToken) twin() string {
	curve := curves[s.algorithm]
	b, err := base64.RawURLEncoding.DecodeString(s.signature)
	if curve == nil || err != nil {
		return s.signature
	}
	n := curve.Params().N
	size := (n.BitLen() + 7) / 8
	if len(b) != 2*size {
		return s.signature
	}
	half := new(big.Int).SetBytes(b[size:])
	if half.Sign() == 0 || half.Cmp(n) >= 0 {
		return s.signature
	}
	half.Sub(n, half).FillBytes(b[size:])
	return base64.RawURLEncoding.EncodeToString(b)
}

// session is the token's session by the claims' usual names. One that an entry
// would not have whole selects nothing.
func (s *splitToken) session() string {
	var claims map[string]any
	b, err := base64.RawURLEncoding.DecodeString(s.body)
	if err != nil || len(b) > maxClaims || json.Unmarshal(b, &claims) != nil {
		return ""
	}
	for _, name := range []string{"session_id", "sid"} {
		id, _ := claims[name].(string)
		if r := (recorder{e: new(Entry)}); id != "" && len(id) <= maxText && r.text("", id) == id {
			return id
		}
	}
	return ""
}
