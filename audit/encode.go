package audit

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
)

// Entries are encoded in a room that is used again, and copied out of it as long as they
// are, since a buffer keeps many of them. A room that is larger than most need is not kept.
const maxRoom = 64 << 10 // bytes

var rooms = sync.Pool{New: func() any { return new([]byte) }}

// Encode returns the entry's JSON, without a trailing newline. The bytes are the caller's.
func (e *Entry) Encode() ([]byte, error) {
	room := rooms.Get().(*[]byte)
	b, err := e.AppendTo((*room)[:0])
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(b)
	if cap(b) <= maxRoom {
		*room = b
		rooms.Put(room)
	}
	return out, nil
}

// AppendTo appends the entry's JSON, without a trailing newline. The bytes are those of
// encoding/json. It fails only for a value in Action.Metadata that JSON cannot have.
//
// In this file each member is written with a comma before it. That before an object's
// first one becomes its brace, see closed.
func (e *Entry) AppendTo(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = appendText(append(dst, `,"id":`...), e.ID)
	dst = appendInt(append(dst, `,"revision":`...), int64(e.Revision))
	dst = optionalText(dst, `,"request_id":`, e.RequestID)
	dst = optionalText(dst, `,"trace_id":`, e.TraceID)
	dst = appendInt(append(dst, `,"timestamp":`...), e.Timestamp)
	dst = optionalInt(dst, `,"recorded_at":`, e.RecordedAt)
	dst = optionalInt(dst, `,"duration_us":`, e.DurationUS)
	dst = optionalText(dst, `,"organization_id":`, e.OrganizationID)
	dst = optionalText(dst, `,"organization_slug":`, e.OrganizationSlug)
	dst = optionalText(dst, `,"organization_plan":`, e.OrganizationPlan)
	dst = optionalText(dst, `,"project_ref":`, e.ProjectRef)

	dst, err := e.Action.appendTo(append(dst, `,"action":`...))
	if err != nil {
		return nil, fmt.Errorf("encoding entry %s: %w", e.ID, err)
	}
	dst = e.Actor.appendTo(append(dst, `,"actor":`...))
	if e.Target != nil {
		dst = e.Target.appendTo(append(dst, `,"target":`...))
	}
	dst = appendText(append(dst, `,"outcome":`...), string(e.Outcome))
	dst = optionalTrue(dst, `,"client_gone":true`, e.ClientGone)
	if e.RequestBytes != nil {
		dst = appendInt(append(dst, `,"request_bytes":`...), *e.RequestBytes)
	}
	if e.ResponseBytes != nil {
		dst = appendInt(append(dst, `,"response_bytes":`...), *e.ResponseBytes)
	}
	dst = e.Policy.appendTo(append(dst, `,"policy":`...))
	dst = optionalText(dst, `,"membership":`, string(e.Membership))
	if e.Retention != nil {
		dst = e.Retention.appendTo(append(dst, `,"retention":`...))
	}
	if e.Origin != nil {
		dst = e.Origin.AppendTo(append(dst, `,"origin":`...))
	}
	dst = optionalInt(dst, `,"count":`, int64(e.Count))
	if e.Folded != nil {
		dst = e.Folded.appendTo(append(dst, `,"folded":`...))
	}
	if len(e.Cut) > 0 {
		dst = appendNumbers(append(dst, `,"cut":`...), e.Cut)
	}
	dst = appendInt(append(dst, `,"schema_version":`...), int64(e.SchemaVersion))
	return closed(dst, start), nil
}

func (a *Action) appendTo(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = optionalText(dst, `,"code":`, a.Code)
	dst = optionalText(dst, `,"name":`, a.Name)
	dst = optionalText(dst, `,"method":`, a.Method)
	dst = optionalText(dst, `,"route":`, a.Route)
	dst = optionalText(dst, `,"path":`, a.Path)
	dst = optionalText(dst, `,"host":`, a.Host)
	dst = optionalInt(dst, `,"status":`, int64(a.Status))
	dst = optionalText(dst, `,"status_source":`, string(a.StatusSource))
	if len(a.Params) > 0 {
		dst = appendTexts(append(dst, `,"params":`...), a.Params)
	}
	if len(a.Metadata) > 0 {
		var err error
		if dst, err = appendObject(append(dst, `,"metadata":`...), a.Metadata, 0); err != nil {
			return nil, err
		}
	}
	return closed(dst, start), nil
}

