package attack

import (
	"fmt"
	"io"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// Verdict is what a comparison found. The fields from Missing on are 0 when
// the promise held.
type Verdict struct {
	Acked   int `json:"acked"`
	Reached int `json:"reached"`
	Refused int `json:"refused"`
	// Late were answered after max_wait or longer.
	Late   int `json:"late"`
	Stored int `json:"stored"`
	// Unknown are stored calls whose end nobody could record.
	Unknown int `json:"unknown"`
	// ReadsLost are reads that reached the API, were not answered and left no
	// entry: a read has no intent, so this is allowed when the build dies.
	ReadsLost int    `json:"reads_lost"`
	Head      uint64 `json:"head"`
	// Passed are calls that reached the API and are not stored, as on_fault
	// pass allows. Every one must be in a gap; see PassedWrong.
	Passed int `json:"passed"`

	// Missing were answered and are not stored. Of them, LateReads are reads
	// that were answered after max_wait.
	Missing   int `json:"missing"`
	LateReads int `json:"late_reads"`
	// Unrecorded are changing calls that reached the API and are not stored, and
	// reads too if nothing died.
	Unrecorded int `json:"unrecorded"`
	// Duplicates are ids that are stored in more than one entry.
	Duplicates int `json:"duplicates"`
	// SequenceErrors are numbers that are used twice, lie outside the buffer's
	// range, or are missing without a revision that explains it.
	SequenceErrors int `json:"sequence_errors"`
	// WrongStatus are entries with another status or outcome than what
	// happened; WrongFields those with another route, target or project.
	WrongStatus int `json:"wrong_status"`
	WrongFields int `json:"wrong_fields"`
	// RefusedReached were declined by the product and reached the API, but for
	// reads that were declined after max_wait.
	RefusedReached int `json:"refused_reached"`
	// Strangers are entries of calls that nobody sent.
	Strangers int `json:"strangers"`
	// Gaps are losses that the product itself reports, but for calls that were
	// passed.
	Gaps int `json:"gaps"`
	// Hangs are answers that did not come although the build lived.
	Hangs int `json:"hangs"`
	// CountersWrong is by how much the product's own counts differ from what it
	// exports.
	CountersWrong int `json:"counters_wrong"`
	// PassedWrong is by how much the product's gaps and its count of passed
	// calls differ from what passed.
	PassedWrong int `json:"passed_wrong"`
	// Unconserved is how often the equations did not hold.
	Unconserved int `json:"unconserved"`

	problems []string
}

// Held says whether the promise held, and that there was something to hold.
func (v *Verdict) Held() bool {
	return v.Missing+v.LateReads+v.Unrecorded+v.Duplicates+v.SequenceErrors+v.WrongStatus+v.WrongFields+
		v.RefusedReached+v.Strangers+v.Gaps+v.Hangs+v.CountersWrong+v.PassedWrong+v.Unconserved == 0 && v.Acked > 0
}

// Problem counts a fault and notes an example for people; a flood of one sort
// is cut.
func (v *Verdict) Problem(count *int, format string, args ...any) {
	if *count++; *count <= 5 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

// Report prints the examples.
func (v *Verdict) Report(w io.Writer) {
	for _, p := range v.problems {
		fmt.Fprintln(w, "problem:", p)
	}
}

// Conserved holds the equations of a status.
func (v *Verdict) Conserved(st rig.Status, when string) {
	for _, b := range st.Broken() {
		v.Problem(&v.Unconserved, "not conserved %s: %s: %s", when, b, st.Raw)
	}
}

// Rules say what a comparison allows.
type Rules struct {
	// Deaths says that the build was killed, so that what it had in hand may be
	// unknown.
	Deaths bool
	// Pass says that calls may reach the API unrecorded.
	Pass bool
}

// Compare holds the exported entries of a drained, stopped build against what
// happened.
func (v *Verdict) Compare(w *Witness, entries []rig.Entry, st rig.Status, r Rules) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.Hangs, v.Strangers = w.timeouts, w.unasked
	// The product's last entry, that it stopped, is made after delivery has ended
	// and waits for the next start.
	v.Head = st.Head
	for _, s := range st.Stores {
		v.Head = min(v.Head, s.Position)
	}
	if st.Head-v.Head > 1 {
		v.Problem(&v.SequenceErrors, "the head is %d and only %d entries were delivered before the end", st.Head, v.Head)
	}
	stored := map[string][]rig.Entry{}
	ids := map[string]bool{}
	recorded, passed := uint64(0), uint64(0)
	for _, e := range entries {
		if ids[e.ID] {
			v.Problem(&v.Duplicates, "entry %s is exported twice", e.ID)
			continue
		}
		ids[e.ID] = true
		switch {
		case e.Action.Code == "audit.gap":
			passed += v.gap(e, r)
		case e.Event():
		case w.calls[e.TargetID()] == nil:
			v.Problem(&v.Strangers, "entry %s (%s %s, target %q) belongs to no call", e.ID, e.Action.Method, e.Action.Route, e.TargetID())
		default:
			stored[e.TargetID()] = append(stored[e.TargetID()], e)
			if e.Outcome != "refused" { // counted as refused
				recorded++
			}
		}
	}
	v.Stored = len(stored)
	for id, c := range w.calls {
		v.count(id, c)
		switch found := stored[id]; {
		case len(found) == 0:
			v.absent(id, c, r)
		case len(found) > 1:
			v.Problem(&v.Duplicates, "call %s has %d entries: %s, %s", id, len(found), found[0].ID, found[1].ID)
		default:
			v.check(id, c, found[0], r)
		}
	}
	v.sequences(entries)
	if st.Calls.Recorded != recorded {
		v.CountersWrong += distance(st.Calls.Recorded, recorded)
		v.problems = append(v.problems, fmt.Sprintf("the product counts %d recorded calls and exports %d: %s", st.Calls.Recorded, recorded, st.Raw))
	}
	if n := uint64(v.Passed); st.Calls.Passed != n || passed != n {
		v.PassedWrong += distance(st.Calls.Passed, n) + distance(passed, n)
		v.problems = append(v.problems, fmt.Sprintf("%d calls passed unrecorded; the product counts %d and its gaps name %d", n, st.Calls.Passed, passed))
	}
}

func distance(a, b uint64) int { return int(max(a, b) - min(a, b)) }

func (v *Verdict) count(id string, c *Call) {
	if c.Acked() {
		v.Acked++
	}
	if c.Reached {
		v.Reached++
	}
	if c.Late && c.Acked() {
		v.Late++
	}
	if c.Refused {
		v.Refused++
		if c.Reached && !c.withheld() {
			v.Problem(&v.RefusedReached, "call %s (%s) was refused and reached the API", id, c.Phase)
		}
	}
}

func (v *Verdict) absent(id string, c *Call, r Rules) {
	switch {
	case r.Pass && c.Reached:
		v.Passed++
		return
	case c.Acked() && c.Late && c.Kind.read():
		v.Problem(&v.LateReads, "read %s (%s) was answered with %d after max_wait and is not stored", id, c.Phase, c.Status)
	case c.Acked():
		v.Problem(&v.Missing, "call %s (%s %s, %s) was answered with %d and is not stored", id, c.Kind.Method, c.Kind.Template, c.Phase, c.Status)
	}
	switch {
	case !c.Reached:
	case !c.Kind.read(), !c.Acked() && !r.Deaths:
		v.Problem(&v.Unrecorded, "call %s (%s %s, %s) reached the API and is not stored", id, c.Kind.Method, c.Kind.Template, c.Phase)
	case !c.Acked():
		v.ReadsLost++
	}
}

// check holds one entry against its call.
func (v *Verdict) check(id string, c *Call, e rig.Entry, r Rules) {
	if e.Action.Method != c.Kind.Method || e.Action.Route != c.Kind.Template || e.Target.Type != c.Kind.Target || e.ProjectRef != c.Kind.project(id) {
		v.Problem(&v.WrongFields, "call %s: stored as %s %s on %s of project %q", id, e.Action.Method, e.Action.Route, e.Target.Type, e.ProjectRef)
	}
	status, outcome := e.Action.Status, e.Outcome
	if outcome == "unknown" {
		v.Unknown++
	}
	var why string
	switch {
	case outcome == "unknown" && r.Deaths && (!c.Acked() || c.Late):
		// What was known of its end died with the process.
	case c.withheld() && c.Reached && (c.API == 0 || status == c.API && outcome == rig.OutcomeOf(status)):
		// The disk answered later, and its record was made.
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
	case c.Reached && c.API != 0 && status == c.API && outcome == rig.OutcomeOf(status):
		// The answer was recorded and did not get to the client.
	case c.Reached && c.API == 0 && status >= 500 && outcome == "failure":
		// The API broke the connection.
	case !c.Reached && (status == 499 || status >= 500) && outcome == "failure":
		// The product gave up before the API; nothing was done.
	case !c.Reached && outcome == "refused":
		// It was declined, and the client had gone.
	default:
		why = fmt.Sprintf("got no answer; reached the API: %t, which answered %d", c.Reached, c.API)
	}
	if why != "" {
		v.Problem(&v.WrongStatus, "call %s (%s) %s, and is stored with status %d, outcome %q, revision %d", id, c.Phase, why, status, outcome, e.Revision)
	}
}

// pendingAfter is when an open call is first written. The product measures a
// call's age a little differently, hence the second less.
const pendingAfter = 29 * time.Second

// sequences checks that no number is used twice, that none lies outside the
// buffer's range, and that what is absent from the export was superseded by
// later revisions.
func (v *Verdict) sequences(entries []rig.Entry) {
	seen := map[uint64]string{}
	instance := ""
	var explained uint64
	for _, e := range entries {
		if e.Origin == nil {
			v.Problem(&v.SequenceErrors, "entry %s has no origin", e.ID)
			continue
		}
		if instance == "" {
			instance = e.Origin.Instance
		}
		n := e.Origin.Sequence
		switch {
		case e.Origin.Instance != instance:
			v.Problem(&v.SequenceErrors, "entry %s is of another instance, although no disk was lost: %s and %s", e.ID, instance, e.Origin.Instance)
			continue
		case n == 0 || n > v.Head:
			v.Problem(&v.SequenceErrors, "entry %s has sequence %d, the head is %d", e.ID, n, v.Head)
			continue
		case seen[n] != "":
			v.Problem(&v.SequenceErrors, "entries %s and %s share sequence %d", seen[n], e.ID, n)
			continue
		}
		seen[n] = e.ID
		explained += uint64(max(0, e.Revision-1))
		if e.Revision >= 0 && time.Duration(e.RecordedAt-e.Timestamp)*time.Microsecond >= pendingAfter {
			explained++
		}
	}
	absent := v.Head - uint64(len(seen))
	if absent <= explained {
		return
	}
	for n := uint64(1); n <= v.Head; n++ {
		if seen[n] == "" {
			v.problems = append(v.problems, fmt.Sprintf("sequence %d is the first that is absent; %d are, and revisions explain %d", n, absent, explained))
			break
		}
	}
	v.SequenceErrors += int(absent - explained)
}
