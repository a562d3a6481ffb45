package page

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// outcome is shown by its shape and its word, so that nobody needs to see its colour.
type outcome struct {
	// Name is that of a shape and a colour: one of ours, whatever the entry says.
	Name string
	// Word is the entry's own.
	Word string
	// Help says what it means.
	Help string
}

var outcomes = map[audit.Outcome]string{
	audit.OutcomeSuccess: "The API did it.",
	audit.OutcomeFailure: "The API answered with an error.",
	audit.OutcomeDenied:  "The API did not allow it.",
	audit.OutcomePending: "The call was still open when this was recorded.",
	audit.OutcomeUnknown: "The call may have had its effect; how it ended was not recorded.",
	audit.OutcomeRefused: "The call was not let through to the API, since it could not be recorded.",
}

func newOutcome(o audit.Outcome) outcome {
	if help, ok := outcomes[o]; ok {
		return outcome{string(o), words(string(o)), help}
	}
	return outcome{"unknown", cell(string(cmp.Or(o, audit.OutcomeUnknown))).Shown, ""}
}

// row is an entry of the table, or a gap.
type row struct {
	Gap *gapRow

	ID, URL, API string
	When         stamp
	Actor        actorCell
	Target       targetCell
	Outcome      outcome
	Status       string
	Method       Text
	Event, Code  Text
	// Calls is how many the entry stands for, where it is not one.
	Calls string
}

type gapRow struct{ When, What, Why string }

type targetCell struct {
	Type string
	ID   Text
}

// actorCell is who did it, in two lines: Name and what is known beside it.
type actorCell struct {
	Name Text
	// Mark is a word about how far Name is to be trusted; empty if it was verified.
	Mark, Help string
	Faint      bool // Name is a word of ours
	Beside     Text
}

const (
	unprovenMark = "unproven"
	unprovenHelp = "The call named this organization, and nothing proves that it came from one of its members."
)

func newActorCell(e *audit.Entry, operator bool) actorCell {
	a := &e.Actor
	if e.IsEvent() {
		return actorCell{Name: Text{Shown: "Audit log"}, Faint: true, Beside: Text{Shown: "about itself"}}
	}
	unproven := e.Membership == audit.MembershipUnproven
	if unproven && !operator {
		return actorCell{Name: Text{Shown: "Not shown"}, Faint: true, Mark: unprovenMark, Help: unprovenHelp}
	}
	c := actorCell{Beside: cell(strings.Join(slices.DeleteFunc([]string{string(a.TokenType), a.IP}, func(s string) bool { return s == "" }), " · "))}
	switch name := cmp.Or(a.Email, a.UserID, a.OAuthAppName, a.OAuthAppID, a.JWTSubject); {
	case name != "":
		c.Name = cell(name)
	case a.TokenAlias != "":
		c.Name = cell(a.TokenAlias + "…")
	case a.TokenHash != "":
		c.Name = cell("token " + clip(a.TokenHash, 12) + "…")
	default:
		c.Name, c.Faint = Text{Shown: "No credential"}, true
	}
	switch {
	case unproven:
		c.Mark, c.Help = unprovenMark, unprovenHelp
	case a.Verification == audit.VerificationNone && a.TokenType != audit.TokenNone:
		c.Mark, c.Help = "unverified", verifications[audit.VerificationNone]
	}
	return c
}

// eventOf is what an entry's action is called, and what it is in the API.
func eventOf(e *audit.Entry) (name, code string) {
	route := strings.TrimSpace(cmp.Or(e.Action.Route, e.Action.Path))
	code = cmp.Or(e.Action.Code, route)
	name = cmp.Or(e.Action.Name, nameOf(e.Action.Code), route, e.Action.Method, "Unnamed")
	if name == code {
		code = ""
	}
	return name, code
}

// nameOf makes words of an operation's id. What is none is left alone: words would hide
// what it is.
func nameOf(code string) string {
	for _, r := range code {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("_-.:", r) {
			return code
		}
	}
	return audit.ActionName(code)
}

func newRow(e *audit.Entry, v View, c clock, operator bool) row {
	e = shownTo(e, operator)
	name, code := eventOf(e)
	r := row{
		ID: e.ID, URL: v.EntryURL(e.ID), API: v.EntryAPI(e.ID), When: c.micros(e.Timestamp),
		Actor: newActorCell(e, operator), Outcome: newOutcome(e.Outcome), Method: newText(e.Action.Method, 16),
		Event: cell(name), Code: cell(code),
	}
	if e.Action.Status != 0 {
		r.Status = strconv.Itoa(e.Action.Status)
	}
	if t := e.Target; t != nil {
		r.Target = targetCell{newText(words(t.Type), 48).Shown, cell(t.ID)}
	}
	if e.Count > 1 {
		r.Calls = number(int64(e.Count))
	}
	return r
}

// shownTo is an entry as a reader may see it.
func shownTo(e *audit.Entry, operator bool) *audit.Entry {
	if operator {
		return e
	}
	s := *e.Attempt()
	s.Origin = nil
	return &s
}

// newRows puts the gaps between the entries, by the time of their ends.
func newRows(l *Log, c clock) []row {
	gaps := slices.Clone(l.Gaps)
	end := func(g Gap) time.Time {
		if g.To.IsZero() {
			return time.Unix(1<<40, 0) // still open: before all entries
		}
		return g.To
	}
	slices.SortStableFunc(gaps, func(a, b Gap) int { return end(b).Compare(end(a)) })
	rows := make([]row, 0, len(l.Entries)+len(gaps))
	for _, e := range l.Entries {
		for len(gaps) > 0 && !end(gaps[0]).Before(time.UnixMicro(e.Timestamp)) {
			rows = append(rows, newGapRow(gaps[0], c))
			gaps = gaps[1:]
		}
		rows = append(rows, newRow(e, l.View, c, l.Reader.Operator))
	}
	for _, g := range gaps {
		rows = append(rows, newGapRow(g, c))
	}
	return rows
}

func newGapRow(g Gap, c clock) row {
	r := gapRow{What: "the record may be incomplete", Why: visible(clip(g.Why, fieldText))}
	if g.Missing > 0 {
		r.What = number(g.Missing) + plural(g.Missing, " entry is missing", " entries are missing")
	}
	switch {
	case g.From.IsZero() && g.To.IsZero():
		r.When = "At a time that is not known"
	case g.From.IsZero():
		s := c.stamp(g.To)
		r.When = "Until " + s.Day + ", " + s.Clock
	case g.To.IsZero():
		s := c.stamp(g.From)
		r.When = "Since " + s.Day + ", " + s.Clock
	default:
		s := c.stamp(g.From)
		r.When = "Between " + s.Day + ", " + s.Clock + " and " + c.short(g.To, g.From)
	}
	return row{Gap: &r}
}
