package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
)

// OCSFVersion is the version of the Open Cybersecurity Schema Framework that
// OCSF writes.
const OCSFVersion = "1.8.0"

// The class of every event: API Activity of the category Application Activity.
const (
	ocsfCategory = 6
	ocsfClass    = 6003
)

// ocsfProduct is who reports, and who acts in an event of the sidecar itself.
const ocsfProduct = "caddy-audit-log"

// ocsfUnknown stands where the schema requires a value and there is none: the
// actor of a call without a credential, the source of one without an address.
const ocsfUnknown = "unknown"

// OCSF returns the entry as one JSON object of OCSF 1.8.0, class API Activity
// (6003), with the profile trace where there is a trace. It changes nothing in
// the entry, and the same entry always gives the same bytes.
//
//   - metadata.uid is the entry's id and metadata.sequence its revision, as low
//     as RevisionPending: of two events of one uid the higher sequence replaces
//     the other. metadata.original_event_uid is the place in the origin,
//     "instance/sequence", which no two revisions share.
//   - actor.user, actor.app_uid, actor.idp and actor.session.uid hold only what a
//     signature, a service or the API vouches for.
//   - unmapped holds, under the entry's own names, whatever the class has no
//     attribute for, and the exact value of what OCSF rounds or normalises: times
//     in microseconds, the outcome, the token type.
//   - What is absent from the entry is absent here. Where the schema requires it
//     nevertheless, it reads "unknown".
//
// The result is valid UTF-8 and at most four times as long as the entry's own
// JSON, and 4 KiB. It fails only where Encode does: for metadata that JSON
// cannot hold.
func OCSF(e *Entry) ([]byte, error) {
	v := ocsfOf(e)
	b, err := json.Marshal(&v)
	if err != nil {
		return nil, fmt.Errorf("encoding entry %s as ocsf: %w", e.ID, err)
	}
	return b, nil
}

// OCSFDocument is OCSF for an entry as it was encoded. It takes what Decode
// takes, and keeps the digits of large numbers in Action.Metadata, which Decode
// rounds.
func OCSFDocument(doc []byte) ([]byte, error) {
	e, err := Decode(doc)
	if err != nil {
		return nil, err
	}
	if len(e.Action.Metadata) > 0 {
		var exact struct {
			Action struct {
				Metadata map[string]any `json:"metadata"`
			} `json:"action"`
		}
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		if err := d.Decode(&exact); err != nil {
			return nil, fmt.Errorf("decoding the metadata of entry %s: %w", e.ID, err)
		}
		e.Action.Metadata = exact.Action.Metadata
	}
	return OCSF(e)
}

func ocsfOf(e *Entry) ocsfEvent {
	activity, activityName := ocsfActivityOf(e)
	severity := ocsfSeverityOf(e)
	status, statusName := ocsfStatusOf(e)
	v := ocsfEvent{
		ActivityID: activity, ActivityName: activityName,
		CategoryUID: ocsfCategory, CategoryName: "Application Activity",
		ClassUID: ocsfClass, ClassName: "API Activity",
		TypeUID: ocsfClass*100 + activity, TypeName: "API Activity: " + ocsfActivities[activity],
		SeverityID: severity, Severity: ocsfSeverities[severity],
		StatusID: status, Status: statusName, StatusDetail: ocsfDetailOf(e),
		Time: e.Timestamp / 1000, Count: e.Count,
		Message:     ocsfOperation(e),
		Metadata:    ocsfMetadataOf(e),
		Observables: make([]ocsfObservable, 0, 2),
		Unmapped: ocsfUnmapped{
			Timestamp: e.Timestamp, RecordedAt: e.RecordedAt, DurationUS: e.DurationUS,
			Outcome: e.Outcome, ClientGone: e.ClientGone,
			Action: e.Action, Actor: e.Actor, Policy: e.Policy, Retention: e.Retention, Origin: e.Origin,
			Plan: e.OrganizationPlan, Membership: e.Membership,
			Folded: e.Folded, Cut: e.Cut,
		},
	}
	if e.Action.Status != 0 {
		v.StatusCode = strconv.Itoa(e.Action.Status)
	}
	v.span(e)
	v.api(e)
	v.http(e)
	v.actor(e)
	v.source(e)
	v.resources(e)
	if e.TraceID != "" {
		v.Trace.UID = e.TraceID
		v.Metadata.Profiles = []string{"trace"}
	}
	return v
}

// ocsfOperation is what was done, in the words for people.
func ocsfOperation(e *Entry) string {
	if s := cmp.Or(e.Action.Name, e.Action.Code); s != "" {
		return s
	}
	where := cmp.Or(e.Action.Route, e.Action.Path)
	if e.Action.Method == "" || where == "" {
		return cmp.Or(e.Action.Method, where)
	}
	return e.Action.Method + " " + where
}

func ocsfMetadataOf(e *Entry) ocsfMetadata {
	m := ocsfMetadata{
		Version: OCSFVersion,
		Product: ocsfProductOf{Name: ocsfProduct, VendorName: ocsfProduct},
		UID:     e.ID, Sequence: e.Revision,
		CorrelationUID: cmp.Or(e.RequestID, e.TraceID),
		EventCode:      e.Action.Code,
		LogName:        "audit_log", LogProvider: ocsfProduct, LogVersion: strconv.Itoa(e.SchemaVersion),
		LoggedTime:  e.RecordedAt / 1000,
		TenantUID:   e.OrganizationID,
		IsTruncated: len(e.Cut) > 0,
	}
	if e.Revision > RevisionAnswer {
		m.ModifiedTime = m.LoggedTime
	}
	if o := e.Origin; o != nil {
		m.OriginalEventUID = o.Instance + "/" + strconv.FormatUint(o.Sequence, 10)
		m.Reporter = ocsfEntity{Name: ocsfProduct, UID: o.Instance}
	}
	return m
}

