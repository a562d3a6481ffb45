package audit

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
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
	claims    claimPaths
	platform  *Platform
}

// NewIssuer describes an issuer by its exact iss. Its tokens must name one of
// the audiences, if there are any. The claims say which claim fills which field
// of the actor, over what the platform says; see Platform.Claims.
func NewIssuer(url string, audiences []string, p *Platform, claims map[string]string) (*Issuer, error) {
	if url == "" {
		return nil, errors.New("it has no name: give it the iss of its tokens")
	}
	paths, err := newClaimPaths(p.Claims, claims)
	if err != nil {
		return nil, err
	}
	return &Issuer{url: url, audiences: slices.Clone(audiences), claims: paths, platform: p}, nil
}

// URL is the iss of its tokens.
func (i *Issuer) URL() string { return i.url }

// claimPaths are the paths of the claims that fill the actor's and the organization's
// fields, by the field's name.
type claimPaths map[string][]string

// newClaimPaths lets later maps override earlier ones.
func newClaimPaths(maps ...map[string]string) (claimPaths, error) {
	paths := claimPaths{}
	for _, from := range maps {
		for field, path := range from {
			parts, err := CheckClaim(field, path)
			if err != nil {
				return nil, err
			}
			paths[field] = parts
		}
	}
	return paths, nil
}

// claimSetters put a claim into the actor's field of that name. A claim of
// another type than the field's is not a fact.
var claimSetters = map[string]func(r recorder, a *Actor, claim any){
	"user_id":        func(r recorder, a *Actor, c any) { a.UserID = r.claim("actor.user_id", c) },
	"email":          func(r recorder, a *Actor, c any) { a.Email = r.claim("actor.email", c) },
	"session_id":     func(r recorder, a *Actor, c any) { a.SessionID = r.claim("actor.session_id", c) },
	"aal":            func(r recorder, a *Actor, c any) { a.AAL = r.claim("actor.aal", c) },
	"amr":            func(r recorder, a *Actor, c any) { a.AMR = r.methods(c) },
	"jwt_role":       func(r recorder, a *Actor, c any) { a.JWTRole = r.claim("actor.jwt_role", c) },
	"oauth_app_id":   func(r recorder, a *Actor, c any) { a.OAuthAppID = r.claim("actor.oauth_app_id", c) },
	"oauth_app_name": func(r recorder, a *Actor, c any) { a.OAuthAppName = r.claim("actor.oauth_app_name", c) },
	"token_scope":    func(r recorder, a *Actor, c any) { a.TokenScope = r.claim("actor.token_scope", c) },
	"anonymous":      func(_ recorder, a *Actor, c any) { a.is(ActorAnonymous, c) },
	"service":        func(_ recorder, a *Actor, c any) { a.is(ActorService, c) },
}

// tenant is the organization that a verified credential was made for, and its plan.
type tenant struct{ id, slug, plan string }

// tenantClaims find the field of a tenant that a claim fills, by the field's name.
var tenantClaims = map[string]func(t *tenant) *string{
	"organization_id":   func(t *tenant) *string { return &t.id },
	"organization_slug": func(t *tenant) *string { return &t.slug },
	"organization_plan": func(t *tenant) *string { return &t.plan },
}

// on fills in the entry's organization where the call names none, nor a project, which
// may be another organization's: whose a token is says nothing of what it is used for. The
// plan is that of the organization, and comes with it only.
func (t tenant) on(e *Entry) bool {
	if t.id == "" && t.slug == "" || e.OrganizationID != "" || e.OrganizationSlug != "" || e.ProjectRef != "" {
		return false
	}
	e.OrganizationID, e.OrganizationSlug, e.OrganizationPlan = t.id, t.slug, t.plan
	return true
}

// is takes a kind from a claim that is true.
func (a *Actor) is(k ActorKind, claim any) {
	if claim == true && a.Kind != ActorAnonymous { // whoever is both is nobody that we know
		a.Kind = k
	}
}

