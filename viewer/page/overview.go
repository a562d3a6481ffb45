package page

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// section is a group of an entry's fields.
type section struct {
	Title string
	// Note is about all of them.
	Note   string
	Fields []field
}

// field is a name and what the entry has of it.
type field struct {
	Label string
	Text  Text
	// URL is the log of those entries that have the same value; empty if there is no
	// filter for it.
	URL string
	// Note is what else there is to say, in words of ours.
	Note string
	// Code says that it is not prose, and Block that it has several lines.
	Code, Block bool
	Outcome     *outcome
	When        *stamp
}

var verifications = map[audit.Verification]string{
	audit.VerificationSignature:     "The credential's signature was checked.",
	audit.VerificationIntrospection: "A service that knows the credential named its owner.",
	audit.VerificationAsserted:      "The API named the actor.",
	audit.VerificationAccepted:      "The API accepted the credential. Whose it is nobody said.",
	audit.VerificationNone:          "Nobody checked the credential.",
}

// overview is an entry in sections, without what it does not have.
type overview struct {
	view     View
	clock    clock
	sections []section
}

func newOverview(e *audit.Entry, v View, c clock, operator bool) []section {
	o := &overview{view: v, clock: c}
	o.request(e)
	o.actor(e, operator)
	o.claimed(e.Actor.Claimed)
	o.action(e)
	o.outcome(e)
	o.kept(e)
	if operator && e.Origin != nil {
		o.section("Origin")
		o.code("Buffer", e.Origin.Instance)
		o.text("Sequence", strconv.FormatUint(e.Origin.Sequence, 10))
	}
	return slices.DeleteFunc(o.sections, func(s section) bool { return len(s.Fields) == 0 && s.Note == "" })
}

func (o *overview) section(title string) {
	o.sections = append(o.sections, section{Title: title})
}

func (o *overview) note(note string) { o.sections[len(o.sections)-1].Note = note }

// add puts a field into the section, unless it is empty.
func (o *overview) add(f field) {
	if f.Text.Shown != "" || f.Outcome != nil || f.When != nil {
		s := &o.sections[len(o.sections)-1]
		s.Fields = append(s.Fields, f)
	}
}

func (o *overview) text(label, value string) {
	o.add(field{Label: label, Text: newText(value, fieldText)})
}

func (o *overview) code(label, value string) {
	o.add(field{Label: label, Text: newText(value, fieldText), Code: true})
}

func (o *overview) time(label string, us int64) {
	if us != 0 {
		s := o.clock.micros(us)
		o.add(field{Label: label, When: &s})
	}
}

// filter adds a field that the log can be filtered by.
func (o *overview) filter(label, param, value string) {
	if value != "" {
		o.add(field{Label: label, Text: newText(value, fieldText), Code: true, URL: o.view.With(param, value).URL()})
	}
}

func (o *overview) request(e *audit.Entry) {
	o.section("Request")
	o.time("Started", e.Timestamp)
	if e.DurationUS > 0 {
		o.text("Duration", duration(e.DurationUS))
	}
	o.code("Request ID", e.RequestID)
	o.code("Trace ID", e.TraceID)
	o.code("Entry ID", e.ID)
	o.target(e.Target)
	o.filter("Project", ParamProject, e.ProjectRef)
}

func (o *overview) target(t *audit.Target) {
	if t == nil {
		return
	}
	o.filter("Target type", ParamTarget, t.Type)
	if t.ID != "" {
		id := t.ID
		if t.Type != "" {
			id = t.Type + "/" + t.ID
		}
		o.add(field{Label: "Target", Text: newText(t.ID, fieldText), Code: true, URL: o.view.With(ParamTarget, id).URL()})
	}
	o.code("Belongs to", t.Parent)
}

func (o *overview) actor(e *audit.Entry, operator bool) {
	a := &e.Actor
	o.section("Actor")
	if e.IsEvent() {
		o.note("The audit log recorded this about itself.")
		return
	}
	if e.Membership == audit.MembershipUnproven {
		o.note(unprovenHelp)
		if !operator {
			o.sections[len(o.sections)-1].Note += " Who it was is therefore shown to operators alone."
			return
		}
	}
	o.filter("Email", ParamActor, a.Email)
	o.filter("User ID", ParamActor, a.UserID)
	o.text("Kind", string(a.Kind))
	o.filter("Token type", ParamTokenType, string(a.TokenType))
	verification := field{Label: "Verification", Text: newText(string(a.Verification), fieldText), Note: verifications[a.Verification]}
	if a.VerificationReason != "" {
		verification.Note = strings.TrimSpace(verification.Note + " Reason: " + visible(clip(string(a.VerificationReason), cellText)) + ".")
	}
	o.add(verification)
	o.filter("IP address", ParamNetwork, address(a.IP))
	if a.IP != "" && address(a.IP) == "" {
		o.code("IP address", a.IP)
	}
	if a.PeerIP != a.IP {
		o.code("Peer", a.PeerIP)
	}
	o.code("User agent", a.UserAgent)
	o.code("Session ID", a.SessionID)
	o.code("Assurance", a.AAL)
	o.code("Signed in by", strings.Join(a.AMR, ", "))
	o.code("Role", a.JWTRole)
	o.code("Issuer", a.JWTIssuer)
	o.filterUnless("Subject", a.JWTSubject, a.UserID, a.OAuthAppID)
	o.text("Application", a.OAuthAppName)
	o.filterUnless("Application ID", a.OAuthAppID, a.UserID)
	o.code("On behalf of", a.OnBehalfOf)
	o.code("Named by the API", a.AssertedUserID)
	o.code("Token", a.TokenAlias)
	o.code("Token scope", a.TokenScope)
	o.filter("Token hash", ParamTokenHash, a.TokenHash)
	for _, hash := range a.OtherTokenHashes {
		o.filter("Other token hash", ParamTokenHash, hash)
	}
	if c := a.Certificate; c != nil {
		o.code("Certificate", c.Subject)
		o.code("Certificate issuer", c.Issuer)
		o.code("Certificate names", strings.Join(c.Names, ", "))
		o.code("Certificate SHA-256", c.SHA256)
	}
}