// span is the time that the event covers: the call's own, or that of all the
// calls that the entry stands for.
func (v *ocsfEvent) span(e *Entry) {
	known, duration := e.DurationUS > 0, e.DurationUS/1000
	if e.Folded != nil {
		duration = e.RecordedAt/1000 - v.Time
		known = duration >= 0
	}
	if known {
		v.StartTime, v.EndTime, v.Duration = v.Time, v.Time+duration, &duration
	}
}

func (v *ocsfEvent) api(e *Entry) {
	v.API.Operation = cmp.Or(e.Action.Code, v.Message, ocsfUnknown)
	v.API.Service.Name = e.Action.Host
	v.API.Request.UID = e.RequestID
	v.API.Response.Code = e.Action.Status
	if e.IsEvent() {
		v.API.Service.Name = ocsfProduct
	}
	if t := e.Actor.TokenType; t != "" && t != TokenNone {
		v.API.Token = ocsfTokenOf(&e.Actor)
	}
}

// http fills in the request and the answer, and takes out of unmapped what has
// its place there.
func (v *ocsfEvent) http(e *Entry) {
	u := &v.Unmapped.Action
	u.Code, u.Name, u.Status = "", "", 0

	r := &v.Request
	r.UID, r.UserAgent, r.BodyLength = e.RequestID, e.Actor.UserAgent, e.RequestBytes
	v.Unmapped.Actor.UserAgent = ""
	switch e.Action.Method {
	case "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE":
		r.Method, u.Method = e.Action.Method, ""
	}
	if e.Action.Path != "" {
		r.URL.Path, u.Path = e.Action.Path, ""
		r.URL.host(e.Action.Host)
	}
	if !e.IsEvent() {
		u.Host = "" // the service has it whole
	}

	if e.Action.Status != 0 {
		v.Response.Code, v.Response.BodyLength = e.Action.Status, e.ResponseBytes
	} else {
		v.Unmapped.ResponseBytes = e.ResponseBytes
	}
}

// host sets the host and the port, if that is what it reads as.
func (u *ocsfURL) host(host string) {
	u.Hostname = host
	for i := len(host) - 1; i > 0; i-- {
		if c := host[i]; c == ':' {
			if port, err := strconv.ParseUint(host[i+1:], 10, 16); err == nil && (host[0] == '[') == (host[i-1] == ']') {
				u.Hostname, u.Port = host[:i], int(port)
			}
			return
		} else if c < '0' || c > '9' {
			return
		}
	}
}

// source is where the call came from. The class requires one.
func (v *ocsfEvent) source(e *Entry) {
	u := &v.Unmapped.Actor
	switch {
	case ocsfIP(e.Actor.IP):
		v.Source.IP, u.IP = e.Actor.IP, ""
		v.Observables = append(v.Observables, ocsfObservable{"src_endpoint.ip", ocsfObservedIP, "IP Address", e.Actor.IP})
	case e.IsEvent():
		v.Source.ServiceName = ocsfProduct
	default:
		v.Source.Name = ocsfUnknown
	}
	if e.Actor.IPSource == IPForwarded && ocsfIP(e.Actor.PeerIP) {
		v.Source.Proxy.IP, u.PeerIP = e.Actor.PeerIP, ""
	}
}

// ocsfIP reports whether a text is an address as OCSF takes one.
func ocsfIP(s string) bool {
	if s == "" || len(s) > 40 {
		return false
	}
	addr, err := netip.ParseAddr(s)
	return err == nil && ocsfOnly(addr.Zone(), "-_.")
}

// resources are the target, and the organization and the project that it is in.
// Without an id the target is a kind of thing and not a thing: OCSF has no place
// for it.
func (v *ocsfEvent) resources(e *Entry) {
	if e.Target != nil || e.OrganizationID != "" || e.OrganizationSlug != "" || e.ProjectRef != "" {
		v.Resources = make([]ocsfResource, 0, 3)
	}
	if t := e.Target; t != nil {
		if t.ID != "" {
			v.Resources = append(v.Resources, ocsfResource{UID: t.ID, Type: t.Type, RoleID: ocsfRoleTarget, Role: "Target"})
			v.Unmapped.Target.Parent = t.Parent
		} else {
			v.Unmapped.Target = ocsfTarget(*t)
		}
	}
	related := func(typ, uid, name string) {
		if t := e.Target; t != nil && t.ID != "" && t.Type == typ && (uid == "" || uid == t.ID) && (name == "" || name == t.ID) {
			return
		}
		if uid != "" || name != "" {
			v.Resources = append(v.Resources, ocsfResource{UID: uid, Name: name, Type: typ, RoleID: ocsfRoleRelated, Role: "Related"})
		}
	}
	related(typeOrganization, e.OrganizationID, e.OrganizationSlug)
	related(typeProject, e.ProjectRef, "")
}
