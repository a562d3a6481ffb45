package audit

import (
	"cmp"
	"strings"
)

// actor fills in who did it, as far as somebody vouches for it, and takes that
// out of unmapped. The class requires an actor: a call of which nothing is known
// has the app "unknown".
func (v *ocsfEvent) actor(e *Entry) {
	a, u := &e.Actor, &v.Unmapped.Actor
	if e.IsEvent() {
		v.Actor.AppName = ocsfProduct
	}
	if a.IsVerified() {
		v.verifiedActor(a, u)
	}
	if a.TokenHash != "" {
		// Which credential it was is a fact whoever holds it.
		v.Actor.Session.CredentialUID, u.TokenHash = a.TokenHash, ""
	}
	if v.Actor == (ocsfActor{}) || v.Actor == (ocsfActor{IDP: v.Actor.IDP}) {
		v.Actor.AppName = ocsfUnknown
	}
}

// IsVerified reports whether somebody vouches for who the actor is.
func (a *Actor) IsVerified() bool {
	switch a.Verification {
	case VerificationSignature, VerificationIntrospection, VerificationAsserted:
		return true
	default:
		return false
	}
}

func (v *ocsfEvent) verifiedActor(a, u *Actor) {
	if user := ocsfUserOf(a); user != (ocsfUser{}) {
		v.Actor.User = user
		u.UserID, u.JWTSubject = "", ""
		if user.Email != "" {
			u.Email = ""
			v.Observables = append(v.Observables, ocsfObservable{"actor.user.email_addr", ocsfObservedEmail, "Email Address", user.Email})
		}
	}
	v.Actor.AppUID, u.OAuthAppID = a.OAuthAppID, ""
	v.Actor.AppName, u.OAuthAppName = cmp.Or(a.OAuthAppName, v.Actor.AppName), ""
	v.Actor.Session.UID, u.SessionID = a.SessionID, ""
	v.Actor.Session.IsMFA = ocsfMFA(a.AAL)
	if a.JWTIssuer != "" {
		v.Actor.IDP, u.JWTIssuer = ocsfIDP{UID: a.JWTIssuer, Issuer: a.JWTIssuer}, ""
	}
}

// ocsfUserOf is the user that a verified actor is, and the zero value if it is
// none. OCSF names every user: by the id, a service by its subject, and who has
// neither by the email address.
func ocsfUserOf(a *Actor) ocsfUser {
	user := ocsfUser{UID: a.UserID, UIDAlt: a.JWTSubject}
	if user.UID == "" && a.Kind == ActorService {
		user.UID, user.UIDAlt = a.JWTSubject, ""
	}
	if user.UIDAlt == user.UID {
		user.UIDAlt = ""
	}
	if ocsfEmail(a.Email) {
		user.Email = a.Email
	}
	if user.UID == "" {
		if user.Email == "" {
			return ocsfUser{}
		}
		user.Name = user.Email
	}
	switch a.Kind {
	case ActorPerson:
		user.TypeID, user.Type = 1, "User"
	case ActorService:
		user.TypeID, user.Type = 4, "Service"
	case "":
		user.TypeID, user.Type = 0, "Unknown"
	default:
		user.TypeID, user.Type = 99, string(a.Kind)
	}
	return user
}

// ocsfMFA says whether a session's assurance level means more than one factor;
// nil is unknown.
func ocsfMFA(aal string) *bool {
	var is bool
	switch aal {
	case "aal1":
	case "aal2", "aal3":
		is = true
	default:
		return nil
	}
	return &is
}

// ocsfTokenOf is the credential that the call presented.
func ocsfTokenOf(a *Actor) ocsfToken {
	t := ocsfToken{UID: a.TokenHash}
	switch a.TokenType {
	case TokenV0, TokenV1, TokenScopedPAT, TokenAnon, TokenServiceRole, TokenPublishable, TokenSecret:
		t.TypeID, t.Type = 7, "API Token"
	case TokenUnknown:
		t.TypeID, t.Type = 0, "Unknown"
	default:
		t.TypeID, t.Type = 99, string(a.TokenType)
	}
	return t
}

// ocsfEmail reports whether a text is an email address as OCSF takes one: ASCII
// only, with a dot in the domain. Others stay in unmapped.
func ocsfEmail(s string) bool {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 {
		return false
	}
	local, domain := s[:at], s[at+1:]
	label, rest, _ := strings.Cut(domain, ".")
	return label != "" && rest != "" && ocsfOnly(local, "!#$%&'*+,-./=?^_`{|}~") && ocsfOnly(label, "-") && ocsfOnly(rest, "-.")
}

// ocsfOnly reports whether a text is ASCII letters, digits and the others.
func ocsfOnly(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		if lower := c | 0x20; (c < '0' || c > '9') && (lower < 'a' || lower > 'z') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
