// Package access is the viewer's Gate: who a visitor is, by the same means as the sidecar
// knows callers, and whose log they may read, by what their verified credential says or by
// asking the platform's API with it. It knows no Caddy.
package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/viewer"
)

// Options are what a Gate needs. Identify must be set, and Ask or Claim, or nobody but
// operators gets in.
type Options struct {
	// Identify is who makes a request, which presents its credential in the Authorization
	// header. It may wait for a service that knows.
	Identify func(r *http.Request) (*audit.Caller, error)
	// Cookie is the name of the cookie that has a session's token. Default: none.
	Cookie string
	// Ask is the API that says whether somebody is a member; nil asks nobody.
	Ask *Ask
	// Claim takes a verified credential's organization for one that its bearer is a member
	// of.
	Claim bool
	// Operators are those who may read every organization's log.
	Operators Operators
	// SlugsStay says that a slug is never given to another organization. Then entries of
	// which nothing but a slug is known are the organization's that has the slug now, also
	// where its id is known. It may be nil, which means no.
	SlugsStay func() bool
	// Plan is an organization's plan by its id or slug, where nobody else says so. It may
	// be nil.
	Plan func(organization string) (plan string, ok bool)
}

// Operators are verified actors, by what is known of them. The values of a field are
// alternatives, and so are the fields.
type Operators struct {
	UserIDs, Emails, Roles []string
}

func (o *Operators) has(a *audit.Actor) bool {
	is := func(values []string, v string) bool { return v != "" && slices.Contains(values, v) }
	return a.IsVerified() && (is(o.UserIDs, a.UserID) || is(o.Emails, a.Email) || is(o.Roles, a.JWTRole))
}

// Gate implements viewer.Gate.
type Gate struct {
	o Options
	// answers are what the API says of those whom we have verified, and strangers of all
	// others: these may make up as many credentials as they like, and must not shut anybody
	// else out by that.
	answers, strangers *answers
}

// New makes a Gate.
func New(o Options) (*Gate, error) {
	if o.Identify == nil {
		return nil, errors.New("making a gate: it has nothing to identify visitors by")
	}
	if o.Plan == nil {
		o.Plan = func(string) (string, bool) { return "", false }
	}
	if o.SlugsStay == nil {
		o.SlugsStay = func() bool { return false }
	}
	g := &Gate{o: o}
	if o.Ask != nil {
		if err := o.Ask.prepare(); err != nil {
			return nil, err
		}
		g.answers, g.strangers = newAnswers(o.Ask), newAnswers(o.Ask)
	}
	return g, nil
}

// credential is a visitor's own, which the API is asked with.
type credential struct {
	authorization string
	sum           [sha256.Size]byte
	caller        *audit.Caller
}

// String keeps it out of logs.
func (*credential) String() string { return "credential" }

// GoString keeps it out of %#v too.
func (*credential) GoString() string { return "credential" }

// Visitor implements viewer.Gate. Only a credential in the Authorization header or in the
// cookie counts, and not one in a URL, which is logged and remembered everywhere.
func (g *Gate) Visitor(r *http.Request) (*viewer.Visitor, error) {
	authorization, err := g.authorization(r)
	if err != nil {
		return nil, err
	}
	asked := r.Clone(r.Context())
	asked.Header.Set("Authorization", authorization)
	asked.Header.Del("Cookie")
	caller, err := g.o.Identify(asked)
	if err != nil {
		return nil, err
	}
	a := &caller.Actor
	switch {
	case a.IsVerified():
	case g.o.Ask != nil && a.TokenType != audit.TokenNone && (a.VerificationReason == "" || a.VerificationReason == audit.ReasonLookupFailed):
		// Nothing here can tell whose it is, and the API will say whether it is any good.
	default:
		return nil, viewer.ErrNoVisitor
	}
	return &viewer.Visitor{
		Actor: *a, Until: caller.Until, Name: nameOf(a),
		Credential: &credential{authorization, sha256.Sum256([]byte(authorization)), caller},
	}, nil
}

