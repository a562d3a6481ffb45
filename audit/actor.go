package audit

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// maxNames bounds the names of a certificate that an entry lists.
const maxNames = 4

// Memory tells what has been learned elsewhere about a credential that no
// signature proves.
type Memory interface {
	// Recall returns the identity of a credential that was asked about before,
	// or nil and why there is none. Without either it was never asked about.
	// It must not wait for anything.
	Recall(q *Question) (*Identity, Reason)
}

// Question is what a service elsewhere can be asked: whose a credential is. It
// holds the credential and must never be logged or stored. The zero value asks
// nothing.
type Question struct {
	// Sum identifies the credential as it was presented among others.
	Sum TokenSum
	// Type is what it was taken for.
	Type TokenType
	// Token is its text, and empty where it is none by itself: a user name and a
	// password, or a scheme that nobody described.
	Token string
	// Header and Value are how the call presented it: a header of that name, or
	// the cookie or query parameter of Place.
	Header, Value string
	Place         *Place
}

// Asks reports whether there is anything to ask.
func (q *Question) Asks() bool { return q.Type != "" }

// String keeps the credential out of logs and errors.
func (q Question) String() string { return "question about a credential of type " + string(q.Type) }

// GoString keeps it out of %#v too.
func (q Question) GoString() string { return q.String() }

// Identify is who calls: the actor of the call's entry by itself.
func (d *Deriver) Identify(c *Call) Actor {
	return d.Caller(c).Actor
}

// Caller is who calls, apart from any entry.
type Caller struct {
	Actor Actor
	// OrganizationID, OrganizationSlug and OrganizationPlan are what the verified
	// credential says of its organization.
	OrganizationID, OrganizationSlug, OrganizationPlan string
	// Until is when the verified credential ends; zero if nobody said so.
	Until time.Time
	// Question is what can be asked about the credential, if nothing is known of it.
	Question Question
}

// Caller is who calls, and what their credential says.
func (d *Deriver) Caller(c *Call) *Caller {
	e := new(Entry)
	a, q, until := d.actor(recorder{e, d.Platform}, c)
	return &Caller{a, e.OrganizationID, e.OrganizationSlug, e.OrganizationPlan, until, q}
}

func (d *Deriver) actor(r recorder, c *Call) (Actor, Question, time.Time) {
	a, q, until := d.identify(r, c)
	a.IP, a.PeerIP = r.text("actor.ip", c.ClientIP), r.text("actor.peer_ip", c.PeerIP)
	a.UserAgent = r.text("actor.user_agent", c.UserAgent)
	if a.IP != "" {
		a.IPSource = IPPeer
		if c.Forwarded {
			a.IPSource = IPForwarded
		}
	}
	if c.Certificate != nil {
		a.Certificate = r.certificate(c.Certificate)
	}
	return a, q, until
}

// identify says who calls by what the call presents. An identity that has been
// verified before is found without a look into the token.
func (d *Deriver) identify(r recorder, c *Call) (a Actor, q Question, until time.Time) {
	shown := c.presents()
	if shown.token == "" {
		return Actor{TokenType: TokenNone, Verification: VerificationNone}, q, until
	}
	var why Reason
	switch {
	case shown.several:
		why = ReasonSeveralCredentials
	case d.Verifier != nil && shown.form == formToken && mayBeJWT(shown.token):
		var id *Identity
		sum := sha256.Sum256([]byte(shown.token))
		if id, why = d.Verifier.Identify(sum, shown.token, c.Arrived); id != nil {
			a = id.of(r)
			a.TokenHash = hex.EncodeToString(sum[:]) // as TokenKey.Hash has it
			a.OtherTokenHashes = d.otherHashes(&shown)
			return a, q, id.Until()
		}
	}
	cred := d.Platform.credentialOf(&shown)
	if why == "" && d.Verifier != nil && cred.isJWT() {
		why = ReasonMalformed // we read it more strictly than whoever made it
	}
	a = d.unverified(r, &cred, why)
	a.OtherTokenHashes = d.otherHashes(&shown)
	if d.Memory == nil || shown.several {
		return a, Question{}, until
	}
	q = shown.question(cred.kind)
	id, why := d.Memory.Recall(&q)
	switch {
	case id != nil:
		return a.known(r, id), Question{}, id.Until()
	case why != "":
		if a.VerificationReason == "" {
			a.VerificationReason = why
		}
		return a, Question{}, until
	}
	return a, q, until
}

