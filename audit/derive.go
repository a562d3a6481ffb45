package audit

import (
	"crypto/x509"
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
	// SeveralCredentials says that the one of them that counts stands there more
	// than once. The first is ours; the API may read another one.
	SeveralCredentials bool
	// Rest are further values of those two headers and of the site's places,
	// beyond the one that counts.
	Rest []string
	// Others stand at the places that the site names, in its order.
	Others []Credential
	// Certificate is the client's own, whose chain was verified; nil is none.
	Certificate *x509.Certificate
	UserAgent   string
	TraceParent string
	// RequestID is the proxy's own id of the request.
	RequestID string
	// ClientIP is the client's address by the proxies that the configuration
	// trusts, PeerIP the socket's; Forwarded says that the first came from a
	// header.
	ClientIP, PeerIP string
	Forwarded        bool
	// Upgrade says that the client asks for another protocol, MethodOverride
	// that a header names another method than the request line.
	Upgrade bool
	// MethodOverride is another method than that of the request line, which a
	// header names.
	MethodOverride string
	// Bytes is the announced length of the body; negative is unknown.
	Bytes int64
}

// Deriver makes entries of calls. It never changes and is safe for concurrent
// use.
type Deriver struct {
	Platform *Platform
	Key      *TokenKey
	// Verifier verifies JWTs; without one no signature is checked.
	Verifier Verifier
	// Memory knows whose credentials are that no signature proves; nil knows
	// nothing.
	Memory Memory
	// ConfigHash goes into each entry's policy.
	ConfigHash string
}

// NewID makes an entry's id, a UUIDv7.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// Facts are what a call's way depends on and no entry holds.
type Facts struct {
	// Changing says that the call may have an effect.
	Changing bool
	// Operation is what the call asks for, by the catalog; nil if no route
	// matches. It must not be changed.
	Operation *Operation
	// Question is what can be asked about the credential, if nothing is known.
	Question Question
}

// Intent is the entry of a call that has arrived: all that is known before the
// API answers, with outcome unknown.
func (d *Deriver) Intent(c *Call) (e *Entry, facts Facts) {
	e = &Entry{
		ID: NewID(), Revision: RevisionUnknown, Timestamp: c.Arrived.UnixMicro(), RecordedAt: c.Arrived.UnixMicro(),
		Outcome: OutcomeUnknown, SchemaVersion: SchemaVersion,
		Policy: Policy{Rule: "default", Level: LevelMetadata, ConfigHash: d.ConfigHash},
	}
	r := recorder{e, d.Platform}
	e.RequestID = r.text("request_id", c.RequestID)
	e.TraceID = traceID(c.TraceParent)
	if c.Bytes >= 0 {
		e.RequestBytes = &c.Bytes
	}
	facts = d.action(r, e, c)
	e.Actor, facts.Question, _ = d.actor(r, c)
	e.Policy.Durability = DurabilityAnswer
	if facts.Changing {
		e.Policy.Durability = DurabilityStrict
	}
	return e, facts
}

// action fills in what the call asks for.
func (d *Deriver) action(r recorder, e *Entry, c *Call) (facts Facts) {
	e.Action.Method = r.text("action.method", c.Method)
	e.Action.Host = r.text("action.host", c.Host)
	if c.MethodOverride != "" {
		e.Action.Metadata = map[string]any{"method_override": r.text("action.metadata.method_override", c.MethodOverride)}
	}
	facts.Changing = c.Upgrade || c.MethodOverride != "" || !reads(c.Method)
	var m Match
	if d.Platform.Catalog.Match(c.Method, c.Path, &m) {
		op := m.Operation
		facts.Changing = facts.Changing || op.Changing
		facts.Operation = op
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
	return facts
}

// path records a path whose segments are looked at one by one, so that one
// credential does not hide the rest.
func (r recorder) path(p string) string {
	n := len(p)
	p = p[:min(n, 2*maxLong)]
	if r.p.looksSecret(p) {
		parts := strings.Split(p, "/")
		if n > 2*maxLong {
			parts = parts[:len(parts)-1] // half a segment may be half a credential
		}
		for i, part := range parts {
			if r.p.looksSecret(part) {
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
	path = recorder{new(Entry), p}.path(p.Catalog.RedactPath(path, &m))
	if query != "" {
		path += "?" + redactedParam
	}
	return path
}

// reads reports whether a method only reads, by the HTTP standard.
func reads(method string) bool {
	return method == "GET" || method == "HEAD" || method == "OPTIONS"
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
	// Platform knows the site's own credentials; nil has none.
	Platform *Platform
	// RequestID is the X-Request-Id of the API's answer.
	RequestID string
	// Bytes is the length of the body, announced or sent; negative is unknown.
	Bytes int64
	// ClientGone says that the client left before its answer was complete, and
	// Changing that the call may have had an effect all the same.
	ClientGone, Changing bool
	// Secured says that the operation's description requires a credential.
	Secured bool
}

// Answered makes the entry's next revision. The intent's own is kept for the
// facts that do not change; e is not shared with any other goroutine.
func (e *Entry) Answered(a Answer) {
	e.Revision = max(e.Revision+1, RevisionAnswer)
	e.RecordedAt = a.At.UnixMicro()
	e.DurationUS = max(1, e.RecordedAt-e.Timestamp)
	e.Action.Status, e.Action.StatusSource = a.Status, a.Source
	if a.RequestID != "" {
		e.RequestID = recorder{e, a.Platform}.text("request_id", a.RequestID)
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
	if a.Secured && (a.Status == 101 || a.Status >= 200 && a.Status < 300) {
		e.Actor.accepted()
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
