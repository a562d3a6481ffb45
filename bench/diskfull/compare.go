package main

import (
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	// late is what an answer takes whose record had to wait for the disk: the
	// product lets it go after max_wait.
	late = maxWait - 500*time.Millisecond
	// slack is how far outside a gap a call may lie that was passed in it: its
	// times are of its client, and in whole seconds at worst.
	slack = 1100 * time.Millisecond
)

// result is what one trial found. The fields from Missing on are 0 when the
// promise held.
type result struct {
	Mode  string `json:"on_fault"`
	Cause string `json:"cause"`

	Calls   int `json:"calls"`
	Acked   int `json:"acked"`
	Reached int `json:"reached"`
	Stored  int `json:"stored"`
	// Refused were answered 503 by the product itself. Of them, Withheld are
	// reads that had reached the API and whose entries say so.
	Refused  int `json:"refused"`
	Withheld int `json:"withheld"`
	// Passed reached the API, or were answered, and are not stored.
	Passed int `json:"passed"`
	// Gaps are entries that tell of passed calls, GapCount the sum of theirs.
	Gaps     int    `json:"gaps"`
	GapCount uint64 `json:"gap_count"`
	// Late answers had to wait for the disk.
	Late int `json:"late"`
	// SlowestMS is the slowest answer.
	SlowestMS     int64   `json:"slowest_ms"`
	NoRoomSeconds float64 `json:"no_room_seconds"`
	// NoticedMS is when the first call was seen to be refused or passed after
	// the room was gone; RecordedAgainMS when the first call that was sent
	// after there was room again had been answered and is stored, or -1.
	NoticedMS       int64  `json:"noticed_ms"`
	RecordedAgainMS int64  `json:"recorded_again_ms"`
	Head            uint64 `json:"head"`

	// Missing were answered and are not stored, under reject.
	Missing int `json:"missing"`
	// Unrecorded reached the API and are not stored, under reject.
	Unrecorded int `json:"unrecorded"`
	// Duplicates are calls with more than one entry, and entries that are
	// exported twice.
	Duplicates     int `json:"duplicates"`
	SequenceErrors int `json:"sequence_errors"`
	WrongStatus    int `json:"wrong_status"`
	WrongFields    int `json:"wrong_fields"`
	// RefusedReached were declined by the product and reached the API, but for
	// reads that were withheld.
	RefusedReached int `json:"refused_reached"`
	// WronglyRefused were declined under pass.
	WronglyRefused int `json:"wrongly_refused"`
	// Unanswered calls got no whole answer, although nothing was killed; Hangs
	// are those that timed out.
	Unanswered int `json:"unanswered"`
	Hangs      int `json:"hangs"`
	// Strangers are entries of calls that nobody sent.
	Strangers int `json:"strangers"`
	// WrongGaps are gaps for other reasons, or that do not say what they must.
	WrongGaps int `json:"wrong_gaps"`
	// WrongCounts are terms of the calls' equation, and the gaps' sum, that
	// are not what happened.
	WrongCounts int `json:"wrong_counts"`
	// PassedOutsideGaps were passed at a time of which no gap tells.
	PassedOutsideGaps int `json:"passed_outside_gaps"`
	// NotConserved are the moments at which an equation did not hold.
	NotConserved  int `json:"not_conserved"`
	ExportsDiffer int `json:"exports_differ"`
	// NeverFull says that no call was refused or passed, so that nothing was
	// shown; NotAgain that no call was recorded after there was room again.
	NeverFull int `json:"never_full"`
	NotAgain  int `json:"not_again"`

	oracle.Problems
	pressed, freed time.Time
}

func (v *result) held() bool {
	return v.Missing+v.Unrecorded+v.Duplicates+v.SequenceErrors+v.WrongStatus+v.WrongFields+v.RefusedReached+
		v.WronglyRefused+v.Unanswered+v.Hangs+v.Strangers+v.WrongGaps+v.WrongCounts+v.PassedOutsideGaps+
		v.NotConserved+v.ExportsDiffer+v.NeverFull+v.NotAgain == 0 && v.Acked > 0
}

// compare holds the stored entries and the product's counts against what the
// oracle saw.
func (v *result) compare(calls map[string]*oracle.Call, entries []rig.Entry, st rig.Status) {
	v.Head = st.Delivered()
	if st.Head > v.Head+1 {
		v.Note(&v.SequenceErrors, "the head is %d and only %d entries were delivered before the end", st.Head, v.Head)
	}
	stored, gaps := v.sort(calls, entries)
	v.Calls, v.Stored, v.RecordedAgainMS = len(calls), len(stored), -1
	recorded := 0 // calls with an entry that says how they went
	var passed []*oracle.Call
	for id, c := range calls {
		found := stored[id]
		v.count(id, c, found)
		switch {
		case len(found) == 0 && (c.Reached || c.Acked()):
			v.absent(id, c)
			passed = append(passed, c)
		case len(found) == 0:
			// Refused; an entry of that is welcome, not promised.
		case len(found) > 1:
			v.Note(&v.Duplicates, "call %s has %d entries: %s, %s", id, len(found), found[0].ID, found[1].ID)
		default:
			v.check(id, c, found[0])
		}
		for _, e := range found {
			if oracle.Recorded(e) {
				recorded++
			}
		}
	}
	v.Passed = len(passed)
	if v.RecordedAgainMS < 0 {
		v.Note(&v.NotAgain, "no call that was sent after there was room again is stored")
	}
	if v.Refused+v.Passed == 0 {
		v.Note(&v.NeverFull, "no call was refused or passed, so that nothing was shown")
	}
	v.outside(passed, gaps)
	v.counts(recorded, st)
	v.SequenceErrors += oracle.Sequences(calls, entries, v.Head, &v.Problems)
}

