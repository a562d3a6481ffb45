package main

import (
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// verdict is what a run found; it is the program's last line. The fields from
// Missing on are 0 (and the last three true) when the promise held.
type verdict struct {
	Seed  uint64 `json:"seed"`
	Kills int    `json:"kills"`
	Stops int    `json:"stops"`
	// Reloads were taken; KillsInReloads found one under way.
	Reloads        int `json:"reloads"`
	KillsInReloads int `json:"kills_in_reloads"`
	Acked          int `json:"acked"`
	Reached        int `json:"reached"`
	Refused        int `json:"refused"`
	Stored         int `json:"stored"`
	// Unknown are stored calls whose end nobody could record.
	Unknown int `json:"unknown"`
	// ReadsLost are reads that reached the API, were not answered and left no
	// entry: a read has no intent, so this is allowed.
	ReadsLost int    `json:"reads_lost"`
	Head      uint64 `json:"head"`

	// Missing were answered and are not stored.
	Missing int `json:"missing"`
	// Unrecorded are changing calls that reached the API and are not stored.
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
	// RefusedReached were declined by the product and reached the API.
	RefusedReached int `json:"refused_reached"`
	// Strangers are entries of calls that nobody sent.
	Strangers int `json:"strangers"`
	// Gaps are losses that the product itself reports.
	Gaps int `json:"gaps"`
	// Hangs are answers that did not come although nothing was killed.
	Hangs int `json:"hangs"`
	// WrongReloads were not taken although nothing was killed.
	WrongReloads int `json:"wrong_reloads"`
	// Conserved says that the equations held after every start.
	Conserved bool `json:"conserved"`
	// CountersAgree says that the product counts as many recorded calls as it
	// exports.
	CountersAgree bool `json:"counters_agree"`
	// OfflineEqual says that the export of the stopped product is the one of
	// the running product.
	OfflineEqual bool `json:"offline_equal"`

	problems []string
}

func (v *verdict) held() bool {
	return v.Missing+v.Unrecorded+v.Duplicates+v.SequenceErrors+v.WrongStatus+v.WrongFields+
		v.RefusedReached+v.Strangers+v.Gaps+v.Hangs+v.WrongReloads == 0 &&
		v.Conserved && v.CountersAgree && v.OfflineEqual && v.Acked > 0
}

// problem notes an example for people; a flood of one sort is cut.
func (v *verdict) problem(count *int, format string, args ...any) {
	if *count++; *count <= 5 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

// compare holds the stored entries against what the oracle saw.
func (v *verdict) compare(calls map[string]*call, entries []rig.Entry, head uint64) {
	v.Head = head
	stored := map[string][]rig.Entry{}
	ids := map[string]bool{}
	for _, e := range entries {
		if ids[e.ID] {
			v.problem(&v.Duplicates, "entry %s is exported twice", e.ID)
			continue
		}
		ids[e.ID] = true
		if e.Event() {
			if e.Action.Code == "audit.gap" {
				v.problem(&v.Gaps, "the product reports a gap: entry %s", e.ID)
			}
			continue
		}
		if calls[e.TargetID()] == nil {
			v.problem(&v.Strangers, "entry %s (%s %s, target %q) belongs to no call", e.ID, e.Action.Method, e.Action.Route, e.TargetID())
			continue
		}
		stored[e.TargetID()] = append(stored[e.TargetID()], e)
	}
	v.Stored = len(stored)
	for id, c := range calls {
		v.count(id, c)
		switch found := stored[id]; {
		case len(found) == 0:
			v.absent(id, c)
		case len(found) > 1:
			v.problem(&v.Duplicates, "call %s has %d entries: %s, %s", id, len(found), found[0].ID, found[1].ID)
		default:
			v.check(id, c, found[0])
		}
	}
	v.sequences(calls, entries, head)
}

func (v *verdict) count(id string, c *call) {
	if c.acked() {
		v.Acked++
	}
	if c.reached {
		v.Reached++
	}
	if c.refused {
		v.Refused++
		if c.reached {
			v.problem(&v.RefusedReached, "call %s was refused and reached the API", id)
		}
	}
}

func (v *verdict) absent(id string, c *call) {
	if c.acked() {
		v.problem(&v.Missing, "call %s (%s %s) was answered with %d and is not stored", id, c.kind.Method, c.kind.Template, c.status)
	}
	if !c.reached {
		return
	}
	if c.kind.read() {
		v.ReadsLost++
		return
	}
	v.problem(&v.Unrecorded, "call %s (%s %s) reached the API and is not stored", id, c.kind.Method, c.kind.Template)
}

// check holds one entry against its call.
func (v *verdict) check(id string, c *call, e rig.Entry) {
	if e.Action.Method != c.kind.Method || e.Action.Route != c.kind.Template || e.Target.Type != c.kind.Target || e.ProjectRef != c.kind.project(id) {
		v.problem(&v.WrongFields, "call %s: stored as %s %s on %s of project %q", id, e.Action.Method, e.Action.Route, e.Target.Type, e.ProjectRef)
	}
	status, outcome := e.Action.Status, e.Outcome
	if outcome == "unknown" {
		v.Unknown++
	}
	var why string
	switch {
	case c.refused:
		if outcome != "refused" {
			why = "was refused"
		}
	case c.acked():
		if status != c.status || outcome != rig.OutcomeOf(c.status) {
			why = fmt.Sprintf("was answered with %d", c.status)
		}
		if c.reached && c.api != 0 && c.api != c.status {
			why = fmt.Sprintf("was answered with %d, although the API answered %d", c.status, c.api)
		}
	case outcome == "unknown":
		// Nobody read an answer, so nothing contradicts it.
	case c.reached && c.api != 0 && status == c.api && outcome == rig.OutcomeOf(status):
		// The answer was recorded and did not get to the client.
	case c.reached && c.api == 0 && status >= 500 && outcome == "failure":
		// The API broke the connection.
	case !c.reached && (status == 499 || status >= 500) && outcome == "failure":
		// The product gave up before the API; nothing was done.
	default:
		why = fmt.Sprintf("got no answer; reached the API: %t, which answered %d", c.reached, c.api)
	}
	if why != "" {
		v.problem(&v.WrongStatus, "call %s %s, and is stored with status %d, outcome %q, revision %d", id, why, status, outcome, e.Revision)
	}
}

// sequences checks that no number is used twice, that none lies outside the
// buffer's range, and that what is absent from the export was superseded: an
// entry is written again only after its call was open for long, or when a
// later revision changed it, and each such entry explains the absence of as
// many numbers as it had earlier revisions.
func (v *verdict) sequences(calls map[string]*call, entries []rig.Entry, head uint64) {
	seen := map[uint64]string{}
	instance := ""
	var explained uint64
	for _, e := range entries {
		if e.Origin == nil {
			v.problem(&v.SequenceErrors, "entry %s has no origin", e.ID)
			continue
		}
		if instance == "" {
			instance = e.Origin.Instance
		}
		n := e.Origin.Sequence
		switch {
		case e.Origin.Instance != instance:
			v.problem(&v.SequenceErrors, "entry %s is of another instance, although no disk was lost: %s and %s", e.ID, instance, e.Origin.Instance)
			continue
		case n == 0 || n > head:
			v.problem(&v.SequenceErrors, "entry %s has sequence %d, the head is %d", e.ID, n, head)
			continue
		case seen[n] != "":
			v.problem(&v.SequenceErrors, "entries %s and %s share sequence %d", seen[n], e.ID, n)
			continue
		}
		seen[n] = e.ID
		explained += superseded(e, calls[e.TargetID()])
	}
	absent := head - uint64(len(seen))
	if absent <= explained {
		return
	}
	for n := uint64(1); n <= head; n++ {
		if seen[n] == "" {
			v.problems = append(v.problems, fmt.Sprintf("sequence %d is the first that is absent; %d are, and revisions explain %d", n, absent, explained))
			break
		}
	}
	v.SequenceErrors += int(absent - explained)
}

// pendingAfter is when an open call is first written. The product measures a
// call's age a little differently, hence the second less.
const pendingAfter = 29 * time.Second

// superseded is how many earlier entries of the same call may have been
// written: its earlier answers, and that it was pending.
func superseded(e rig.Entry, c *call) uint64 {
	n := uint64(max(0, e.Revision-1))
	took := time.Duration(e.RecordedAt-e.Timestamp) * time.Microsecond
	if e.Revision >= 0 && (took >= pendingAfter || c != nil && c.held >= pendingAfter) {
		n++
	}
	return n
}
