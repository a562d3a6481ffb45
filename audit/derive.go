package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Call is a request as it arrived, before any handler could change it. Its
// strings are the client's own and unbounded; it holds credentials and must
// never be logged or stored.
type Call struct {
	Arrived time.Time
	Method  string
	Host    string
	// Path is the escaped path without its query.
	Path string
	// Authorization and APIKey are the headers of these names.
	Authorization string
	APIKey        string
	// SeveralCredentials says that the header that counts stands there more
	// than once. The first is ours; the API may read another one.
	SeveralCredentials bool
	UserAgent          string
	TraceParent        string
	// RequestID is the proxy's own id of the request.
	RequestID string
	// ClientIP is the client's address by the proxies that the configuration
	// trusts, PeerIP the socket's; Forwarded says that the first came from a
	// header.
	ClientIP, PeerIP string
	Forwarded        bool
	// Upgrade says that the client asks for another protocol, MethodOverride
	// that a header names another method than the request line.
	Upgrade, MethodOverride bool
	// Bytes is the announced length of the body; negative is unknown.
	Bytes int64
}

// Deriver makes entries of calls. It never changes and is safe for concurrent
// use.
type Deriver struct {
	Platform *Platform
	Key      *TokenKey
	// Verifier verifies JWTs; without one nothing is verified.
	Verifier Verifier
	// ConfigHash goes into each entry's policy.
	ConfigHash string
}

// NewID makes an entry's id, a UUIDv7.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// Intent is the entry of a call that has arrived: all that is known before the
// API answers, with outcome unknown. Changing says that the call may have an
// effect.
func (d *Deriver) Intent(c *Call) (e *Entry, changing bool) {
	e = &Entry{
		ID: NewID(), Revision: RevisionUnknown, Timestamp: c.Arrived.UnixMicro(), RecordedAt: c.Arrived.UnixMicro(),
		Outcome: OutcomeUnknown, SchemaVersion: SchemaVersion,
		Policy: Policy{Rule: "default", Level: LevelMetadata, ConfigHash: d.ConfigHash},
	}
	r := recorder{e}
	e.RequestID = r.text("request_id", c.RequestID)
	e.TraceID = traceID(c.TraceParent)
	if c.Bytes >= 0 {
		e.RequestBytes = &c.Bytes
	}
	changing = d.action(e, c)
	e.Actor = d.actor(r, c)
	e.Policy.Durability = DurabilityAnswer
	if changing {
		e.Policy.Durability = DurabilityStrict
	}
	return e, changing
}

// action fills in what the call asks for, and reports whether it may change
// something.
func (d *Deriver) action(e *Entry, c *Call) (changing bool) {
	r := recorder{e}
	e.Action.Method = r.text("action.method", c.Method)
	e.Action.Host = r.text("action.host", c.Host)
	changing = c.Upgrade || c.MethodOverride || !reads(c.Method)
	var m Match
	if d.Platform.Catalog.Match(c.Method, c.Path, &m) {
		op := m.Operation
		changing = changing || op.Changing
		e.Action.Code, e.Action.Name, e.Action.Route = op.Code, op.Name, op.Template
		e.Action.Params = m.Params()
		for name, value := range e.Action.Params {
			e.Action.Params[name] = r.text("action.params."+name, value)
		}
		e.OrganizationSlug = r.text("organization_slug", m.Organization())
		e.ProjectRef = r.text("project_ref", m.Project())
		e.Target = m.Target()
	} else {
		e.Action.Route, e.Target = d.Platform.Guess(c.Path)
	}
	if e.Target != nil {
		e.Target.ID = r.text("target.id", e.Target.ID)
		e.Target.Parent = r.text("target.parent", e.Target.Parent)
	}
	e.Action.Path = r.path(d.Platform.Catalog.RedactPath(c.Path, &m))
	return changing
}

// path records a path whose segments are looked at one by one, so that one
// credential does not hide the rest.
func (r recorder) path(p string) string {
	n := len(p)
	p = p[:min(n, 2*maxLong)]
	if looksSecret(p) {
		parts := strings.Split(p, "/")
		if n > 2*maxLong {
			parts = parts[:len(parts)-1] // half a segment may be half a credential
		}
		for i, part := range parts {
			if looksSecret(part) {
				parts[i] = redactedParam
			}
		}
		p = strings.Join(parts, "/")
	}
	p = r.long("action.path", p)
	if n > 2*maxLong {
		r.cut("action.path", n)
	}
	return p
}

// RedactURI is a request's path and query as they may stand in a log: without
// the values of the query, and with credentials in the path redacted.
func (p *Platform) RedactURI(uri string) string {
	path, query, _ := strings.Cut(uri, "?")
	var m Match
	p.Catalog.Match("GET", path, &m)
	path = recorder{new(Entry)}.path(p.Catalog.RedactPath(path, &m))
	if query != "" {
		path += "?" + redactedParam
	}
	return path
}

// reads reports whether a method only reads, by the HTTP standard.
func reads(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS"
}

