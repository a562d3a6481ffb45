package oracle

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// Problems are examples for people of what a verdict counts.
type Problems struct{ lines []string }

// Note counts a problem and notes it; a flood of one sort is cut.
func (p *Problems) Note(count *int, format string, args ...any) {
	if *count++; *count <= 5 {
		p.Add(format, args...)
	}
}

// Add notes a problem that is not counted.
func (p *Problems) Add(format string, args ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

// Join adds those of another comparison, each with a word before it.
func (p *Problems) Join(other *Problems, before string) {
	for _, line := range other.lines {
		p.Add("%s%s", before, line)
	}
}

// Report writes them down.
func (p *Problems) Report(w io.Writer) {
	for _, line := range p.lines {
		fmt.Fprintln(w, "problem:", line)
	}
}

// WrongFields says how an entry describes its call wrongly, or nothing.
func (c *Call) WrongFields(id string, e rig.Entry) string {
	if e.Action.Method == c.Kind.Method && e.Action.Route == c.Kind.Template && e.Target.Type == c.Kind.Target && e.ProjectRef == c.Kind.Project(id) {
		return ""
	}
	return fmt.Sprintf("call %s: stored as %s %s on %s of project %q", id, e.Action.Method, e.Action.Route, e.Target.Type, e.ProjectRef)
}

// Rules say what a comparison allows.
type Rules struct {
	// Deaths says that the build was killed, so that what it had in hand may be
	// unknown or, of a read, lost.
	Deaths bool
	// Pass says that calls may reach the API unrecorded. Nothing is withheld
	// then.
	Pass bool
}

// Withheld is the status that the API had answered to a read, if its entry
// says that this answer never left, and zero otherwise.
func Withheld(e rig.Entry) int {
	var m struct {
		Withheld int `json:"withheld"`
	}
	if json.Unmarshal(e.Action.Metadata, &m) != nil { // absent, or another shape
		return 0
	}
	return m.Withheld
}

// Recorded says whether a call's entry counts as recorded. Of a refused call
// it does not, but for a read whose answer was withheld.
func Recorded(e rig.Entry) bool { return e.Outcome != "refused" || Withheld(e) != 0 }

// Excused says whether a call that was refused may have reached the API: a
// read may, whose outcome the disk did not take, and then its entry says so.
// Without an entry that is only known to have died with the build if it had
// waited for the disk.
func (c *Call) Excused(found []rig.Entry, r Rules) bool {
	switch {
	case !c.Kind.Read() || r.Pass:
		return false
	case len(found) == 0:
		return r.Deaths && c.Late
	}
	return Withheld(found[0]) != 0 || r.Deaths && c.Late
}

// ends says whether an entry's status is what the API answered.
func (c *Call) ends(status int) bool {
	return c.Reached && (status == c.API || c.API == 0 && status >= 500) // it broke the connection
}

// WrongStatus says how an entry's end of the call differs from what happened,
// or nothing.
func (c *Call) WrongStatus(id string, e rig.Entry, r Rules) string {
	status, outcome := e.Action.Status, e.Outcome
	withheld := Withheld(e)
	var why string
	switch {
	case withheld != 0 && (c.Acked() || !c.Kind.Read() || r.Pass):
		why = "was not to be withheld"
	case withheld != 0:
		if outcome != "refused" || status != 503 || !c.ends(withheld) {
			why = fmt.Sprintf("was withheld; reached the API: %t, which answered %d, not %d", c.Reached, c.API, withheld)
		}
	case outcome == "unknown" && r.Deaths && (!c.Acked() || c.Late):
		// What was known of its end died with the build.
	case c.Refused && c.Reached && c.Excused([]rig.Entry{e}, r) && c.ends(status) && outcome == rig.OutcomeOf(status):
		// That it was withheld died with the build, and its outcome did not.
	case c.Refused:
		if outcome != "refused" {
			why = "was refused"
		}
	case c.Acked():
		if status != c.Status || outcome != rig.OutcomeOf(c.Status) {
			why = fmt.Sprintf("was answered with %d", c.Status)
		}
		if c.Reached && c.API != 0 && c.API != c.Status {
			why = fmt.Sprintf("was answered with %d, although the API answered %d", c.Status, c.API)
		}
	case c.ends(status) && outcome == rig.OutcomeOf(status):
		// The answer was recorded and did not get to the client.
	case !c.Reached && (status == 499 || status >= 500) && outcome == "failure":
		// The product gave up before the API; nothing was done.
	case !c.Reached && outcome == "refused":
		// It was declined, and the client had gone.
	default:
		why = fmt.Sprintf("got no answer; reached the API: %t, which answered %d", c.Reached, c.API)
	}
	if why != "" {
		why = fmt.Sprintf("call %s (%s) %s, and is stored with status %d, outcome %q, revision %d", id, c, why, status, outcome, e.Revision)
	}
	return why
}

// Gap is what an entry tells of calls that went by unrecorded.
type Gap struct {
	Reason string    `json:"reason"`
	Cause  string    `json:"cause"`
	Count  uint64    `json:"count"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// PassedGap reads one that tells of calls which on_fault let pass. wrong says
// what makes it another one, or nothing.
func PassedGap(e rig.Entry, r Rules) (g Gap, wrong string) {
	switch err := json.Unmarshal(e.Action.Metadata, &g); {
	case err != nil:
		wrong = err.Error()
	case !r.Pass:
		wrong = "nothing was to pass"
	case g.Reason != "passed":
		wrong = "nothing else was to be lost"
	case g.Cause != "full" && g.Cause != "failing" && g.Cause != "slow":
		wrong = "its cause is unknown"
	case g.Count == 0:
		wrong = "it counts nothing, although nothing was killed"
	case g.Since.IsZero() || g.Until.Before(g.Since):
		wrong = "it has no beginning and end"
	}
	return g, wrong
}

// Sequences checks that no number is used twice, that none lies outside the
// buffer's range, and that what is absent from the export was superseded: an
// entry is written again only after its call was open for long, or when a
// later revision changed it, and each such entry explains the absence of as
// many numbers as it had earlier revisions. It returns how many errors there
// are.
func Sequences(calls map[string]*Call, entries []rig.Entry, head uint64, p *Problems) (errors int) {
	seen := map[uint64]string{}
	instance := ""
	var explained uint64
	for _, e := range entries {
		if e.Origin == nil {
			p.Note(&errors, "entry %s has no origin", e.ID)
			continue
		}
		if instance == "" {
			instance = e.Origin.Instance
		}
		n := e.Origin.Sequence
		switch {
		case e.Origin.Instance != instance:
			p.Note(&errors, "entry %s is of another instance, although no disk was lost: %s and %s", e.ID, instance, e.Origin.Instance)
			continue
		case n == 0 || n > head:
			p.Note(&errors, "entry %s has sequence %d, the head is %d", e.ID, n, head)
			continue
		case seen[n] != "":
			p.Note(&errors, "entries %s and %s share sequence %d", seen[n], e.ID, n)
			continue
		}
		seen[n] = e.ID
		explained += superseded(e, calls[e.TargetID()])
	}
	absent := head - uint64(len(seen))
	if absent <= explained {
		return errors
	}
	for n := uint64(1); n <= head; n++ {
		if seen[n] == "" {
			p.Add("sequence %d is the first that is absent; %d are, and revisions explain %d", n, absent, explained)
			break
		}
	}
	return errors + int(absent-explained)
}

// pendingAfter is when an open call is first written. The product measures a
// call's age a little differently, hence the second less.
const pendingAfter = 29 * time.Second

// superseded is how many earlier entries of the same call may have been
// written: its earlier answers, and that it was pending.
func superseded(e rig.Entry, c *Call) uint64 {
	n := uint64(max(0, e.Revision-1))
	took := time.Duration(e.RecordedAt-e.Timestamp) * time.Microsecond
	if e.Revision >= 0 && (took >= pendingAfter || c != nil && c.Held >= pendingAfter) {
		n++
	}
	return n
}

// Unequal says how two exports differ in their calls. The product's own
// events go on between them.
func Unequal(a, b []rig.Entry) string {
	index := map[string]rig.Entry{}
	for _, e := range a {
		if !e.Event() {
			index[e.ID] = e
		}
	}
	calls := 0
	for _, e := range b {
		if e.Event() {
			continue
		}
		calls++
		if first, ok := index[e.ID]; !ok {
			return fmt.Sprintf("only the second has entry %s", e.ID)
		} else if first.Sum != e.Sum {
			return fmt.Sprintf("entry %s is not the same line in both", e.ID)
		}
	}
	if calls != len(index) {
		return fmt.Sprintf("%d calls and %d calls", len(index), calls)
	}
	return ""
}
