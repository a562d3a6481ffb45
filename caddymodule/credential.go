package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// maxPlaces bounds where credentials are looked for in each call.
const maxPlaces = 8

// Token says how the site's own credentials look, so that each has its type in
// the entries, and none is recorded wherever else in a call it stands. They are
// tried in order, before those of the platform. What reads as a JWT is one,
// whatever is written here.
//
// A credential of 20 characters or more after its prefix, or of 32 or more that
// a pattern matches, is identified by its plain SHA-256, so that whoever holds a
// leaked one can find its trail; a shorter one may be guessed from that and is
// identified by an HMAC.
type Token struct {
	// Type is what the credential is called: lower-case letters, digits and
	// underscores. It can be one of the platform's. Required.
	//
	// Caddyfile: token <type>
	Type audit.TokenType `json:"type"`

	// Prefixes are public beginnings that such credentials share, of 3
	// characters or more. At least 8 must follow. Default: none.
	//
	// Caddyfile: token <type> prefix <prefix...>
	Prefixes []string `json:"prefixes,omitempty"`

	// Regexp matches such a credential as a whole, in Go's syntax. Default: none.
	//
	// Caddyfile: token <type> regexp <pattern>
	Regexp string `json:"regexp,omitempty"`

	// Basic says that Basic credentials are of this type, and that their user
	// names are names: they are recorded as actor.claimed.username. Without it
	// Basic credentials are of type "basic" and their user names, which may be
	// keys, are not recorded. The password never is. Default: false.
	//
	// Caddyfile: token <type> basic
	Basic bool `json:"basic,omitempty"`
}

// shapes are the token's, checked.
func (t *Token) shapes() ([]audit.TokenShape, error) {
	if err := audit.CheckTokenType(t.Type); err != nil {
		return nil, err
	}
	var shapes []audit.TokenShape
	for _, prefix := range t.Prefixes {
		shape, err := audit.PrefixShape(t.Type, prefix)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, shape)
	}
	if t.Regexp != "" {
		shape, err := audit.PatternShape(t.Type, t.Regexp)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, shape)
	}
	if len(shapes) == 0 && !t.Basic {
		return nil, errors.New("it does not say how such credentials look: give a prefix, a regexp, or basic")
	}
	return shapes, nil
}

// String describes the token for a reader of audit.config_changed.
func (t *Token) String() string {
	words := []string{"token", string(t.Type)}
	for _, prefix := range t.Prefixes {
		words = append(words, "prefix", prefix)
	}
	if t.Regexp != "" {
		words = append(words, "regexp", t.Regexp)
	}
	if t.Basic {
		words = append(words, "basic")
	}
	return strings.Join(words, " ")
}

// CredentialPlace is where a call may present a credential, beside the
// Authorization and Apikey headers. Where a call presents different ones, at two
// of these places or there and in Authorization, nobody knows which the API
// takes: the first is recorded, and not verified (several_credentials).
type CredentialPlace struct {
	// In is "header", "cookie" or "query". Required.
	In audit.PlaceKind `json:"in"`

	// Name is the name of the header, the cookie or the query parameter. Required.
	Name string `json:"name"`

	// Type is what a credential there is called if its shape does not tell.
	// Default: "unknown".
	Type audit.TokenType `json:"type,omitempty"`
}

func (p *CredentialPlace) check() error {
	switch p.In {
	case audit.PlaceHeader, audit.PlaceCookie, audit.PlaceQuery:
	default:
		return fmt.Errorf("%q is no place for a credential: choose header, cookie or query", p.In)
	}
	if p.Name == "" || p.In != audit.PlaceQuery && !httpguts.ValidHeaderFieldName(p.Name) {
		return fmt.Errorf("%q is not the name of a %s", p.Name, p.In)
	}
	if name := http.CanonicalHeaderKey(p.Name); p.In == audit.PlaceHeader && (name == "Authorization" || name == "Apikey" || name == "Cookie") {
		return fmt.Errorf("the header %s is looked at already: name another place", name)
	}
	if p.Type != "" {
		return audit.CheckTokenType(p.Type)
	}
	return nil
}

// String describes the place for a reader of audit.config_changed.
func (p *CredentialPlace) String() string {
	return strings.TrimSpace(fmt.Sprintf("credential %s %s %s", p.In, p.Name, p.Type))
}

// provisionCredentials makes the platform know the site's own credentials.
func (h *Handler) provisionCredentials() error {
	var shapes []audit.TokenShape
	var basic audit.TokenType
	for _, t := range h.Tokens {
		own, err := t.shapes()
		if err != nil {
			return h.wrong("token %s: %w", t.Type, err)
		}
		shapes = append(shapes, own...)
		if t.Basic {
			if basic != "" {
				return h.wrong("token %s: Basic credentials are of type %s already: remove one", t.Type, basic)
			}
			basic = t.Type
		}
	}
	if len(h.Tokens) > 0 {
		h.platform = h.platform.WithTokens(shapes, basic)
	}
	if len(h.Credentials) > maxPlaces {
		return h.wrong("there are %d places for credentials, and %d are the most that are looked at", len(h.Credentials), maxPlaces)
	}
	for _, p := range h.Credentials {
		if err := p.check(); err != nil {
			return h.wrong("credential: %w", err)
		}
		h.places = append(h.places, audit.Place{Kind: p.In, Name: p.Name, Type: p.Type})
	}
	return nil
}

// maxRest bounds the further values of credentials that are looked at.
const maxRest = 8

