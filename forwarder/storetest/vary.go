package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// long is longer than a Brief takes. Two that differ at their end are two values all the same.
var long = strings.Repeat("long-", audit.MaxBriefText/5)

// The values that the fields of random entries have.
var (
	methods    = []string{"GET", "POST", "PATCH", "DELETE"}
	codes      = []string{"v1-update-function", "v1-list-projects", "v1-create-a-project", "", ""}
	routes     = []string{"/v1/projects/{ref}/functions/{slug}", "/v1/projects", "/v1/" + long}
	statuses   = []int{0, 200, 201, 302, 401, 403, 404, 499, 500, 503}
	tokenTypes = []audit.TokenType{"jwt", "v0", audit.TokenUnknown, audit.TokenNone, "of_a_site", ""}
	addresses  = []string{"203.0.113.0", "203.0.113.2", "198.51.100.7", "2001:db8::1", "2001:db8:1::2", "fe80::1%eth0", "::ffff:203.0.113.1", "unix", ""}
	projects   = []string{"ref-1", "ref-2", "REF-1", long + "1", long + "2"}
	targets    = []*audit.Target{
		nil,
		{Type: "project"},
		{Type: "project", ID: "ref-1"},
		{Type: "edge_function", ID: "hello", Parent: "ref-1"},
		{Type: "hello", ID: "project"},
		{Type: "secret", ID: "a/b/c"},
		{Type: "secret", ID: long + "1"},
		{Type: "secret", ID: long + "2"},
		{ID: "hello"},
		{Type: "pro%ject_", ID: "50%_of 'it'"},
	}
	agents  = []string{"curl/8.9.1", "Ünïcode/Straße", "a \"quoted\" <agent> & \\more", "100%_sure", "\u212Aelvin\u0130", "ΣΊΣΥΦΟΣ/1", long + "agent"}
	signs   = []string{audit.EventHeartbeat, audit.EventHeartbeat, audit.EventStarted, audit.EventStopped, audit.EventGap}
	members = []audit.Membership{audit.MembershipProven, audit.MembershipUnproven, audit.MembershipUnproven, ""}
)

func oneOf[T any](rng *rand.Rand, all []T) T { return all[rng.IntN(len(all))] }

// vary gives a revision of an entry one value or another in each field that readers ask
// for. It may know less, or more, than the one before.
func vary(rng *rand.Rand, e *audit.Entry) {
	if rng.IntN(4) == 0 {
		e.OrganizationSlug, e.Actor.SessionID, e.Actor.UserID, e.Actor.TokenHash = "", "", "", ""
	}
	a := &e.Actor
	switch rng.IntN(4) {
	case 0:
		a.Email = fmt.Sprintf("User.%d@example.com", rng.IntN(3))
	case 1:
		a.Email, a.OAuthAppID, a.OAuthAppName = "an@"+long+".example", "app-1", "An App"
	case 2:
		a.JWTSubject, a.TokenAlias = "subject-1", "sbp_abc"
	}
	if rng.IntN(2) == 0 {
		a.TokenType = oneOf(rng, tokenTypes)
	}
	if rng.IntN(2) == 0 {
		a.IP = oneOf(rng, addresses)
	}
	a.UserAgent = oneOf(rng, agents)
	if rng.IntN(2) == 0 {
		e.ProjectRef = oneOf(rng, projects)
	}
	e.Action.Code, e.Action.Method, e.Action.Route = oneOf(rng, codes), oneOf(rng, methods), oneOf(rng, routes)
	e.Action.Status = oneOf(rng, statuses)
	if e.Outcome = audit.OutcomeOf(e.Action.Status); rng.IntN(8) == 0 {
		e.Outcome = audit.OutcomePending
	}
	e.Target = nil
	if t := oneOf(rng, targets); t != nil {
		of := *t
		e.Target = &of
	}
	switch rng.IntN(12) {
	case 0, 1: // an event of the sidecar, which may be about an organization
		of := *e
		*e = *audit.Event(oneOf(rng, signs), time.UnixMicro(of.Timestamp), map[string]any{"last_sequence": 7})
		e.ID, e.Revision, e.Timestamp, e.RecordedAt = of.ID, of.Revision, of.Timestamp, of.RecordedAt
		if rng.IntN(3) == 0 {
			e.OrganizationSlug = of.OrganizationSlug
		}
	case 2: // a call that looks like one, and something that is neither
		e.Policy.Rule = "sidecar"
	case 3:
		e.Action.Method = ""
	}
}

// belonging is whose an entry is: what each of its revisions was captured with, or is
// stamped with where that is missing.
type belonging struct {
	id, slug       string
	stampID, stamp bool // with what the stamp names where it was not captured
	stampSlug      bool
	membership     audit.Membership
}

func randomBelonging(rng *rand.Rand, slug string) belonging {
	b := belonging{slug: slug, stamp: rng.IntN(4) > 0, stampID: rng.IntN(2) == 0, stampSlug: rng.IntN(2) == 0, membership: oneOf(rng, members)}
	if rng.IntN(2) == 0 {
		b.id = fmt.Sprintf("id-%d", rng.IntN(3))
	}
	if rng.IntN(10) == 0 {
		b.id = long + "id"
	}
	return b
}

// stampOf is the stamp of a revision, which says nothing of what was captured; nil if the
// entry has none.
func (b *belonging) stampOf(e *audit.Entry) *audit.Stamp {
	if !b.stamp {
		return nil
	}
	s := &audit.Stamp{Membership: b.membership, Retention: &audit.Retention{Class: audit.ClassDefault, Plan: "team"}}
	if b.stampID && e.OrganizationID == "" {
		s.OrganizationID = b.id
	}
	if b.stampSlug && e.OrganizationSlug == "" {
		s.OrganizationSlug = b.slug
	}
	return s
}

// stamp puts a stamp on a record as the forwarder does: beside the JSON for a Keeper, and
// into it for all others. It returns the record, and what is read of it.
func (s *subject) stamp(r forwarder.Record, stamp *audit.Stamp) (given, read forwarder.Record) {
	s.Helper()
	if stamp == nil {
		return r, r
	}
	doc, err := stamp.AppendTo([]byte(string(r.JSON)))
	if err != nil {
		s.Fatal(err)
	}
	stamp.On(r.Entry)
	r.Stamp = stamp
	read = r
	read.JSON = doc
	if _, apart := s.store.(forwarder.Keeper); apart {
		return r, read
	}
	return read, read
}
