package viewer

import (
	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// operatorFact is the fact of an event that says who of the operator's people looked. It
// is for the operator alone.
const operatorFact = "operator"

// shown is an entry as the visitor may see it, which is the entry itself for an operator.
//
// Members see an Attempt of what is not proven to come from one of them. Nobody but the
// operator learns from which buffer and with which number an entry came, which tells how
// much all others do; nor which machine is behind the load balancer; nor who of the
// operator's people looked.
func (in *visit) shown(e *audit.Entry) *audit.Entry {
	if in.Operator {
		return e
	}
	if len(in.Owners) == 0 {
		return own(e)
	}
	s := *e.Attempt()
	s.Origin = nil
	s.Actor.PeerIP = ""
	if s.IsEvent() && s.Action.Metadata[operatorFact] != nil {
		facts := make(map[string]any, len(s.Action.Metadata))
		for name, fact := range s.Action.Metadata {
			if name != operatorFact {
				facts[name] = fact
			}
		}
		s.Action.Metadata = facts
	}
	return &s
}

// own is an entry as whoever made the call may see it, of whatever organization it is.
// Whose a project is, and how long that organization's entries are kept, was found out
// after the call: it is told only to whom the organization's API has served.
func own(e *audit.Entry) *audit.Entry {
	s := *e
	s.Origin, s.Actor.PeerIP = nil, ""
	if s.Membership != audit.MembershipProven {
		s.OrganizationID, s.OrganizationSlug, s.Retention = "", "", nil
	}
	return &s
}

// document is the JSON of what is shown. doc is the entry as it is stored: what an
// operator sees is that, with fields that this version does not know.
func (in *visit) document(e *audit.Entry, doc []byte) ([]byte, error) {
	if in.Operator {
		return doc, nil
	}
	return in.shown(e).Encode()
}
