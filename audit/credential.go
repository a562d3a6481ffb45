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
	// Value is the first that is not empty, as it stands there; of a query
	// parameter, unescaped.
	Value string
	// Repeated says that the place holds another value too.
	Repeated bool
}

// String keeps the value out of logs and errors.
func (c Credential) String() string { return string(c.Place.Kind) + " " + c.Place.Name + " [redacted]" }

// GoString keeps it out of %#v too.
func (c Credential) GoString() string { return c.String() }

// maxOthers bounds the further credentials of a call whose hashes are recorded.
const maxOthers = 4

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
	// header is the name of the header that it stands in, and value what stands
	// there; place is the site's, and nil for Authorization and Apikey.
	header, value string
	place         *Place
	// several says that the call presents different ones, so that the API may
	// have taken another than we.
	several bool
	// others are those that do not count, and whose trail can be found all the
	// same: an API may look where nobody expects it to.
	others []presented
}

// presents finds the credential of a call. The Authorization header says who
// acts, and so do the places that the site names; an API key says only for
// which project, so it comes last and is at odds with nothing.
func (c *Call) presents() presented {
	var p presented
	found := false
	take := func(o presented, rival bool) {
		switch {
		case o.token == "":
		case !found:
			o.several, o.others = p.several, p.others
			p, found = o, true
		case o.token == p.token:
		default:
			p.several = p.several || rival
			if len(p.others) < maxOthers {
				p.others = append(p.others, o)
			}
		}
	}
	if c.Authorization != "" {
		take(readAuthorization(c.Authorization), true)
	}
	for i := range c.Others {
		o := &c.Others[i]
		take(readPlace(o), true)
		p.several = p.several || o.Repeated
	}
	hasKey := c.APIKey != "" && !found
	if c.APIKey != "" {
		take(presented{token: bare(c.APIKey), header: "Apikey", value: c.APIKey}, false)
	}
	p.several = p.several || c.SeveralCredentials && (c.Authorization != "" || hasKey)
	for _, value := range c.Rest {
		take(readAuthorization(value), false)
	}
	return p
}

// readAuthorization reads the value of an Authorization header: a token behind
// whatever scheme, or without any, or a user name and a password. Servers take
// spaces and tabs alike.
func readAuthorization(h string) presented {
	p := presented{token: strings.Trim(h, " \t"), header: "Authorization", value: h}
	at := strings.IndexAny(p.token, " \t")
	if at < 0 {
		return p
	}
	scheme, rest := p.token[:at], strings.Trim(p.token[at:], " \t")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		p.token = rest
	case strings.EqualFold(scheme, "Basic"):
		p.form = formScheme
		if pair, ok := decodeBasic(rest); ok && strings.Contains(pair, ":") {
			p.form, p.token = formBasic, pair
		}
	case strings.ContainsAny(strings.TrimRight(rest, "="), " \t,\"="):
		p.form = formScheme // parameters, as those of Digest
	default:
		p.token = rest
	}
	return p
}

// readPlace reads what stands at a place of the site's.
func readPlace(c *Credential) presented {
	p := presented{token: bare(c.Value), value: c.Value, place: c.Place}
	switch c.Place.Kind {
	case PlaceHeader:
		p.header = c.Place.Name
	case PlaceCookie:
		p.token = bare(unescapeAny(c.Value)) // as most servers read cookies
	}
	return p
}

// bare takes the scheme of a bearer token away, which some clients write
// wherever they put one.
func bare(value string) string {
	value = strings.Trim(value, " \t")
	if at := strings.IndexAny(value, " \t"); at > 0 && strings.EqualFold(value[:at], "Bearer") {
		value = strings.Trim(value[at:], " \t")
	}
	return value
}

// decodeBasic takes any base64, as servers do.
func decodeBasic(encoded string) (pair string, ok bool) {
	plain := strings.TrimRight(encoded, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := encoding.DecodeString(plain); err == nil {
			return string(b), true
		}
	}
	return "", false
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