// sort takes the entries apart: those of calls, by their call, and the gaps.
func (v *result) sort(calls map[string]*oracle.Call, entries []rig.Entry) (stored map[string][]rig.Entry, gaps []oracle.Gap) {
	stored = map[string][]rig.Entry{}
	ids := map[string]bool{}
	for _, e := range entries {
		switch {
		case ids[e.ID]:
			v.Note(&v.Duplicates, "entry %s is exported twice", e.ID)
		case e.Action.Code == "audit.gap":
			if g, ok := v.gap(e); ok {
				gaps = append(gaps, g)
			}
		case e.Event():
		case calls[e.TargetID()] == nil:
			v.Note(&v.Strangers, "entry %s (%s %s, target %q) belongs to no call", e.ID, e.Action.Method, e.Action.Route, e.TargetID())
		default:
			stored[e.TargetID()] = append(stored[e.TargetID()], e)
		}
		ids[e.ID] = true
	}
	return stored, gaps
}

func (v *result) gap(e rig.Entry) (oracle.Gap, bool) {
	g, wrong := oracle.PassedGap(e, v.rules())
	if wrong != "" {
		v.Note(&v.WrongGaps, "gap %s is wrong: %s: %s", e.ID, wrong, e.Action.Metadata)
		return g, false
	}
	v.Gaps++
	v.GapCount += g.Count
	return g, true
}

func (v *result) rules() oracle.Rules { return oracle.Rules{Pass: v.Mode == pass} }

func (v *result) count(id string, c *oracle.Call, found []rig.Entry) {
	if c.Reached {
		v.Reached++
	}
	switch {
	case c.Status == 0:
		v.Note(&v.Unanswered, "call %s (%s %s) got no answer, although nothing was killed; reached the API: %t", id, c.Kind.Method, c.Kind.Template, c.Reached)
		return
	case c.Refused:
		v.Refused++
		if len(found) > 0 && oracle.Withheld(found[0]) != 0 {
			v.Withheld++
		}
		if c.Reached && !c.Excused(found, v.rules()) {
			v.Note(&v.RefusedReached, "call %s was refused and reached the API", id)
		}
		if v.Mode == pass {
			v.Note(&v.WronglyRefused, "call %s was refused, although on_fault is pass", id)
		}
	default:
		v.Acked++
	}
	took := c.Ended.Sub(c.Began)
	v.SlowestMS = max(v.SlowestMS, took.Milliseconds())
	if !c.Refused && took >= late {
		v.Late++
		// It may have been open all the time until there was room again, and
		// so have been written down as pending first.
		c.Held = max(c.Held, time.Hour)
	}
}

// absent is a call that must have been recorded, or passed.
func (v *result) absent(id string, c *oracle.Call) {
	if v.Mode == pass {
		return
	}
	if c.Acked() {
		v.Note(&v.Missing, "call %s (%s %s) was answered with %d and is not stored", id, c.Kind.Method, c.Kind.Template, c.Status)
	}
	if c.Reached {
		v.Note(&v.Unrecorded, "call %s (%s %s) reached the API and is not stored", id, c.Kind.Method, c.Kind.Template)
	}
}

// check holds one entry against its call.
func (v *result) check(id string, c *oracle.Call, e rig.Entry) {
	if why := c.WrongFields(id, e); why != "" {
		v.Note(&v.WrongFields, "%s", why)
	}
	if why := c.WrongStatus(id, e, v.rules()); why != "" {
		v.Note(&v.WrongStatus, "%s", why)
	}
	if !c.Refused && c.Began.After(v.freed) {
		if ms := c.Ended.Sub(v.freed).Milliseconds(); v.RecordedAgainMS < 0 || ms < v.RecordedAgainMS {
			v.RecordedAgainMS = ms
		}
	}
}

// outside looks for passed calls of whose time no gap tells.
func (v *result) outside(passed []*oracle.Call, gaps []oracle.Gap) {
	if v.Mode != pass {
		return
	}
	for _, c := range passed {
		told := false
		for _, g := range gaps {
			told = told || c.Ended.Add(slack).After(g.Since) && c.Began.Add(-slack).Before(g.Until)
		}
		if !told {
			v.Note(&v.PassedOutsideGaps, "a call from %s to %s went by unrecorded, and no gap tells of that time", c.Began.Format(time.RFC3339Nano), c.Ended.Format(time.RFC3339Nano))
		}
	}
}

// counts holds the terms of the calls' equation against what happened.
func (v *result) counts(recorded int, st rig.Status) {
	for _, t := range []struct {
		name      string
		got, want uint64
	}{
		{"seen", st.Calls.Seen, uint64(v.Calls)},
		{"recorded", st.Calls.Recorded, uint64(recorded)},
		{"refused", st.Calls.Refused, uint64(v.Refused - v.Withheld)},
		{"passed", st.Calls.Passed, uint64(v.Passed)},
		{"excluded", st.Calls.Excluded, 0},
		{"folded", st.Calls.Folded, 0},
		{"open", st.Calls.Open, 0},
		{"passed, as the gaps tell", v.GapCount, uint64(v.Passed)},
	} {
		if v.Mode == reject && t.name == "passed" {
			t.want = 0 // those are missing
		}
		if t.got != t.want {
			v.Note(&v.WrongCounts, "the product counts %d calls %s, and %d were: %s", t.got, t.name, t.want, st.Raw)
		}
	}
}
