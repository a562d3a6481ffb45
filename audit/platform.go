package audit

import (
	"cmp"
	"fmt"
	pathpkg "path"
	"regexp"
	"slices"
	"strings"
)

// Platform is what the sidecar knows about one kind of API. It never changes,
// so it is safe for concurrent use.
type Platform struct {
	// Name is the word for it in the Caddyfile.
	Name string
	// Catalog may be nil: then Guess gives each call its route and target.
	Catalog *Catalog
	// Rules read the templates of a site's own catalogs.
	Rules Rules
	// Tokens are the shapes of its credentials, tried in order.
	Tokens []TokenShape
	// Claims are the paths of the claims that fill the actor's fields when a
	// JWT is verified, by the field's name.
	Claims map[string]string
	// Basic is what Basic credentials are called whose user names are names, so
	// that they may be recorded. Empty means that they may be keys.
	Basic TokenType

	// marks and patterns recognise the site's own credentials in any text.
	marks    []secretMark
	patterns []*regexp.Regexp
}

// IsSensitive reports whether a call asks for an operation that stays recorded
// where a rule turns it off.
// An API may read a path more leniently than we do, so its clean form in lower
// case counts as well.
func (p *Platform) IsSensitive(method, path string) bool {
	if p.Catalog == nil || !p.Catalog.sensitive || !reads(method) {
		return false
	}
	var m Match
	if p.Catalog.Match(method, path, &m) {
		return m.Operation.Sensitive
	}
	return len(path) <= maxGuessedPath && p.Catalog.Match(method, cleanPath(path), &m) && m.Operation.Sensitive
}

// cleanPath is what the most lenient API may take a path for.
func cleanPath(path string) string {
	path = strings.ReplaceAll(strings.ToLower(unescapeAny(path)), `\`, "/")
	parts := strings.Split(path, "/")
	for i, part := range parts {
		part, _, _ = strings.Cut(part, ";") // parameters of a segment
		parts[i] = strings.TrimSpace(part)
	}
	return strings.TrimSuffix(pathpkg.Clean("/"+strings.Join(parts, "/")), ".json")
}

// minPrefix is the least that tells a site's credentials from words.
const minPrefix = 3

// WithTokens is the platform with a site's own shapes, which are tried first.
// Texts that may hold one of them are recorded without it. basic fills
// Platform.Basic.
func (p *Platform) WithTokens(shapes []TokenShape, basic TokenType) *Platform {
	own := *p
	own.Basic = basic
	own.Tokens = slices.Concat(shapes, p.Tokens)
	for _, s := range shapes {
		if s.Pattern != nil {
			own.patterns = append(own.patterns, cmp.Or(s.anywhere, s.Pattern))
		} else {
			own.marks = append(own.marks, secretMark{mark: s.Prefix, word: true, min: minAfterPrefix, any: true}, secretMark{mark: s.Prefix, min: 2 * minAfterPrefix, any: true})
		}
	}
	return &own
}

const (
	// randomAfterPrefix and randomInAll are how long a site's own credentials
	// must be to be identified by their plain hash.
	randomAfterPrefix = 20
	randomInAll       = 32
	// minAfterPrefix tells a credential from its bare prefix.
	minAfterPrefix = 8
	// maxTypeName bounds the names of token types.
	maxTypeName = 32
)

// typeForm is what a site may call its token types.
var typeForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// CheckTokenType looks at the name of a type that a site makes.
func CheckTokenType(t TokenType) error {
	switch {
	case t == TokenJWT || t == TokenNone || t == TokenUnknown || t == TokenAnon || t == TokenServiceRole:
		return fmt.Errorf("token type %q has a meaning of its own: choose another name", t)
	case len(t) > maxTypeName || !typeForm.MatchString(string(t)):
		return fmt.Errorf("token type %q is not a name of up to %d lower-case letters, digits and underscores", t, maxTypeName)
	}
	return nil
}

// PrefixShape is the shape of a site's own tokens that share a public prefix.
func PrefixShape(t TokenType, prefix string) (TokenShape, error) {
	if err := CheckTokenType(t); err != nil {
		return TokenShape{}, err
	}
	if len(prefix) < minPrefix || strings.ContainsAny(prefix, " \t") {
		return TokenShape{}, fmt.Errorf("prefix %q cannot tell a token from a word: it needs %d characters or more, and no space", prefix, minPrefix)
	}
	return TokenShape{Type: t, Prefix: prefix, Min: minAfterPrefix, Guessable: randomAfterPrefix}, nil
}

// PatternShape is the shape of a site's own tokens that a regular expression
// matches as a whole.
func PatternShape(t TokenType, expression string) (TokenShape, error) {
	if err := CheckTokenType(t); err != nil {
		return TokenShape{}, err
	}
	pattern, err := regexp.Compile(`^(?:` + expression + `)$`)
	if err != nil {
		return TokenShape{}, fmt.Errorf("reading the pattern: %w", err)
	}
	if pattern.MatchString("") {
		return TokenShape{}, fmt.Errorf("pattern %q matches what is empty: describe the whole token, as in rb_[0-9a-f]{40}", expression)
	}
	anywhere := regexp.MustCompile(expression)
	anywhere.Longest()
	return TokenShape{Type: t, Pattern: pattern, anywhere: anywhere, Guessable: randomInAll}, nil
}

// sessionClaims are the claims of platform supabase's sessions.
var sessionClaims = map[string]string{
	"user_id": "sub", "email": "email", "session_id": "session_id", "jwt_role": "role", "aal": "aal", "amr": "amr",
	"anonymous": "is_anonymous", "oauth_app_id": "client_id",
}

// introspectionClaims are those that RFC 7662 registers, and email, which many
// services add.
var introspectionClaims = map[string]string{
	"user_id": "sub", "email": "email", "session_id": "sid", "oauth_app_id": "client_id", "token_scope": "scope",
}

// profileClaims are what a profile calls its own person in most APIs.
var profileClaims = map[string]string{"user_id": "id", "email": "email"}

// openIDClaims are those that OpenID Connect and RFC 9068 register.
var openIDClaims = map[string]string{
	"user_id": "sub", "email": "email", "session_id": "sid", "amr": "amr", "oauth_app_id": "client_id",
}
