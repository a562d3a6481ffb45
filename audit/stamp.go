package audit

import "cmp"

// Membership says whether a call is proven to come from a member of the organization
// that it names.
type Membership string

// The memberships. An entry that belongs to no organization has none.
const (
	// MembershipProven means that the organization's API did what a verified actor asked
	// for, with this call or with another one lately.
	MembershipProven Membership = "proven"
	// MembershipUnproven means that it is not: whoever calls an API can name any
	// organization in a path. Such an entry is the operator's. The organization sees that
	// somebody tried, and not who: see Entry.Attempt.
	MembershipUnproven Membership = "unproven"
)

// Stamp is what the forwarder says of an entry, beside what was captured: whose it is,
// and how long it is kept. A later stamp adds to an earlier one and takes nothing back:
// of two retentions the one that keeps longer counts, and an organization stays.
type Stamp struct {
	// OrganizationID and OrganizationSlug are set where the captured entry has none.
	OrganizationID   string     `json:"organization_id,omitempty"`
	OrganizationSlug string     `json:"organization_slug,omitempty"`
	Membership       Membership `json:"membership,omitempty"`
	Retention        *Retention `json:"retention,omitempty"`
	// Pending says that the organization or its plan is still being asked for.
	Pending bool `json:"-"`
}

// Merge is one stamp of two for the same entry, of which the second is the newer, by the
// rule above: of two retentions that keep equally long the newer one counts, a membership
// that is proven stays so, an organization is not put in the place of another one, and
// whether it is pending is for the newer one to say. It changes neither; each may be nil.
func (s *Stamp) Merge(newer *Stamp) *Stamp {
	if s == nil {
		return newer
	}
	if newer == nil {
		return s
	}
	m := *s
	if r := newer.Retention; r != nil && (m.Retention == nil || r.KeepMicros() >= m.Retention.KeepMicros()) {
		m.Retention = r
	}
	if newer.Membership != "" && m.Membership != MembershipProven {
		m.Membership = newer.Membership
	}
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	if same(m.OrganizationID, newer.OrganizationID) && same(m.OrganizationSlug, newer.OrganizationSlug) {
		m.OrganizationID = cmp.Or(m.OrganizationID, newer.OrganizationID)
		m.OrganizationSlug = cmp.Or(m.OrganizationSlug, newer.OrganizationSlug)
	}
	m.Pending = newer.Pending
	return &m
}

// On puts the stamp on an entry.
func (s *Stamp) On(e *Entry) {
	if e.OrganizationID == "" {
		e.OrganizationID = s.OrganizationID
	}
	if e.OrganizationSlug == "" {
		e.OrganizationSlug = s.OrganizationSlug
	}
	if s.Membership != "" {
		e.Membership = s.Membership
	}
	if s.Retention != nil {
		e.Retention = s.Retention
	}
}

// AppendTo puts the stamp into the JSON of an entry that has none, byte by byte behind
// what was captured. It appends to doc, which must be an object that has a member. The
// error is always nil.
func (s *Stamp) AppendTo(doc []byte) ([]byte, error) {
	end := len(doc) - 1 // where the object is closed
	stamped := optionalText(doc[:end], `,"organization_id":`, s.OrganizationID)
	stamped = optionalText(stamped, `,"organization_slug":`, s.OrganizationSlug)
	stamped = optionalText(stamped, `,"membership":`, string(s.Membership))
	if s.Retention != nil {
		stamped = s.Retention.appendTo(append(stamped, `,"retention":`...))
	}
	if len(stamped) == end {
		return doc, nil
	}
	return append(stamped, '}'), nil
}

// KeepMicros is until when the retention keeps an entry, in microseconds since the Unix
// epoch: ForeverMicros where it names no end.
func (r *Retention) KeepMicros() int64 {
	if r.KeepUntil == 0 {
		return ForeverMicros
	}
	return r.KeepUntil
}

// Attempt is what the members of the organization see of a call that is not proven to
// come from one of them: that somebody tried what, when, and how it ended; and nothing
// of who, from where, with what credential and which values. The entry itself if it is
// proven, or no organization's.
func (e *Entry) Attempt() *Entry {
	if e.Membership != MembershipUnproven {
		return e
	}
	a := &Entry{
		ID: e.ID, Revision: e.Revision, Timestamp: e.Timestamp, RecordedAt: e.RecordedAt,
		OrganizationID: e.OrganizationID, OrganizationSlug: e.OrganizationSlug, ProjectRef: e.ProjectRef,
		Action: Action{
			Code: e.Action.Code, Name: e.Action.Name, Method: e.Action.Method, Route: e.Action.Route,
			Status: e.Action.Status, StatusSource: e.Action.StatusSource,
		},
		Actor:   Actor{TokenType: TokenUnknown, Verification: VerificationNone},
		Outcome: e.Outcome, Count: e.Count,
		Policy: e.Policy, Retention: e.Retention, Membership: e.Membership, SchemaVersion: e.SchemaVersion,
	}
	if e.Target != nil {
		a.Target = &Target{Type: e.Target.Type}
	}
	return a
}