func nameOf(a *audit.Actor) string {
	for _, name := range []string{a.Email, a.OAuthAppName, a.UserID, a.JWTSubject, a.TokenAlias} {
		if name != "" {
			return name
		}
	}
	return string(a.TokenType)
}

func (g *Gate) authorization(r *http.Request) (string, error) {
	switch values := r.Header["Authorization"]; {
	case len(values) > 1:
		return "", viewer.ErrNoVisitor // nobody knows which of them counts
	case len(values) == 1 && values[0] != "":
		return values[0], nil
	}
	if g.o.Cookie == "" {
		return "", viewer.ErrNoVisitor
	}
	cookies := r.CookiesNamed(g.o.Cookie)
	if len(cookies) != 1 || cookies[0].Value == "" {
		return "", viewer.ErrNoVisitor
	}
	return "Bearer " + cookies[0].Value, nil
}

// isSlug reports whether a text can name an organization in a URL.
func isSlug(s string) bool {
	return s != "" && len(s) <= 128 && s != "." && s != ".." && strings.IndexFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsPrint(r) || r == '/' || r == '\\' || r == '%' || r == '?' || r == '#'
	}) < 0
}

// Grant implements viewer.Gate.
func (g *Gate) Grant(ctx context.Context, v *viewer.Visitor, slug string) (*viewer.Grant, error) {
	c, ok := v.Credential.(*credential)
	if !ok {
		return nil, viewer.ErrNoVisitor
	}
	if !isSlug(slug) {
		return nil, viewer.ErrNoPermission
	}
	if g.o.Operators.has(&v.Actor) {
		return g.operator(ctx, c, slug), nil
	}
	if id, own := c.caller.OrganizationID, c.caller.OrganizationSlug; g.o.Claim && v.Actor.IsVerified() && (slug == own || slug == id) {
		return g.granted(&viewer.Grant{ID: id, Slug: cmp.Or(own, slug), Plan: c.caller.OrganizationPlan}), nil
	}
	if g.answers == nil {
		return nil, viewer.ErrNoPermission
	}
	o, err := g.asked(&v.Actor).of(ctx, c, slug)
	if err != nil {
		return nil, err
	}
	if len(g.o.Ask.Roles) > 0 && !slices.Contains(g.o.Ask.Roles, o.role) {
		return nil, viewer.ErrNoPermission
	}
	if !v.Actor.IsVerified() {
		v.Actor.Verification = audit.VerificationAccepted
	}
	return g.granted(&viewer.Grant{ID: o.id, Slug: cmp.Or(o.slug, slug), Name: o.name, Plan: o.plan}), nil
}

func (g *Gate) asked(a *audit.Actor) *answers {
	if a.IsVerified() {
		return g.answers
	}
	return g.strangers
}

// granted adds whose entries it is about, and the plan where it is not known.
func (g *Gate) granted(to *viewer.Grant) *viewer.Grant {
	if to.ID != "" {
		to.Owners = append(to.Owners, audit.OwnerByID(to.ID))
	}
	if to.ID == "" || g.o.SlugsStay() {
		to.Owners = append(to.Owners, audit.OwnerBySlug(to.Slug))
	}
	for _, name := range []string{to.ID, to.Slug} {
		if plan, ok := g.o.Plan(name); to.Plan == "" && ok && name != "" {
			to.Plan = plan
		}
	}
	return to
}

// operator is what an operator reads: the entries of whoever is called so, by id or by
// slug, whether or not the API knows them.
func (g *Gate) operator(ctx context.Context, c *credential, slug string) *viewer.Grant {
	to := &viewer.Grant{Slug: slug, Operator: true, Owners: []audit.Owner{audit.OwnerByID(slug), audit.OwnerBySlug(slug)}}
	if g.answers == nil {
		return to
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	o, err := g.answers.of(ctx, c, slug)
	if err != nil {
		return to // they may read it all the same
	}
	to.Name, to.Plan = o.name, o.plan
	to.ID = o.id
	for _, owner := range []audit.Owner{audit.OwnerByID(o.id), audit.OwnerBySlug(o.slug)} {
		if owner != "" && !slices.Contains(to.Owners, owner) {
			to.Owners = append(to.Owners, owner)
		}
	}
	return to
}
