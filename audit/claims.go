package audit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// maxMethods bounds the authentication methods that an entry lists.
	maxMethods = 8
	// maxClaimDepth bounds the path to a claim.
	maxClaimDepth = 8
)

// Issuer makes the tokens that are believed. It never changes and is safe for
// concurrent use.
type Issuer struct {
	url       string
	audiences []string
	paths     map[string][]string
}

// NewIssuer describes an issuer by its exact iss. Its tokens must name one of
// the audiences, if there are any. The claims say which claim fills which field
// of the actor, over what the platform says; see Platform.Claims.
func NewIssuer(url string, audiences []string, p *Platform, claims map[string]string) (*Issuer, error) {
	if url == "" {
		return nil, errors.New("it has no name: give it the iss of its tokens")
	}
	i := &Issuer{url: url, audiences: slices.Clone(audiences), paths: map[string][]string{}}
	for _, from := range []map[string]string{p.Claims, claims} {
		for field, path := range from {
			parts, err := CheckClaim(field, path)
			if err != nil {
				return nil, err
			}
			i.paths[field] = parts
		}
	}
	return i, nil
}

// claimSetters put a claim into the actor's field of that name. A claim of
// another type than the field's is not a fact.
var claimSetters = map[string]func(r recorder, a *Actor, claim any){
	"user_id":      func(r recorder, a *Actor, c any) { a.UserID = r.claim("actor.user_id", c) },
	"email":        func(r recorder, a *Actor, c any) { a.Email = r.claim("actor.email", c) },
	"session_id":   func(r recorder, a *Actor, c any) { a.SessionID = r.claim("actor.session_id", c) },
	"aal":          func(r recorder, a *Actor, c any) { a.AAL = r.claim("actor.aal", c) },
	"amr":          func(r recorder, a *Actor, c any) { a.AMR = r.methods(c) },
	"jwt_role":     func(r recorder, a *Actor, c any) { a.JWTRole = r.claim("actor.jwt_role", c) },
	"oauth_app_id": func(r recorder, a *Actor, c any) { a.OAuthAppID = r.claim("actor.oauth_app_id", c) },
	"anonymous":    func(_ recorder, a *Actor, c any) { a.Anonymous, _ = c.(bool) },
}

// ClaimFields are the fields of the actor whose claims can be named.
func ClaimFields() []string { return slices.Sorted(maps.Keys(claimSetters)) }

// CheckClaim reads the path of a claim: names joined by dots, where \. is a dot
// in a name.
func CheckClaim(field, path string) ([]string, error) {
	if claimSetters[field] == nil {
		return nil, fmt.Errorf("claim %s: the actor has no such field: choose one of %s", field, strings.Join(ClaimFields(), ", "))
	}
	const escaped = "\x00"
	parts := strings.Split(strings.ReplaceAll(path, `\.`, escaped), ".")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], escaped, ".")
	}
	if slices.Contains(parts, "") || len(parts) > maxClaimDepth {
		return nil, fmt.Errorf(`claim %s: %q is not a path of up to %d names: write it as in app_metadata.uid, with \. for a dot in a name`,
			field, path, maxClaimDepth)
	}
	if parts[0] == "user_metadata" || parts[0] == "raw_user_meta_data" {
		return nil, fmt.Errorf("claim %s: users write their %s themselves, so it tells nothing about them: have the issuer put it into app_metadata", field, parts[0])
	}
	return parts, nil
}

// Identity is what a verified token says about who acts, in the form of an
// entry. It never changes and is safe for concurrent use.
type Identity struct {
	until time.Time
	actor Actor
	cut   map[string]int
}

// Holds reports whether the token has not expired by then.
func (i *Identity) Holds(now time.Time) bool { return !now.After(i.until) }

// Until is when the token expires, with the leeway.
func (i *Identity) Until() time.Time { return i.until }

// identity makes facts of verified claims.
func (i *Issuer) identity(subject string, claims map[string]any, until time.Time) *Identity {
	r := recorder{new(Entry)}
	a := Actor{
		TokenType: TokenJWT, Verification: VerificationSignature,
		JWTIssuer: r.text("actor.jwt_issuer", i.url), JWTSubject: r.text("actor.jwt_subject", subject),
	}
	role, _ := claims["role"].(string)
	if t := keyType(subject, role); t != "" {
		a.TokenType = t
	}
	var unproven any
	for field, path := range i.paths {
		claim := lookUp(claims, path)
		if field == "email" && isUnproven(claims) {
			unproven, claim = claim, nil
		}
		claimSetters[field](r, &a, claim)
	}
	claimed := Claimed{Email: r.claim("actor.claimed.email", unproven)}
	if a.TokenType != TokenJWT {
		claimed.Project = r.claim("actor.claimed.ref", claims["ref"])
	}
	if claimed != (Claimed{}) {
		a.Claimed = &claimed
	}
	return &Identity{until: until, actor: a, cut: r.e.Cut}
}

// isUnproven reports whether the issuer itself says that it did not check the
// email: then whoever signed up chose it.
func isUnproven(claims map[string]any) bool {
	verified, stated := claims["email_verified"]
	return stated && verified != true && verified != "true"
}

func lookUp(claims map[string]any, path []string) any {
	var at any = claims
	for _, name := range path {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[name]
	}
	return at
}

func (r recorder) claim(field string, claim any) string {
	s, _ := claim.(string)
	return r.text(field, s)
}

// methods reads the amr claim in both forms: a list of names, as RFC 8176 has
// it, or of objects with a method and its time.
func (r recorder) methods(claim any) []string {
	list, _ := claim.([]any)
	if len(list) > maxMethods {
		r.cut("actor.amr", len(list))
		list = list[:maxMethods]
	}
	var methods []string
	for _, item := range list {
		if object, ok := item.(map[string]any); ok {
			item = object["method"]
		}
		if s := r.claim("actor.amr", item); s != "" {
			methods = append(methods, s)
		}
	}
	return methods
}
