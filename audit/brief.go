package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// MaxBriefText bounds each text of a Brief, in bytes, so that all of them fit into one
// row of a database's index.
const MaxBriefText = 128

// Owner names the organization that an entry belongs to, for whoever asks which entries
// are whose. It is the organization's id where that is known, since a slug can be given up
// and taken by somebody else, and the slug where it is all that is known. The zero value
// is nobody's. The two never name the same owner.
type Owner string

// OwnerByID is the organization with an id, and OwnerBySlug that of which nothing but a
// slug is known; zero if that is empty.
func OwnerByID(id string) Owner { return owner("id:", id) }

// OwnerBySlug is documented with OwnerByID.
func OwnerBySlug(slug string) Owner { return owner("slug:", slug) }

func owner(kind, name string) Owner {
	if name == "" {
		return ""
	}
	return Owner(kind + BriefText(name))
}

// Owner is whose the entry is, by what was captured and what is stamped on it. An event
// of the sidecar about one organization is that organization's, too.
func (e *Entry) Owner() Owner {
	if e.OrganizationID != "" {
		return OwnerByID(e.OrganizationID)
	}
	return OwnerBySlug(e.OrganizationSlug)
}

// Brief is what an entry is filtered and counted by: a few short fields that a store
// keeps in columns beside the document. Each is empty where the entry does not have it.
type Brief struct {
	// ID and Timestamp are the entry's place in the order of all.
	ID        string
	Timestamp int64
	// Membership says whether members of the organization see all of the entry, see
	// Entry.Attempt.
	Membership Membership
	// Actor identifies who acts, see Actor.Key; Email is the verified address.
	Actor, Email string
	TokenType    TokenType
	// Address is Actor.IP in 16 bytes (IPv4 mapped), nil if it is none; so a network is a
	// range of them.
	Address []byte
	Project string
	// Action is the code, or the method and the route where there is none.
	Action, Method string
	// TargetType and Target are the target's type and id.
	TargetType, Target string
	Outcome            Outcome
	Status             int
}

// Brief is the entry's. Texts of more than MaxBriefText bytes are shortened by BriefText.
func (e *Entry) Brief() Brief {
	b := Brief{
		ID: e.ID, Timestamp: e.Timestamp, Membership: e.Membership,
		Actor: BriefText(e.Actor.Key()), Email: BriefText(e.Actor.Email), TokenType: TokenType(BriefText(string(e.Actor.TokenType))),
		Address: Address(e.Actor.IP), Project: BriefText(e.ProjectRef), Action: BriefText(e.Action.Code), Method: BriefText(e.Action.Method),
		Outcome: Outcome(BriefText(string(e.Outcome))), Status: e.Action.Status,
	}
	if b.Action == "" && e.Action.Method != "" {
		b.Action = BriefText(e.Action.Method + " " + e.Action.Route)
	}
	if t := e.Target; t != nil {
		b.TargetType, b.Target = BriefText(t.Type), BriefText(t.ID)
	}
	return b
}

// Attempt is the Brief of Entry.Attempt.
func (b *Brief) Attempt() Brief {
	if b.Membership != MembershipUnproven {
		return *b
	}
	a := *b
	a.Actor, a.Email, a.TokenType, a.Address, a.Target = "", "", TokenUnknown, nil, ""
	return a
}

// Key identifies who acts among all actors, by the most lasting thing that is known of
// them: a verified user, an application, a subject; else the credential alone, by its
// hash. Empty if the call had no credential.
func (a *Actor) Key() string {
	for _, key := range []string{a.UserID, a.OAuthAppID, a.JWTSubject, a.TokenHash} {
		if key != "" {
			return key
		}
	}
	return ""
}

// Address is an IP address in 16 bytes, an IPv4 address mapped into IPv6; nil if the text
// is none. A zone is left out.
func Address(ip string) []byte {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil
	}
	b := a.As16()
	return b[:]
}

// AddressRange is the first and the last address of a network, as Address gives them.
func AddressRange(p netip.Prefix) (first, last []byte) {
	p = p.Masked()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	low := p.Addr().As16()
	high := low
	for i := bits; i < 128; i++ {
		high[i/8] |= 0x80 >> (i % 8)
	}
	return low[:], high[:]
}

// BriefText is a text as a Brief has it: itself up to MaxBriefText bytes. Of a longer one
// a hash takes the end's place, so that two texts never look alike but by a collision of
// SHA-256.
func BriefText(s string) string {
	if len(s) <= MaxBriefText {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	hash := "…" + hex.EncodeToString(sum[:16])
	return strings.ToValidUTF8(s[:MaxBriefText-len(hash)], "") + hash
}