// Identify is who calls: the actor of the call's entry by itself.
func (d *Deriver) Identify(c *Call) Actor { return d.actor(recorder{new(Entry)}, c) }

func (d *Deriver) actor(r recorder, c *Call) Actor {
	a := d.identify(r, c)
	a.IP, a.PeerIP = r.text("actor.ip", c.ClientIP), r.text("actor.peer_ip", c.PeerIP)
	a.UserAgent = r.text("actor.user_agent", c.UserAgent)
	if a.IP != "" {
		a.IPSource = IPPeer
		if c.Forwarded {
			a.IPSource = IPForwarded
		}
	}
	return a
}

// identify says who calls by what the call presents. An identity that has been
// verified before is found without a look into the token.
func (d *Deriver) identify(r recorder, c *Call) Actor {
	token, opaque := presented(c)
	var why Reason
	switch {
	case c.SeveralCredentials:
		why = ReasonSeveralCredentials
	case d.Verifier != nil && !opaque && mayBeJWT(token):
		var id *Identity
		sum := sha256.Sum256([]byte(token))
		if id, why = d.Verifier.Identify(sum, token, c.Arrived); id != nil {
			for field, n := range id.cut {
				r.cut(field, n)
			}
			a := id.actor
			a.TokenHash = hex.EncodeToString(sum[:]) // as TokenKey.Hash has it
			return a
		}
	}
	cred := d.Platform.credentialOf(c)
	if why == "" && d.Verifier != nil && cred.isJWT() {
		why = ReasonMalformed // we read it more strictly than whoever made it
	}
	a := Actor{TokenType: cred.kind, TokenAlias: cred.alias, Verification: VerificationNone, VerificationReason: why}
	if cred.token != "" {
		a.TokenHash = d.Key.Hash(cred.token, cred.recognised)
	}
	if cred.kind == TokenJWT && cred.claimed == nil {
		r.cut("actor.claimed", len(cred.token))
	}
	if cl := cred.claimed; cl != nil {
		if claimed := (Claimed{
			Subject: r.text("actor.claimed.sub", cl.Subject), Email: r.text("actor.claimed.email", cl.Email),
			SessionID: r.text("actor.claimed.session_id", cl.SessionID), Role: r.text("actor.claimed.role", cl.Role),
			Issuer: r.text("actor.claimed.iss", cl.Issuer), ClientID: r.text("actor.claimed.client_id", cl.ClientID),
			AAL: r.text("actor.claimed.aal", cl.AAL), Project: r.text("actor.claimed.ref", cl.Project),
		}); claimed != (Claimed{}) {
			a.Claimed = &claimed
		}
	}
	return a
}

// traceID reads the W3C traceparent header, version-traceid-parentid-flags;
// what does not follow the standard gives none.
func traceID(h string) string {
	if len(h) < 55 || h[2] != '-' || h[35] != '-' {
		return ""
	}
	id := h[3:35]
	if strings.Trim(id, hexDigits) != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

// Answer is what became of a call.
type Answer struct {
	// At is when it was known.
	At     time.Time
	Status int
	Source StatusSource
	// RequestID is the X-Request-Id of the API's answer.
	RequestID string
	// Bytes is the length of the body, announced or sent; negative is unknown.
	Bytes int64
	// ClientGone says that the client left before its answer was complete, and
	// Changing that the call may have had an effect all the same.
	ClientGone, Changing bool
}

// Answered makes the entry's next revision. The intent's own is kept for the
// facts that do not change; e is not shared with any other goroutine.
func (e *Entry) Answered(a Answer) {
	e.Revision = max(e.Revision+1, RevisionAnswer)
	e.RecordedAt = a.At.UnixMicro()
	e.DurationUS = max(1, e.RecordedAt-e.Timestamp)
	e.Action.Status, e.Action.StatusSource = a.Status, a.Source
	if a.RequestID != "" {
		e.RequestID = recorder{e}.text("request_id", a.RequestID)
	}
	e.ResponseBytes = nil
	if a.Bytes >= 0 {
		e.ResponseBytes = &a.Bytes
	}
	e.ClientGone = a.ClientGone
	e.Outcome = OutcomeOf(a.Status)
	if a.ClientGone && a.Changing {
		e.Outcome = OutcomeUnknown
	}
}

// Refused makes the revision that says that the call was not let through.
func (e *Entry) Refused(at time.Time, status int) {
	e.Answered(Answer{At: at, Status: status, Source: StatusWritten, Bytes: -1})
	e.Outcome = OutcomeRefused
}

// Pending makes, of an intent's JSON, the revision that says that the call is
// still open; nil if it is no intent.
func Pending(intent []byte, at time.Time) []byte {
	e, err := Decode(intent)
	if err != nil {
		return nil
	}
	e.Revision, e.Outcome, e.RecordedAt = RevisionPending, OutcomePending, at.UnixMicro()
	b, err := e.Encode()
	if err != nil {
		return nil
	}
	return b
}
