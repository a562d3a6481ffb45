package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// result is what one build did: ours, or the control.
type result struct {
	Calls    int `json:"calls"`
	Answered int `json:"answered"`
	// Failed is the sum of the seven below.
	Failed int `json:"failed"`
	// Refused were declined by the product.
	Refused int `json:"refused"`
	// WrongAnswers differ from the API's, or are none of its.
	WrongAnswers int `json:"wrong_answers"`
	// Cut answers began and did not end.
	Cut int `json:"cut"`
	// Lost calls reached the API or are stored, and no byte of an answer came.
	Lost int `json:"lost"`
	Hung int `json:"hung"`
	// Repeated calls reached the API more than once, or without being sent.
	Repeated int `json:"repeated"`
	// Unreachable are connections that were not made, but for those that a
	// listener took and gave up.
	Unreachable int `json:"unreachable"`
	// TransportResets are connections that broke before the first byte of an
	// answer to a call that the API never got and that left no entry. Caddy
	// closes idle connections when it reloads, and the backlog of a listener
	// that it closes; a call that is on its way there meets nobody. No call is
	// both here and in Failed.
	TransportResets resets `json:"transport_resets"`

	Reloads int `json:"reloads"`
	Changes int `json:"changes"`
	Invalid int `json:"invalid"`
	// WrongReloads were refused and should not have been, or the reverse, or
	// for another reason.
	WrongReloads    int   `json:"wrong_reloads"`
	SlowestReloadMS int64 `json:"slowest_reload_ms"`
	// Start is counted before any call, Before after the warm-up, After at the
	// end; each time without a call or a connection.
	Start  resources `json:"start"`
	Before resources `json:"before"`
	After  resources `json:"after"`

	*records `json:",omitempty"` // the control has none

	mayRevert int
	problems  []string
}

type resets struct {
	Reused int `json:"reused"` // on connections that had carried calls
	Fresh  int `json:"fresh"`
	// Unconnected were reset while they were made, so that no call was sent.
	Unconnected int `json:"unconnected"`
}

func (r resets) sum() int { return r.Reused + r.Fresh + r.Unconnected }

// records are what the product stored.
type records struct {
	Stored int `json:"stored"`
	// Missing were answered and are not stored.
	Missing int `json:"missing"`
	// Unrecorded reached the API and are not stored.
	Unrecorded int `json:"unrecorded"`
	// Duplicates are calls with more than one entry, and entries that are
	// exported twice.
	Duplicates int `json:"duplicates"`
	// WrongEntries say something else than what happened, or belong to no
	// call.
	WrongEntries int `json:"wrong_entries"`
	// SequenceErrors are numbers that are used twice or by nothing.
	SequenceErrors int `json:"sequence_errors"`
	// Gaps are losses that the product reports itself.
	Gaps int `json:"gaps"`
	// PolicyChanges are the reloads that changed what is recorded and were
	// taken. ConfigChanged are the entries that say so, but for Reverted pairs:
	// an invalid configuration that had begun, and the one before again.
	PolicyChanges int `json:"policy_changes"`
	ConfigChanged int `json:"config_changed"`
	Reverted      int `json:"reverted"`
	// WrongChanges are such entries that do not begin where the last one
	// ended, or more reverts than invalid configurations that could begin.
	WrongChanges  int  `json:"wrong_changes"`
	Conserved     bool `json:"conserved"`
	CountersAgree bool `json:"counters_agree"`
}

