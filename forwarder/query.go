package forwarder

import (
	"bytes"
	"context"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Query selects entries. The zero value selects all, oldest first. Each field
// that is set narrows the selection; the values of a list are alternatives.
type Query struct {
	// Trail selects the entries of one credential: those that bear one of its
	// hashes and those of its session, which are alternatives.
	Trail audit.Trail
	// Session and User are Actor.SessionID and Actor.UserID, which are only
	// ever verified ones; IP is Actor.IP.
	Session, User, IP string
	// Organization is a slug; empty selects every organization's. It is for operators:
	// a slug may have been another organization's before.
	Organization string
	// Owners are whose entries are selected. Whoever may not see everything must have one.
	Owners []audit.Owner
	// AsMember selects as a member of the organization may: an entry that is not proven to
	// be of one is looked at as its Attempt, so that nobody learns by asking what it does
	// not show. What is yielded is the whole entry all the same.
	AsMember bool
	// Events selects the sidecar's own events alone.
	Events bool
	Filters
	// From and To bound the arrival: From <= t < To. Zero is unbounded.
	From, To time.Time
	// After is where the selection goes on, in its order: behind an entry, which need not
	// be there any more. Zero is at its beginning.
	After Place
	// Limit bounds the number of entries; zero is unbounded.
	Limit int
	// NewestFirst turns the order, by arrival and then id, around.
	NewestFirst bool
}

// Filters are what readers narrow a selection down by. What they compare is the entry's
// Brief, but for Text; so a value of more than audit.MaxBriefText bytes is shortened as
// that is.
type Filters struct {
	// Actors are Brief.Actor or Brief.Email.
	Actors []string
	// Projects, Actions, Methods, TokenTypes and Outcomes are those of the Brief.
	Projects, Actions, Methods, TokenTypes, Outcomes []string
	// Targets are Brief.TargetType, Brief.Target, or both with a slash between them.
	Targets []string
	// Statuses are ranges of Brief.Status.
	Statuses []StatusRange
	// Networks hold Brief.Address.
	Networks []netip.Prefix
	// Text is in one of the entry's texts that people know it by, see HasText.
	Text string
}

// StatusRange has the statuses from First to Last, both included.
type StatusRange struct{ First, Last int }

// Place is an entry's place in the order of all, by arrival and then id. The zero value
// is none.
type Place struct {
	Timestamp int64
	ID        string
}

// IsZero reports whether it is no place.
func (p Place) IsZero() bool { return p == Place{} }

// Compare gives the order: below zero if p comes before o, zero if they are the same.
func (p Place) Compare(o Place) int {
	if p.Timestamp != o.Timestamp {
		if p.Timestamp < o.Timestamp {
			return -1
		}
		return 1
	}
	return strings.Compare(p.ID, o.ID)
}

// Matches says whether the query selects an entry, with its stamp on it, but for Limit.
func (q *Query) Matches(e *audit.Entry) bool {
	if q.AsMember {
		e = e.Attempt()
	}
	b := e.Brief()
	return q.inRange(&b) &&
		(q.Trail.IsZero() || q.Trail.Names(e) != "") &&
		(q.Session == "" || e.Actor.SessionID == q.Session) &&
		(q.User == "" || e.Actor.UserID == q.User) &&
		(q.IP == "" || e.Actor.IP == q.IP) &&
		(q.Organization == "" || e.OrganizationSlug == q.Organization) &&
		(len(q.Owners) == 0 || slices.Contains(q.Owners, e.Owner())) &&
		(!q.Events || e.IsEvent()) &&
		q.Filters.Match(&b) &&
		(q.Text == "" || HasText(e, q.Text))
}

func (q *Query) inRange(b *audit.Brief) bool {
	at := time.UnixMicro(b.Timestamp)
	if !q.From.IsZero() && at.Before(q.From) || !q.To.IsZero() && !at.Before(q.To) {
		return false
	}
	if q.After.IsZero() {
		return true
	}
	c := Place{b.Timestamp, b.ID}.Compare(q.After)
	return q.NewestFirst && c < 0 || !q.NewestFirst && c > 0
}

// Match says whether a Brief passes all filters but Text.
func (f *Filters) Match(b *audit.Brief) bool {
	for _, by := range Facets {
		if !f.match(by, b) {
			return false
		}
	}
	return true
}

// match says whether a Brief passes the filter of one facet.
func (f *Filters) match(by Facet, b *audit.Brief) bool {
	is := func(values []string, texts ...string) bool {
		return len(values) == 0 || slices.ContainsFunc(values, func(v string) bool {
			return v != "" && slices.Contains(texts, audit.BriefText(v))
		})
	}
	switch by {
	case FacetActor:
		return is(f.Actors, b.Actor, b.Email)
	case FacetProject:
		return is(f.Projects, b.Project)
	case FacetAction:
		return is(f.Actions, b.Action)
	case FacetMethod:
		return is(f.Methods, b.Method)
	case FacetTokenType:
		return is(f.TokenTypes, string(b.TokenType))
	case FacetOutcome:
		return is(f.Outcomes, string(b.Outcome))
	case FacetTarget:
		return len(f.Targets) == 0 || slices.ContainsFunc(f.Targets, func(v string) bool { return isTarget(v, b) })
	case FacetStatus:
		return len(f.Statuses) == 0 || slices.ContainsFunc(f.Statuses, func(r StatusRange) bool { return r.First <= b.Status && b.Status <= r.Last })
	case FacetNetwork:
		return len(f.Networks) == 0 || b.Address != nil && slices.ContainsFunc(f.Networks, func(p netip.Prefix) bool {
			first, last := audit.AddressRange(p)
			return bytes.Compare(first, b.Address) <= 0 && bytes.Compare(b.Address, last) <= 0
		})
	}
	return true
}

// TargetParts are what a value of Targets asks for: a type or an id where it is one text,
// and a type with an id where both is so. A type has no slash, and an id may have some.
func TargetParts(value string) (either, kind, id string) {
	if kind, id, ok := strings.Cut(value, "/"); ok {
		return audit.BriefText(value), audit.BriefText(kind), audit.BriefText(id)
	}
	return audit.BriefText(value), "", ""
}

func isTarget(value string, b *audit.Brief) bool {
	either, kind, id := TargetParts(value)
	return either != "" && (b.TargetType == either || b.Target == either) ||
		kind != "" && id != "" && b.TargetType == kind && b.Target == id
}

// HasText reports whether a text is in one of those that people know an entry by, see
// AppendTexts. The case of letters is ignored.
func HasText(e *audit.Entry, text string) bool {
	text = Fold(text)
	var texts [maxTexts]string
	return slices.ContainsFunc(AppendTexts(texts[:0], e), func(s string) bool { return strings.Contains(Fold(s), text) })
}

// maxTexts is how many texts people know an entry by.
const maxTexts = 21

// AppendTexts appends the texts that people know an entry by: its action's code, name,
// route and path, its project, its target, its actor's user id, address, email,
// application, alias and user agent, and its ids.
func AppendTexts(to []string, e *audit.Entry) []string {
	a := &e.Actor
	to = append(to, e.Action.Code, e.Action.Name, e.Action.Route, e.Action.Path, e.Action.Method, e.ProjectRef, e.RequestID, e.ID, e.TraceID,
		a.UserID, a.Email, a.IP, a.OAuthAppID, a.OAuthAppName, a.JWTSubject, a.TokenAlias, a.UserAgent, string(a.TokenType))
	if t := e.Target; t != nil {
		to = append(to, t.Type, t.ID, t.Parent)
	}
	return to
}

// Fold makes small letters of a text's capitals. No other letter becomes one of ASCII, so
// that a store may look for those of a text in its own way first, see TextCore.
func Fold(s string) string {
	return strings.Map(func(r rune) rune {
		if small := unicode.ToLower(r); r < unicode.MaxASCII || small > unicode.MaxASCII {
			return small
		}
		return r
	}, s)
}

// TextCore is the longest run of ASCII letters and digits of a text, in small letters. It
// is, in either case, in the JSON of each entry that has the text. It may be empty.
func TextCore(text string) (core string) {
	for _, run := range strings.FieldsFunc(Fold(text), func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		if len(run) > len(core) {
			core = run
		}
	}
	return core
}

// Reader is a store whose entries can be read back.
type Reader interface {
	// Read yields the JSON of each entry's highest revision, with its stamp, of those
	// that Query.Matches. It holds no lock that delays Write, and a constant amount of
	// memory. The bytes are valid until the next iteration. An error ends the sequence.
	// What Trail, Session, User and IP select is found by an index: it may cost memory in
	// proportion to what is found, but a few bytes for each at most.
	//
	// With Owners it walks those entries alone, in their order, and looks for what
	// Filters select without their documents, but for Text.
	Read(ctx context.Context, q Query) iter.Seq2[[]byte, error]
}

// Browser is a Reader that a page is made of.
type Browser interface {
	Reader
	// Briefs yields the Brief of each entry that Query.Matches, in the query's order and
	// without reading documents, unless Text or a credential is asked for. It is valid
	// until the next iteration, and so is its Address. Limit bounds those that are
	// yielded.
	Briefs(ctx context.Context, q Query) iter.Seq2[*audit.Brief, error]
	// Beats are the last signs of life of each buffer that the store has entries of.
	Beats(ctx context.Context) ([]Beat, error)
}

// Beat is the last sign of life of a buffer that is in the store.
type Beat struct {
	// Instance is the buffer.
	Instance string
	// At is when it was given: all that arrived before it, and was not open then, is in
	// the store.
	At time.Time
	// Stopped says that it was the last one, since the sidecar has been stopped.
	Stopped bool
}
