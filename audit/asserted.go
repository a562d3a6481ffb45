package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// assertable are the entry's fields that the API may assert, by the name that a
// configuration gives them.
var assertable = map[string]func(e *Entry) *string{
	"user_id":        func(e *Entry) *string { return &e.Actor.UserID },
	"email":          func(e *Entry) *string { return &e.Actor.Email },
	"session_id":     func(e *Entry) *string { return &e.Actor.SessionID },
	"jwt_role":       func(e *Entry) *string { return &e.Actor.JWTRole },
	"oauth_app_id":   func(e *Entry) *string { return &e.Actor.OAuthAppID },
	"oauth_app_name": func(e *Entry) *string { return &e.Actor.OAuthAppName },
	"token_scope":    func(e *Entry) *string { return &e.Actor.TokenScope },
	"on_behalf_of":   func(e *Entry) *string { return &e.Actor.OnBehalfOf },
}

// The fields of the organization, which are believed together.
const (
	assertOrganizationID   = "organization_id"
	assertOrganizationSlug = "organization_slug"
	assertOrganizationPlan = "organization_plan"
)

// The fields whose values are one of few words.
const (
	assertTokenType = "token_type"
	assertKind      = "kind"
)

// AssertableFields are the fields that the API may assert.
func AssertableFields() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(assertable)), assertTokenType, assertKind,
		assertOrganizationID, assertOrganizationSlug, assertOrganizationPlan)))
}

// CheckAssertable looks at the name of a field.
func CheckAssertable(field string) error {
	if !slices.Contains(AssertableFields(), field) {
		return fmt.Errorf("the API cannot assert %q: choose one of %s", field, strings.Join(AssertableFields(), ", "))
	}
	return nil
}

// Assert takes what the API itself says in its answer about who acted, by field.
// An empty value says nothing.
//
// It fills in what is not known yet and never replaces what a signature or a
// service proves. Beside such a proof it adds to a person only if it names the
// same user; if it names another one, that stands in AssertedUserID, nothing else of it is
// taken, and VerificationReason says so. p knows the site's own credentials; nil
// has none.
func (e *Entry) Assert(p *Platform, fields map[string]string) {
	r := recorder{e, p}
	user := r.text("actor.user_id", fields["user_id"])
	proved := e.Actor.Verification == VerificationSignature || e.Actor.Verification == VerificationIntrospection
	if proved && user != "" && user != e.Actor.UserID {
		e.Actor.VerificationReason, e.Actor.AssertedUserID = ReasonAssertedOther, user
		return
	}
	e.assertOrganization(r, fields)
	for field, value := range fields {
		if proved && user == "" {
			continue
		}
		if at := assertable[field]; at != nil && value != "" && *at(e) == "" {
			*at(e) = r.text("actor."+field, value)
		}
	}
	if proved {
		return
	}
	if t := TokenType(fields[assertTokenType]); typeForm.MatchString(string(t)) && len(t) <= maxTypeName {
		e.Actor.TokenType = t
	}
	switch k := ActorKind(fields[assertKind]); k {
	case ActorPerson, ActorService, ActorAnonymous:
		e.Actor.Kind = k
	}
	if e.Actor.UserID != "" || e.Actor.Email != "" || e.Actor.Kind == ActorService {
		e.Actor.Verification = VerificationAsserted
	}
}

// assertOrganization takes whose the call is, and which plan that has. An API that names
// another organization than the entry has by its id, because a token is another one's,
// says nothing: half of each would be nobody's.
func (e *Entry) assertOrganization(r recorder, fields map[string]string) {
	id, slug := r.text("organization_id", fields[assertOrganizationID]), r.text("organization_slug", fields[assertOrganizationSlug])
	if e.OrganizationID != "" && (id != "" && id != e.OrganizationID || slug != "" && e.OrganizationSlug != "" && slug != e.OrganizationSlug) {
		return
	}
	if e.OrganizationID == "" {
		e.OrganizationID = id
	}
	if e.OrganizationSlug == "" {
		e.OrganizationSlug = slug
	}
	if e.OrganizationPlan == "" {
		e.OrganizationPlan = r.text("organization_plan", fields[assertOrganizationPlan])
	}
}
