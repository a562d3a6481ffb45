package audit

import (
	"encoding/json"
	"errors"
	"fmt"
)

var errNoID = errors.New("decoding entry: it has no id")

// Decode reads an entry's JSON. Fields that this version does not know are
// ignored. The entry keeps nothing of b, and each of its strings is one of its
// own: whoever keeps one for long does not keep the document.
func Decode(b []byte) (*Entry, error) {
	e := decodeUsual(b)
	if e == nil {
		e = new(Entry)
		if err := json.Unmarshal(b, e); err != nil {
			return nil, fmt.Errorf("decoding entry: %w", err)
		}
	}
	if e.ID == "" {
		return nil, errNoID
	}
	return e, nil
}

// decodeUsual decodes an entry as AppendTo writes it, in one pass; the members may be in
// any order, with space between them. At anything else it gives up, and returns nil: then
// encoding/json says what that is. What both decode is the same.
//
// That holds for names that come twice, too: what is decoded into goes on as it is.
func decodeUsual(b []byte) *Entry {
	d, e := decoder{b: b}, new(Entry)
	d.entry(e)
	if d.peek(); d.i < len(d.b) || d.gaveUp {
		return nil
	}
	return e
}

func (d *decoder) entry(e *Entry) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "id":
			e.ID = d.text()
		case "revision":
			e.Revision = d.int()
		case "request_id":
			e.RequestID = d.text()
		case "trace_id":
			e.TraceID = d.text()
		case "timestamp":
			e.Timestamp = d.int64()
		case "recorded_at":
			e.RecordedAt = d.int64()
		case "duration_us":
			e.DurationUS = d.int64()
		case "organization_id":
			e.OrganizationID = d.text()
		case "organization_slug":
			e.OrganizationSlug = d.text()
		case "organization_plan":
			e.OrganizationPlan = d.text()
		case "project_ref":
			e.ProjectRef = d.text()
		case "action":
			d.action(&e.Action)
		case "actor":
			d.actor(&e.Actor)
		case "target":
			d.target(made(&e.Target))
		case "outcome":
			e.Outcome = oneOf(d, OutcomeSuccess, OutcomeUnknown, OutcomeFailure, OutcomeDenied, OutcomePending, OutcomeRefused)
		case "client_gone":
			e.ClientGone = d.bool()
		case "request_bytes":
			*made(&e.RequestBytes) = d.int64()
		case "response_bytes":
			*made(&e.ResponseBytes) = d.int64()
		case "policy":
			d.policy(&e.Policy)
		case "membership":
			e.Membership = oneOf(d, MembershipProven, MembershipUnproven)
		case "retention":
			d.retention(made(&e.Retention))
		case "origin":
			d.origin(made(&e.Origin))
		case "count":
			e.Count = d.int()
		case "folded":
			d.folded(made(&e.Folded))
		case "cut":
			d.numbers(&e.Cut)
		case "schema_version":
			e.SchemaVersion = d.int()
		default:
			d.giveUp()
		}
	}
}

// made is what a pointer points to, which is made if there is nothing yet.
func made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func (d *decoder) action(a *Action) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "code":
			a.Code = d.text()
		case "name":
			a.Name = d.text()
		case "method":
			a.Method = oneOf(d, "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
		case "route":
			a.Route = d.text()
		case "path":
			a.Path = d.text()
		case "host":
			a.Host = d.text()
		case "status":
			a.Status = d.int()
		case "status_source":
			a.StatusSource = oneOf(d, StatusWritten, StatusError, StatusDefault)
		case "params":
			d.texts(&a.Params)
		case "metadata":
			d.values(&a.Metadata)
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) actor(a *Actor) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "token_type":
			a.TokenType = oneOf(d, TokenJWT, TokenV1, TokenV0, TokenOAuth, TokenNone, TokenSecret, TokenServiceRole, TokenScopedPAT)
		case "token_hash":
			a.TokenHash = d.text()
		case "other_token_hashes":
			a.OtherTokenHashes = d.list()
		case "token_alias":
			a.TokenAlias = d.text()
		case "token_scope":
			a.TokenScope = d.text()
		case "verification":
			a.Verification = oneOf(d, VerificationSignature, VerificationIntrospection, VerificationNone, VerificationAccepted, VerificationAsserted)
		case "verification_reason":
			a.VerificationReason = oneOf(d, ReasonExpired, ReasonLookupFailed, ReasonSeveralCredentials)
		case "kind":
			a.Kind = oneOf(d, ActorPerson, ActorService, ActorAnonymous)
		case "user_id":
			a.UserID = d.text()
		case "email":
			a.Email = d.text()
		case "ip":
			a.IP = d.text()
		case "ip_source":
			a.IPSource = oneOf(d, IPForwarded, IPPeer)
		case "peer_ip":
			a.PeerIP = d.text()
		case "session_id":
			a.SessionID = d.text()
		case "aal":
			a.AAL = oneOf(d, "aal1", "aal2")
		case "amr":
			a.AMR = d.list()
		case "jwt_role":
			a.JWTRole = oneOf(d, "authenticated", "service_role")
		case "jwt_issuer":
			a.JWTIssuer = d.text()
		case "jwt_subject":
			a.JWTSubject = d.text()
		case "oauth_app_id":
			a.OAuthAppID = d.text()
		case "oauth_app_name":
			a.OAuthAppName = d.text()
		case "user_agent":
			a.UserAgent = d.text()
		case "on_behalf_of":
			a.OnBehalfOf = d.text()
		case "certificate":
			d.certificate(made(&a.Certificate))
		case "asserted_user_id":
			a.AssertedUserID = d.text()
		case "claimed":
			d.claimed(made(&a.Claimed))
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) certificate(c *Certificate) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "subject":
			c.Subject = d.text()
		case "issuer":
			c.Issuer = d.text()
		case "serial":
			c.Serial = d.text()
		case "names":
			c.Names = d.list()
		case "sha256":
			c.SHA256 = d.text()
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) claimed(c *Claimed) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "sub":
			c.Subject = d.text()
		case "email":
			c.Email = d.text()
		case "session_id":
			c.SessionID = d.text()
		case "role":
			c.Role = d.text()
		case "iss":
			c.Issuer = d.text()
		case "client_id":
			c.ClientID = d.text()
		case "aal":
			c.AAL = d.text()
		case "ref":
			c.Project = d.text()
		case "username":
			c.Username = d.text()
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) target(t *Target) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "type":
			t.Type = d.text()
		case "id":
			t.ID = d.text()
		case "parent":
			t.Parent = d.text()
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) policy(p *Policy) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "rule":
			p.Rule = oneOf(d, "default", "sidecar")
		case "level":
			p.Level = oneOf(d, LevelMetadata, LevelRequest, LevelRequestResponse)
		case "durability":
			p.Durability = oneOf(d, DurabilityAnswer, DurabilityStrict, DurabilityRelaxed)
		case "config_hash":
			p.ConfigHash = d.text()
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) retention(r *Retention) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "class":
			r.Class = oneOf(d, ClassDefault, ClassUnattributed, ClassSidecar)
		case "keep_until":
			r.KeepUntil = d.int64()
		case "plan":
			r.Plan = d.text()
		case "hold":
			r.Hold = d.bool()
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) origin(o *Origin) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "instance":
			o.Instance = d.text()
		case "sequence":
			o.Sequence = d.uint64()
		default:
			d.giveUp()
		}
	}
}

func (d *decoder) folded(f *Folded) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		switch string(d.name()) {
		case "network":
			f.Network = d.text()
		case "until":
			f.Until = d.int64()
		default:
			d.giveUp()
		}
	}
}
