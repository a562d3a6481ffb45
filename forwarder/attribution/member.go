package attribution

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	// provenFor is how long a call proves that further ones are a member's.
	provenFor = int64(24 * time.Hour / time.Microsecond)
	// maxProven bounds the pairs of an actor and an organization that are remembered.
	maxProven = 100_000
	// provenStep is how much later a call must be to be worth being saved.
	provenStep = int64(time.Minute / time.Microsecond)
)

// actor names who acts: what is named, and its name. The zero value is nobody that could
// be told from others.
type actor struct{ kind, name string }

// The kinds of names of actors, which stand in the file.
const (
	byUser  = "user"
	byToken = "token"
	byApp   = "app"
)

// pair is an actor and a name of an organization.
type pair struct {
	who          actor
	organization string
}

// proof is when calls proved a pair's membership: from the first to the last, none of
// them more than a day after the one before. Microseconds since the Unix epoch.
type proof struct{ first, last int64 }

// members remembers whose membership is proven. It is not safe for concurrent use.
type members map[pair]proof

// who names an actor; nobody is one that other callers may be as well.
func who(a *audit.Actor) actor {
	switch {
	case a.UserID != "":
		return actor{byUser, a.UserID}
	case a.TokenType == audit.TokenAnon || a.TokenType == audit.TokenPublishable:
		return actor{} // everybody has it
	case a.TokenHash != "":
		return actor{byToken, a.TokenHash}
	case a.OAuthAppID != "":
		return actor{byApp, a.OAuthAppID}
	}
	return actor{}
}

// isOne reports whether a name is that of one organization: what looked like a secret in
// a path is recorded as the same word, whatever it was.
func isOne(organization string) bool { return organization != "" && organization[0] != '[' }

// prove notes that a call that arrived at t proved a membership. It reports whether that
// is worth being saved.
func (m members) prove(who actor, organization string, t, now int64) (news bool) {
	if who == (actor{}) || !isOne(organization) {
		return false
	}
	p := pair{who, organization}
	old, there := m[p]
	switch {
	case !there:
		if len(m) >= maxProven {
			m.forget()
		}
		m[p] = proof{t, t}
		return true
	case t > old.last+provenFor, old.last > now+slack: // or the clock was put back
		m[p] = proof{t, t}
		return true
	case t > old.last:
		m[p] = proof{old.first, t}
		return t > old.last+provenStep
	case t < old.first && t >= old.first-provenFor:
		m[p] = proof{t, old.last}
		return true
	}
	return false
}

// proved reports whether a call that arrived then is a member's, by what came within a
// day before it.
func (m members) proved(who actor, organization string, t int64) bool {
	if who == (actor{}) || !isOne(organization) {
		return false
	}
	p, ok := m[pair{who, organization}]
	return ok && p.first <= t && t <= p.last+provenFor
}

// forget makes room: of a few at random the one that ends first goes.
func (m members) forget() {
	var first pair
	var ends int64
	sampled := 0
	for p, at := range m {
		if sampled == 0 || at.last < ends {
			first, ends = p, at.last
		}
		if sampled++; sampled == 8 {
			break
		}
	}
	delete(m, first)
}