// ClaimFields are the fields of the actor, and of the organization, whose claims can be
// named.
func ClaimFields() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(claimSetters)), slices.Collect(maps.Keys(tenantClaims)))))
}

// CheckClaim reads the path of a claim: names joined by dots, where \. is a dot
// in a name.
func CheckClaim(field, path string) ([]string, error) {
	if claimSetters[field] == nil && tenantClaims[field] == nil {
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
	until  time.Time
	actor  Actor
	tenant tenant
	cut    map[string]int
}

// Until is when the token expires, with the leeway.
func (i *Identity) Until() time.Time { return i.until }

// of is the actor. It fills in the entry's organization, where the call says nothing of
// it, and notes what was cut.
func (i *Identity) of(r recorder) Actor {
	filled := i.tenant.on(r.e)
	for field, n := range i.cut {
		if filled || tenantClaims[field] == nil {
			r.cut(field, n)
		}
	}
	return i.actor
}

// identity makes facts of a JWT's verified claims.
func (i *Issuer) identity(subject string, claims map[string]any, until time.Time) (*Identity, Reason) {
	r := recorder{new(Entry), i.platform}
	a, why := i.claims.actor(r, subject, claims, false)
	if why != "" {
		return nil, why
	}
	a.TokenType, a.Verification = TokenJWT, VerificationSignature
	a.JWTIssuer, a.JWTSubject = r.text("actor.jwt_issuer", i.url), r.text("actor.jwt_subject", subject)
	role, _ := claims["role"].(string)
	if t := keyType(subject, role); t != "" {
		a.TokenType = t
		claimed := Claimed{Project: r.claim("actor.claimed.ref", claims["ref"])}
		if a.Claimed != nil {
			claimed.Email = a.Claimed.Email
		}
		if a.Claimed = nil; claimed != (Claimed{}) {
			a.Claimed = &claimed
		}
		if t == TokenServiceRole {
			a.Kind = ActorService
		}
	}
	return &Identity{until: until, actor: a, tenant: i.claims.tenant(r, claims, false), cut: r.e.Cut}, ""
}

// tenant is what a token or a service says of the organization.
func (p claimPaths) tenant(r recorder, claims map[string]any, numbers bool) (t tenant) {
	for field, at := range tenantClaims {
		if path := p[field]; path != nil {
			*at(&t) = r.claim(field, digits(lookUp(claims, path), numbers))
		}
	}
	return t
}

// digits makes text of a whole number, where numbers count.
func digits(claim any, numbers bool) any {
	if n, ok := claim.(float64); ok && numbers && n == math.Trunc(n) && math.Abs(n) < 1<<53 {
		return strconv.FormatInt(int64(n), 10)
	}
	return claim
}

// actor makes facts of what a token or a service says about who acts. Subject
// is whom its credential was made for; empty if it does not say. With numbers,
// a whole number counts as its digits.
func (p claimPaths) actor(r recorder, subject string, claims map[string]any, numbers bool) (Actor, Reason) {
	var a Actor
	for field, path := range p {
		if tenantClaims[field] != nil {
			continue
		}
		claim := digits(lookUp(claims, path), numbers)
		if field == "email" && isUnproven(lookUp(claims, path[:len(path)-1])) {
			if email := r.claim("actor.claimed.email", claim); email != "" {
				a.Claimed = &Claimed{Email: email}
			}
			continue
		}
		claimSetters[field](r, &a, claim)
	}
	switch {
	case a.Kind != "":
	case isService(subject, claims):
		a.Kind = ActorService
	case a.UserID != "":
		a.Kind = ActorPerson
	}
	if act := claims["act"]; act != nil {
		return a, a.delegate(r, subject, act)
	}
	if a.Kind == ActorService {
		if a.OAuthAppID == "" {
			a.OAuthAppID = r.text("actor.oauth_app_id", subject)
		}
		a.UserID, a.Email = "", "" // nobody is behind it
	}
	return a, ""
}

// delegate reads the act claim of RFC 8693, section 4.1: the one in it acts, and
// the token's own subject is on whose behalf. What the token says about that
// subject is not said about who acts. Those that acted before, which may be
// nested in it, are for information only.
func (a *Actor) delegate(r recorder, subject string, act any) Reason {
	object, _ := act.(map[string]any)
	who, _ := object["sub"].(string)
	if who == "" {
		return ReasonBadClaim // it is delegated, and nobody knows to whom
	}
	if a.OnBehalfOf = a.UserID; a.OnBehalfOf == "" {
		a.OnBehalfOf = r.text("actor.on_behalf_of", subject)
	}
	a.UserID, a.Email, a.Claimed, a.Kind = "", "", nil, ""
	if isService(who, object) {
		a.Kind, a.OAuthAppID = ActorService, r.text("actor.oauth_app_id", who)
		return ""
	}
	a.UserID = r.text("actor.user_id", who)
	if !isUnproven(object) {
		a.Email = r.claim("actor.email", object["email"])
	}
	return ""
}

// isService reports whether a credential is a program's own: its subject is the
// client itself (RFC 9068, section 2.2), or the issuer says so in one of the
// ways that are in use. Where subjects are names that people choose, one may be
// called like a client (RFC 9700, section 4.15), so whoever has a person's claims
// is none.
func isService(subject string, claims map[string]any) bool {
	if subject != "" && (claims["client_id"] == subject || claims["azp"] == subject) {
		for _, personal := range []string{"email", "username", "preferred_username", "name", "phone_number"} {
			if claims[personal] != nil && claims[personal] != "" {
				return false
			}
		}
		return true
	}
	return claims["gty"] == "client-credentials" || claims["idtyp"] == "app"
}

// Account reads what a service says about whose a credential is: the answer of
// RFC 7662, or a profile. It never changes and is safe for concurrent use.
type Account struct {
	claims   claimPaths
	platform *Platform
	// states says that the answer tells whether the credential is valid, by the
	// member active, and whom it was made for, by sub.
	states bool
}

// NewIntrospection reads answers of RFC 7662. The platform knows the site's own
// credentials; nil has none. The claims are over those that it
// registers; see ClaimFields.
func NewIntrospection(p *Platform, claims map[string]string) (*Account, error) {
	paths, err := newClaimPaths(introspectionClaims, claims)
	return &Account{claims: paths, platform: p, states: true}, err
}

// NewProfile reads the profile of whoever the credential belongs to. The claims
// are over id for user_id and email for email.
func NewProfile(p *Platform, claims map[string]string) (*Account, error) {
	paths, err := newClaimPaths(profileClaims, claims)
	return &Account{claims: paths, platform: p}, err
}

// Identity makes facts of an answer, which must be a JSON object. They hold
// until the given time, or until the answer's exp if that is sooner.
func (a *Account) Identity(answer []byte, until time.Time) (*Identity, Reason) {
	claims, why := decodeObject(answer)
	if why != "" {
		return nil, ReasonLookupFailed
	}
	var subject string
	if a.states {
		if active, ok := claims["active"].(bool); !ok {
			return nil, ReasonLookupFailed
		} else if !active {
			return nil, ReasonInactive
		}
		subject, _ = claims["sub"].(string)
		if exp, ok := claims["exp"].(float64); ok && exp < float64(until.Unix()) {
			until = time.Unix(int64(max(exp, 0)), 0)
		}
	}
	r := recorder{new(Entry), a.platform}
	actor, why := a.claims.actor(r, subject, claims, true)
	if why != "" {
		return nil, ReasonLookupFailed
	}
	if actor.UserID == "" && actor.Kind != ActorService {
		return nil, ReasonNobody
	}
	actor.Verification = VerificationIntrospection
	return &Identity{until: until, actor: actor, tenant: a.claims.tenant(r, claims, true), cut: r.e.Cut}, ""
}

// isUnproven reports whether the issuer itself says, beside an email, that it did
// not check it: then whoever signed up chose it.
func isUnproven(beside any) bool {
	object, _ := beside.(map[string]any)
	verified, stated := object["email_verified"]
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