// problem notes an example for people; a flood of one sort is cut.
func (r *result) problem(count *int, format string, args ...any) {
	if *count++; *count <= 5 {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// count sums up how the calls ended. stored says whether a call left an entry.
func (r *result) count(o *oracle, stored func(n int) bool) {
	r.Calls, r.Repeated = len(o.calls), o.unasked
	for _, err := range o.unconnected {
		if errors.Is(err, syscall.ECONNRESET) {
			r.TransportResets.Unconnected++
			continue
		}
		r.problem(&r.Unreachable, "a connection was not made: %v", err)
	}
	for n, c := range o.calls {
		if c.times > 1 {
			r.problem(&r.Repeated, "call %d reached the API %d times", n, c.times)
		}
		switch c.end {
		case answered:
			if r.Answered++; c.times == 0 || c.status != c.api {
				r.problem(&r.WrongAnswers, "call %d was answered with %d; the API got it %d times and said %d", n, c.status, c.times, c.api)
			}
		case refused:
			r.problem(&r.Refused, "call %d was refused; the API got it %d times", n, c.times)
		case foreign:
			r.problem(&r.WrongAnswers, "call %d got an answer of %d that is not the API's", n, c.status)
		case cut:
			r.problem(&r.Cut, "the answer to call %d was cut", n)
		case hung, open:
			r.problem(&r.Hung, "call %d got no answer within %s; the API got it %d times", n, answerTimeout, c.times)
		case brokenReused, brokenFresh:
			switch {
			case c.times > 0 || stored(n):
				r.problem(&r.Lost, "call %d got no answer; the API got it %d times; stored: %t", n, c.times, stored(n))
			case c.end == brokenReused:
				r.TransportResets.Reused++
			default:
				r.TransportResets.Fresh++
			}
		}
	}
	r.Failed = r.Refused + r.WrongAnswers + r.Cut + r.Lost + r.Hung + r.Repeated + r.Unreachable
}

// compare holds the stored entries against what the oracle saw, and counts.
func (r *result) compare(o *oracle, entries []rig.Entry, delivered uint64) {
	found := map[string][]rig.Entry{}
	ids := map[string]bool{}
	var events []rig.Entry
	for _, e := range entries {
		if ids[e.ID] {
			r.problem(&r.Duplicates, "entry %s is exported twice", e.ID)
			continue
		}
		ids[e.ID] = true
		if e.Event() {
			events = append(events, e)
			continue
		}
		found[e.TargetID()] = append(found[e.TargetID()], e)
	}
	r.Stored = len(found)
	strangers := len(found)
	for n, c := range o.calls {
		of := found[slug(n)]
		if len(of) > 0 {
			strangers--
		}
		r.check(n, c, of)
	}
	if strangers > 0 {
		r.problem(&r.WrongEntries, "entries belong to %d calls that nobody sent", strangers)
	}
	r.count(o, func(n int) bool { return len(found[slug(n)]) > 0 })
	r.events(events)
	r.sequences(entries, delivered)
}

// check holds a call against its entries. Nothing was killed, so that a read
// that reached the API has an entry too.
func (r *result) check(n int, c call, found []rig.Entry) {
	switch {
	case len(found) > 1:
		r.problem(&r.Duplicates, "call %d has %d entries: %s, %s", n, len(found), found[0].ID, found[1].ID)
	case len(found) == 0 && c.end == answered:
		r.problem(&r.Missing, "call %d was answered with %d and is not stored", n, c.status)
	}
	if len(found) == 0 && c.times > 0 {
		r.problem(&r.Unrecorded, "call %d reached the API and is not stored", n)
	}
	if len(found) == 0 || c.end != answered {
		return // what else is wrong with it has failed
	}
	e := found[0]
	if e.Action.Method != c.method || e.Action.Route != template || e.Target.Type != target || e.ProjectRef != project ||
		e.Action.Status != c.status || e.Outcome != rig.OutcomeOf(c.status) {
		r.problem(&r.WrongEntries, "call %d (%s, answered with %d) is stored as %s %s with %d, %s, on %s of project %q",
			n, c.method, c.status, e.Action.Method, e.Action.Route, e.Action.Status, e.Outcome, e.Target.Type, e.ProjectRef)
	}
}

// events checks that each change of the policy is told, once and in order.
//
// Each entry leads from one policy to another, known by their hashes, and must
// begin where the last one ended. No setting ever gets a value that it had
// before, so that a change never leads to a policy that was in force before:
// an entry that does undoes the one before it, and both together are an invalid
// configuration that had begun when Caddy gave it up.
func (r *result) events(events []rig.Entry) {
	slices.SortFunc(events, func(a, b rig.Entry) int { return cmp.Compare(sequence(a), sequence(b)) })
	var trail []string // the hashes, without what was reverted
	for _, e := range events {
		var facts struct {
			From    string `json:"from"`
			To      string `json:"to"`
			Started string `json:"config_hash"`
		}
		err := json.Unmarshal(e.Action.Metadata, &facts)
		switch e.Action.Code {
		case "audit.gap":
			r.problem(&r.Gaps, "the product reports a gap: entry %s", e.ID)
		case "audit.started":
			if trail = append(trail, facts.Started); len(trail) > 1 || err != nil {
				r.problem(&r.WrongChanges, "audit.started %s is not the first, or cannot be read: %v", e.ID, err)
			}
		case "audit.config_changed":
			switch last := len(trail) - 1; {
			case err != nil || last < 0 || facts.From != trail[last]:
				r.problem(&r.WrongChanges, "audit.config_changed %s leads from %q, but the policy in force was another one: %v", e.ID, facts.From, err)
			case last > 0 && facts.To == trail[last-1]:
				trail = trail[:last]
				r.Reverted++
			case slices.Contains(trail, facts.To):
				r.problem(&r.WrongChanges, "audit.config_changed %s leads back to the old policy %q", e.ID, facts.To)
			default:
				trail = append(trail, facts.To)
			}
		}
	}
	r.ConfigChanged = max(0, len(trail)-1)
	if r.Reverted > r.mayRevert {
		r.problem(&r.WrongChanges, "%d changes of the policy were reverted, and only %d invalid configurations could begin", r.Reverted, r.mayRevert)
	}
	if r.ConfigChanged != r.PolicyChanges {
		r.problem(&r.WrongChanges, "%d reloads changed the policy, and %d entries say so", r.PolicyChanges, r.ConfigChanged)
	}
}

func sequence(e rig.Entry) uint64 {
	if e.Origin == nil {
		return 0
	}
	return e.Origin.Sequence
}

// sequences checks that every number up to delivered is used once. A later
// revision has taken the place of an earlier one in the export.
func (r *result) sequences(entries []rig.Entry, delivered uint64) {
	seen := map[uint64]bool{}
	var superseded uint64
	for _, e := range entries {
		n := sequence(e)
		if n == 0 || n > delivered || seen[n] {
			r.problem(&r.SequenceErrors, "entry %s has sequence %d, which is out of range or used twice; %d are delivered", e.ID, n, delivered)
			continue
		}
		seen[n] = true
		superseded += uint64(max(0, e.Revision-1))
	}
	if absent := delivered - uint64(len(seen)); absent > superseded {
		r.problem(&r.SequenceErrors, "%d sequence numbers are absent, and revisions explain %d", absent, superseded)
	}
}

// counters holds the product's own count against its export.
func (r *result) counters(entries []rig.Entry, st rig.Status) {
	recorded := uint64(0)
	for _, e := range entries {
		if !e.Event() && e.Outcome != "refused" {
			recorded++
		}
	}
	r.CountersAgree = st.Calls.Recorded == recorded
	if !r.CountersAgree {
		r.problems = append(r.problems, fmt.Sprintf("the product counts %d recorded calls and exports %d: %s", st.Calls.Recorded, recorded, st.Raw))
	}
}

// verdict is the program's last line.
type verdict struct {
	Ours  *result `json:"ours"`
	Plain *result `json:"plain"`
	// LikePlain says that ours broke not many more connections than plain
	// Caddy. How many break depends on how busy the machine is at that moment:
	// the same build has twice as many in one run as in another.
	LikePlain bool `json:"like_plain"`
	Held      bool `json:"held"`
}

func (v *verdict) judge() {
	o := v.Ours
	v.LikePlain = o.TransportResets.sum() <= 2*v.Plain.TransportResets.sum()+10
	v.Held = v.LikePlain && o.Answered > 0 && o.Invalid > 0 && v.Plain.Answered > 0 &&
		o.Failed+o.WrongReloads+v.Plain.WrongReloads == 0 && o.After.within(o.Before) &&
		o.Missing+o.Unrecorded+o.Duplicates+o.WrongEntries+o.SequenceErrors+o.Gaps+o.WrongChanges == 0 &&
		o.Conserved && o.CountersAgree
}