// filterUnless adds an actor's key where nothing more lasting is it, see Actor.Key.
func (o *overview) filterUnless(label, value string, more ...string) {
	if strings.Join(more, "") != "" {
		o.code(label, value)
		return
	}
	o.filter(label, ParamActor, value)
}

// address is an IP address that a filter takes; empty if the text is none.
func address(ip string) string {
	if audit.Address(ip) == nil {
		return ""
	}
	address, _, _ := strings.Cut(ip, "%")
	return address
}

func (o *overview) claimed(c *audit.Claimed) {
	if c == nil {
		return
	}
	o.section("Claimed, not verified")
	o.note("What the credential says about itself. Nobody checked it: do not take it for a fact.")
	o.code("Email", c.Email)
	o.code("Subject", c.Subject)
	o.code("User name", c.Username)
	o.code("Session ID", c.SessionID)
	o.code("Role", c.Role)
	o.code("Issuer", c.Issuer)
	o.code("Client ID", c.ClientID)
	o.code("Assurance", c.AAL)
	o.code("Project", c.Project)
}

// maxParams bounds the parameters that are shown one by one.
const maxParams = 50

func (o *overview) action(e *audit.Entry) {
	a := &e.Action
	o.section("Action")
	o.text("Name", a.Name)
	switch {
	case a.Code != "":
		o.filter("Code", ParamAction, a.Code)
	case a.Method != "":
		o.filter("Action", ParamAction, a.Method+" "+a.Route)
	}
	o.filter("Method", ParamMethod, a.Method)
	o.code("Route", a.Route)
	o.code("Path", a.Path)
	o.code("Host", a.Host)
	for i, name := range slices.Sorted(maps.Keys(a.Params)) {
		if i == maxParams {
			o.text("Parameters", number(int64(len(a.Params)-i))+" more in the JSON")
			break
		}
		o.code("Parameter "+newText(name, 48).Shown, a.Params[name])
	}
	if len(a.Metadata) > 0 {
		if b, err := json.Marshal(a.Metadata); err == nil {
			o.add(field{Label: "Recorded", Text: newJSON(b, fieldText), Code: true, Block: true})
		}
	}
}

func (o *overview) outcome(e *audit.Entry) {
	o.section("Outcome")
	is := newOutcome(e.Outcome)
	f := field{Label: "Outcome", Outcome: &is, Note: is.Help}
	if e.Outcome != "" {
		f.URL = o.view.With(ParamOutcome, string(e.Outcome)).URL()
	}
	o.add(f)
	if e.Action.Status != 0 {
		o.filter("Status", ParamStatus, strconv.Itoa(e.Action.Status))
	}
	if e.ClientGone {
		o.text("Client", "left before its answer was complete")
	}
	o.size("Request body", e.RequestBytes)
	o.size("Response body", e.ResponseBytes)
	if e.Count > 1 {
		o.text("Stands for", number(int64(e.Count))+" calls that were alike")
	}
	if e.Folded != nil {
		o.code("Network of those", e.Folded.Network)
		o.time("Counted until", e.Folded.Until)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Cut)) {
		o.add(field{Label: "Shortened", Text: newText(name, cellText), Code: true, Note: number(int64(e.Cut[name])) + " bytes as it arrived"})
	}
}

func (o *overview) size(label string, n *int64) {
	if n != nil {
		o.text(label, number(*n)+plural(*n, " byte", " bytes"))
	}
}

func (o *overview) kept(e *audit.Entry) {
	o.section("Retention")
	if r := e.Retention; r != nil {
		o.text("Class", r.Class)
		if r.KeepUntil == 0 {
			o.text("Kept until", "for ever")
		} else {
			o.time("Kept until", r.KeepUntil)
		}
		o.text("Plan", r.Plan)
		if r.Hold {
			o.text("Hold", "held: not deleted, whatever the time says")
		}
	}
	o.section("Policy")
	o.code("Rule", e.Policy.Rule)
	o.text("Level", string(e.Policy.Level))
	o.text("Durability", string(e.Policy.Durability))
	o.code("Configuration", e.Policy.ConfigHash)
}