// presented finds what a call presents: in the two headers that every call is
// asked for, and at the places that the site names. An empty value counts for
// nothing but that there are several: servers differ in which one they take.
func presented(c *audit.Call, places []audit.Place, r *http.Request, u *url.URL) {
	take := func(values []string) (first string, several bool) {
		for _, v := range values {
			switch {
			case v == first:
			case first == "":
				first = v
			case len(c.Rest) < maxRest:
				c.Rest = append(c.Rest, v)
			}
			several = several || v != values[0]
		}
		return first, several
	}
	var severalKeys bool
	c.Authorization, c.SeveralCredentials = take(r.Header["Authorization"])
	c.APIKey, severalKeys = take(r.Header["Apikey"])
	if c.Authorization == "" {
		c.SeveralCredentials = severalKeys
	}
	for i := range places {
		place := &places[i]
		var values []string
		switch place.Kind {
		case audit.PlaceHeader:
			values = r.Header.Values(place.Name)
		case audit.PlaceCookie:
			values = cookies(r.Header["Cookie"], place.Name)
		case audit.PlaceQuery:
			values = parameters(u.RawQuery, place.Name)
		}
		if first, several := take(values); first != "" {
			c.Others = append(c.Others, audit.Credential{Place: place, Value: first, Repeated: several})
		}
	}
}

// cookies are the values of a cookie. Unlike Go's own reader it leaves none out:
// the API's may take what that one refuses.
func cookies(lines []string, name string) (values []string) {
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			if n, v, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.TrimSpace(n) == name {
				values = append(values, strings.Trim(strings.TrimSpace(v), `"`))
			}
		}
	}
	return values
}

// parameters are the values of a query parameter. A semicolon ends one to some
// servers, and to Go it ends the whole pair.
func parameters(query, name string) (values []string) {
	if query == "" {
		return nil
	}
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		n, v, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(n); err != nil || plain != name {
			continue
		}
		if plain, err := url.QueryUnescape(v); err == nil {
			v = plain
		}
		values = append(values, v)
	}
	return values
}

// keepHeaders sees to it that what an entry is made of reaches the API: a client
// may name any header in Connection, and the proxy then takes it away.
func keepHeaders(h http.Header, places []audit.Place) {
	lines := h["Connection"]
	if len(lines) == 0 {
		return
	}
	needed := func(name string) bool {
		name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
		return name == "Authorization" || name == "Apikey" || name == "Cookie" || name == auditIDHeader ||
			slices.ContainsFunc(places, func(p audit.Place) bool {
				return p.Kind == audit.PlaceHeader && textproto.CanonicalMIMEHeaderKey(p.Name) == name
			})
	}
	var kept []string
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if !needed(name) {
				kept = append(kept, strings.TrimSpace(name))
			}
		}
	}
	if joined := strings.Join(kept, ", "); joined != strings.Join(lines, ", ") {
		h["Connection"] = []string{joined}
	}
}

// answerHeaders are the headers of the API's answer that are believed, by the
// field of the entry that each fills. They are between the API and the sidecar:
// no client sees them, and none that a client sends reaches the API, which might
// send them back.
type answerHeaders map[string]string

func newAnswerHeaders(configured map[string]string) (answerHeaders, error) {
	headers := answerHeaders{}
	for _, field := range slices.Sorted(maps.Keys(configured)) {
		name := configured[field]
		if err := checkAnswerHeader(field, name); err != nil {
			return nil, err
		}
		headers[field] = http.CanonicalHeaderKey(name)
	}
	return headers, nil
}

func checkAnswerHeader(field, name string) error {
	if err := audit.CheckAssertable(field); err != nil {
		return err
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%q is not the name of a header", name)
	}
	if !strings.HasPrefix(http.CanonicalHeaderKey(name), "X-") && !strings.Contains(name, "-") {
		return fmt.Errorf("the header %s may mean something to clients, and no client will see it: name one of your own, as in X-Audit-User-Id", name)
	}
	return nil
}

// values are what the API says, by field. A header that stands there twice says
// nothing.
func (a answerHeaders) values(h http.Header) map[string]string {
	var found map[string]string
	for field, name := range a {
		if values := h[name]; len(values) == 1 && values[0] != "" {
			if found == nil {
				found = map[string]string{}
			}
			found[field] = values[0]
		}
	}
	return found
}

// has reports whether the name, in any spelling, is one of them. A Go handler
// may announce a trailer by a prefix.
func (a answerHeaders) has(name string) bool {
	name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(strings.TrimPrefix(name, http.TrailerPrefix)))
	for _, own := range a {
		if own == name {
			return true
		}
	}
	return false
}

// strip takes them away, and the announcement of trailers of that name.
func (a answerHeaders) strip(h http.Header) {
	if len(a) == 0 {
		return
	}
	for name := range h {
		if a.has(name) {
			delete(h, name)
		}
	}
	announced, changed := h["Trailer"], false
	var rest []string
	for _, line := range announced {
		for name := range strings.SplitSeq(line, ",") {
			if a.has(name) {
				changed = true
			} else {
				rest = append(rest, strings.TrimSpace(name))
			}
		}
	}
	switch {
	case !changed:
	case len(rest) == 0:
		delete(h, "Trailer")
	default:
		h["Trailer"] = rest
	}
}

// stripRequest takes them away from a request, and from its trailers, which
// arrive with the end of its body.
func (a answerHeaders) stripRequest(r *http.Request) {
	if len(a) == 0 {
		return
	}
	a.strip(r.Header)
	a.strip(r.Trailer)
	if r.Body != nil && r.Body != http.NoBody && (r.Trailer != nil || r.ContentLength < 0) {
		r.Body = &trailerGuard{ReadCloser: r.Body, request: r, headers: a}
	}
}

// trailerGuard takes answer headers away from a request's trailers in the same
// Read that brings them, before anybody can look at them.
type trailerGuard struct {
	io.ReadCloser
	request *http.Request
	headers answerHeaders
}

func (g *trailerGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if err != nil {
		g.headers.strip(g.request.Trailer)
	}
	return n, err
}
