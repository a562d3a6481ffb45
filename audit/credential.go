package audit

import (
	"encoding/base64"
	"strings"
)

// PlaceKind is the kind of place where a call may present a credential.
type PlaceKind string

// The kinds of places, beside the Authorization and Apikey headers that every
// call is asked for.
const (
	PlaceHeader PlaceKind = "header"
	PlaceCookie PlaceKind = "cookie"
	PlaceQuery  PlaceKind = "query"
)

// Place is where a credential may stand. A place never changes.
type Place struct {
	Kind PlaceKind
	// Name is the header's, the cookie's or the query parameter's.
	Name string
	// Type is what a credential there is called if no shape tells; empty is
	// TokenUnknown.
	Type TokenType
}

// Credential is what a call presents at a place that the site names. It must
// never be logged or stored.
type Credential struct {
	Place *Place
	Value string
	// Repeated says that the place holds another value too.
	Repeated bool
}

// String keeps the value out of logs and errors.
func (c Credential) String() string { return string(c.Place.Kind) + " " + c.Place.Name + " [redacted]" }

// GoString keeps it out of %#v too.
func (c Credential) GoString() string { return c.String() }

// credentialForm is how a presented credential is to be read.
type credentialForm int

const (
	// formToken is a token by itself.
	formToken credentialForm = iota
	// formBasic is a user name and a password.
	formBasic
	// formScheme is a whole Authorization header by a scheme that nobody
	// described: it has no shape to look at.
	formScheme
)

// presented is what a call presents, as far as it counts.
type presented struct {
	form credentialForm
	// token is the credential's own text; with formBasic, user and password
	// joined by a colon.
	token string
	// place is nil for the Authorization and Apikey headers.
	place *Place
	// header is the name of the one of those two that it came in.
	header string
	// several says that the call presents different ones, so that the API may
	// have taken another than we.
	several bool
}

// presents finds the credential of a call. The Authorization header says who
// acts, and so do the places that the site names; an API key says only for
// which project, so it comes last and is at odds with nothing.
func (c *Call) presents() presented {
	var p presented
	found := false
	if c.Authorization != "" {
		p, found = readAuthorization(c.Authorization), true
		p.several = c.SeveralCredentials
	}
	for i := range c.Others {
		o := &c.Others[i]
		switch token := bare(o.Value); {
		case token == "":
		case !found:
			p, found = presented{token: token, place: o.Place, several: o.Repeated}, true
		case token != p.token || o.Repeated:
			p.several = true
		}
	}
	if !found && c.APIKey != "" {
		p = presented{token: c.APIKey, header: "Apikey", several: c.SeveralCredentials}
	}
	return p
}

func readAuthorization(h string) presented {
	scheme, token, ok := strings.Cut(h, " ")
	token = strings.TrimSpace(token)
	switch {
	case !ok || token == "":
	case strings.EqualFold(scheme, "Bearer"):
		return presented{token: token, header: "Authorization"}
	case strings.EqualFold(scheme, "Basic"):
		if pair, err := base64.StdEncoding.DecodeString(token); err == nil && strings.Contains(string(pair), ":") {
			return presented{form: formBasic, token: string(pair), header: "Authorization"}
		}
	}
	return presented{form: formScheme, token: h, header: "Authorization"}
}

// bare takes the scheme of a bearer token away, which some clients write
// wherever they put one.
func bare(value string) string {
	if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "Bearer") {
		value = token
	}
	return strings.TrimSpace(value)
}

// credential is a presented one, as far as its shape tells.
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

func (p *Platform) credentialOf(shown *presented) credential {
	switch {
	case shown.token == "":
		return credential{kind: TokenNone}
	case shown.form == formScheme:
		return credential{kind: TokenUnknown, token: shown.token}
	case shown.form == formBasic:
		return p.basic(shown.token)
	}
	c := p.classify(shown.token)
	if c.kind == TokenUnknown && shown.place != nil && shown.place.Type != "" {
		c.kind = shown.place.Type
	}
	return c
}

// basic reads a user name and a password. Either may be a token by itself, as
// many APIs have it, and then it is what identifies the caller.
//
// A user name is recorded only where the site says that its users have names:
// elsewhere it may be the key.
func (p *Platform) basic(pair string) credential {
	user, password, _ := strings.Cut(pair, ":")
	for _, part := range []string{user, password} {
		if c := p.classify(part); c.kind != TokenUnknown {
			return c
		}
	}
	c := credential{kind: TokenBasic, token: pair}
	if p.Basic != "" {
		c.kind = p.Basic
		c.claimed = &Claimed{Username: user}
	}
	return c
}