// unverified is what a credential tells by itself.
func (d *Deriver) unverified(r recorder, cred *credential, why Reason) Actor {
	a := Actor{TokenType: cred.kind, TokenAlias: cred.alias, Verification: VerificationNone, VerificationReason: why}
	a.TokenHash = d.Key.Hash(cred.token, cred.recognised)
	if cred.kind == TokenJWT && cred.claimed == nil {
		r.cut("actor.claimed", len(cred.token))
	}
	if cl := cred.claimed; cl != nil {
		if claimed := (Claimed{
			Subject: r.text("actor.claimed.sub", cl.Subject), Email: r.text("actor.claimed.email", cl.Email),
			SessionID: r.text("actor.claimed.session_id", cl.SessionID), Role: r.text("actor.claimed.role", cl.Role),
			Issuer: r.text("actor.claimed.iss", cl.Issuer), ClientID: r.text("actor.claimed.client_id", cl.ClientID),
			AAL: r.text("actor.claimed.aal", cl.AAL), Project: r.text("actor.claimed.ref", cl.Project),
			Username: r.text("actor.claimed.username", cl.Username),
		}); claimed != (Claimed{}) {
			a.Claimed = &claimed
		}
	}
	return a
}

// otherHashes identify the credentials that the call presents beside the one
// that counts.
func (d *Deriver) otherHashes(shown *presented) (hashes []string) {
	for i := range shown.others {
		cred := d.Platform.credentialOf(&shown.others[i])
		hashes = append(hashes, d.Key.Hash(cred.token, cred.recognised))
	}
	return hashes
}

// question asks about a credential as it was presented: to a service the same
// text in another form may be another credential, or none.
func (p *presented) question(kind TokenType) Question {
	q := Question{Type: kind, Header: p.header, Value: p.value, Place: p.place}
	if p.form == formToken {
		q.Token = p.token
	}
	at := p.header
	if p.place != nil {
		at = string(p.place.Kind) + " " + p.place.Name
	}
	q.Sum = sha256.Sum256([]byte(at + "\x00" + p.value))
	return q
}

// known is the actor once somebody else has said whose its credential is. What
// the credential says about itself stays beside it.
func (a Actor) known(r recorder, id *Identity) Actor {
	facts := id.of(r)
	a.Verification, a.VerificationReason = facts.Verification, ""
	a.Kind, a.UserID, a.Email = facts.Kind, facts.UserID, facts.Email
	a.SessionID, a.AAL, a.AMR, a.JWTRole = facts.SessionID, facts.AAL, facts.AMR, facts.JWTRole
	a.OAuthAppID, a.OAuthAppName, a.TokenScope = facts.OAuthAppID, facts.OAuthAppName, facts.TokenScope
	a.OnBehalfOf = facts.OnBehalfOf
	if facts.Claimed != nil && a.Claimed == nil {
		a.Claimed = facts.Claimed // an email that its own service did not check
	}
	return a
}

// accepted notes that the API let the credential do what requires one. With
// several, nobody knows which it took.
func (a *Actor) accepted() {
	if a.Verification == VerificationNone && a.TokenType != TokenNone && a.VerificationReason != ReasonSeveralCredentials {
		a.Verification = VerificationAccepted
	}
}

// Learned fills in what became known about the credential after the answer: an
// identity, or why there is none. It reports false, and changes nothing, if that
// is no news.
func (e *Entry) Learned(id *Identity, why Reason) bool {
	r := recorder{e: e}
	switch e.Actor.Verification {
	case VerificationSignature, VerificationIntrospection, VerificationAsserted:
		return false
	}
	switch {
	case id != nil:
		e.Actor = e.Actor.known(r, id)
	case why != "" && e.Actor.VerificationReason == "":
		e.Actor.VerificationReason = why
	default:
		return false
	}
	return true
}

// Revised makes the entry's next revision when only what is known about it has
// changed: the call's own end stays when it was.
func (e *Entry) Revised(at time.Time) {
	e.Revision, e.RecordedAt = max(e.Revision+1, RevisionAnswer), at.UnixMicro()
}

func (r recorder) certificate(c *x509.Certificate) *Certificate {
	sum := sha256.Sum256(c.Raw)
	out := &Certificate{
		Subject: r.text("actor.certificate.subject", c.Subject.String()),
		Issuer:  r.text("actor.certificate.issuer", c.Issuer.String()),
		SHA256:  hex.EncodeToString(sum[:]),
	}
	if c.SerialNumber != nil {
		out.Serial = r.text("actor.certificate.serial", c.SerialNumber.Text(16))
	}
	add := func(name string) {
		if len(out.Names) < maxNames {
			out.Names = append(out.Names, r.text("actor.certificate.names", name))
		}
	}
	for _, u := range c.URIs {
		add(u.String())
	}
	for _, name := range c.EmailAddresses {
		add(name)
	}
	for _, name := range c.DNSNames {
		add(name)
	}
	if n := len(c.URIs) + len(c.EmailAddresses) + len(c.DNSNames); n > maxNames {
		r.cut("actor.certificate.names", n)
	}
	return out
}