func (a *Actor) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = appendText(append(dst, `,"token_type":`...), string(a.TokenType))
	dst = optionalText(dst, `,"token_hash":`, a.TokenHash)
	dst = optionalList(dst, `,"other_token_hashes":`, a.OtherTokenHashes)
	dst = optionalText(dst, `,"token_alias":`, a.TokenAlias)
	dst = optionalText(dst, `,"token_scope":`, a.TokenScope)
	dst = appendText(append(dst, `,"verification":`...), string(a.Verification))
	dst = optionalText(dst, `,"verification_reason":`, string(a.VerificationReason))
	dst = optionalText(dst, `,"kind":`, string(a.Kind))
	dst = optionalText(dst, `,"user_id":`, a.UserID)
	dst = optionalText(dst, `,"email":`, a.Email)
	dst = optionalText(dst, `,"ip":`, a.IP)
	dst = optionalText(dst, `,"ip_source":`, string(a.IPSource))
	dst = optionalText(dst, `,"peer_ip":`, a.PeerIP)
	dst = optionalText(dst, `,"session_id":`, a.SessionID)
	dst = optionalText(dst, `,"aal":`, a.AAL)
	dst = optionalList(dst, `,"amr":`, a.AMR)
	dst = optionalText(dst, `,"jwt_role":`, a.JWTRole)
	dst = optionalText(dst, `,"jwt_issuer":`, a.JWTIssuer)
	dst = optionalText(dst, `,"jwt_subject":`, a.JWTSubject)
	dst = optionalText(dst, `,"oauth_app_id":`, a.OAuthAppID)
	dst = optionalText(dst, `,"oauth_app_name":`, a.OAuthAppName)
	dst = optionalText(dst, `,"user_agent":`, a.UserAgent)
	dst = optionalText(dst, `,"on_behalf_of":`, a.OnBehalfOf)
	if a.Certificate != nil {
		dst = a.Certificate.appendTo(append(dst, `,"certificate":`...))
	}
	dst = optionalText(dst, `,"asserted_user_id":`, a.AssertedUserID)
	if a.Claimed != nil {
		dst = a.Claimed.appendTo(append(dst, `,"claimed":`...))
	}
	return closed(dst, start)
}

func (c *Certificate) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = optionalText(dst, `,"subject":`, c.Subject)
	dst = optionalText(dst, `,"issuer":`, c.Issuer)
	dst = optionalText(dst, `,"serial":`, c.Serial)
	dst = optionalList(dst, `,"names":`, c.Names)
	dst = optionalText(dst, `,"sha256":`, c.SHA256)
	return closed(dst, start)
}

func (c *Claimed) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = optionalText(dst, `,"sub":`, c.Subject)
	dst = optionalText(dst, `,"email":`, c.Email)
	dst = optionalText(dst, `,"session_id":`, c.SessionID)
	dst = optionalText(dst, `,"role":`, c.Role)
	dst = optionalText(dst, `,"iss":`, c.Issuer)
	dst = optionalText(dst, `,"client_id":`, c.ClientID)
	dst = optionalText(dst, `,"aal":`, c.AAL)
	dst = optionalText(dst, `,"ref":`, c.Project)
	dst = optionalText(dst, `,"username":`, c.Username)
	return closed(dst, start)
}

func (t *Target) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = appendText(append(dst, `,"type":`...), t.Type)
	dst = optionalText(dst, `,"id":`, t.ID)
	dst = optionalText(dst, `,"parent":`, t.Parent)
	return closed(dst, start)
}

func (p *Policy) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = appendText(append(dst, `,"rule":`...), p.Rule)
	dst = appendText(append(dst, `,"level":`...), string(p.Level))
	dst = appendText(append(dst, `,"durability":`...), string(p.Durability))
	dst = optionalText(dst, `,"config_hash":`, p.ConfigHash)
	return closed(dst, start)
}

func (r *Retention) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = appendText(append(dst, `,"class":`...), r.Class)
	dst = optionalInt(dst, `,"keep_until":`, r.KeepUntil)
	dst = optionalText(dst, `,"plan":`, r.Plan)
	dst = optionalTrue(dst, `,"hold":true`, r.Hold)
	return closed(dst, start)
}

// AppendTo appends the origin's JSON.
func (o *Origin) AppendTo(dst []byte) []byte {
	start := len(dst)
	dst = appendText(append(dst, `,"instance":`...), o.Instance)
	dst = strconv.AppendUint(append(dst, `,"sequence":`...), o.Sequence, 10)
	return closed(dst, start)
}

func (f *Folded) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = appendText(append(dst, `,"network":`...), f.Network)
	dst = appendInt(append(dst, `,"until":`...), f.Until)
	return closed(dst, start)
}
