package oracle

import "github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"

// Verdict is what a comparison of what happened with what was stored found.
// The fields from Missing on are 0 when the promise held.
type Verdict struct {
	Acked   int `json:"acked"`
	Reached int `json:"reached"`
	// Refused were answered 503 by the product itself. Of them, Withheld are
	// reads that had reached the API and whose entries say so.
	Refused  int `json:"refused"`
	Withheld int `json:"withheld"`
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

	// Missing were answered and are not stored. LateReads are such reads that
	// were answered after max_wait, and counted here only.
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
	// reads that were withheld.
	RefusedReached int `json:"refused_reached"`
	// Strangers are entries of calls that nobody sent.
	Strangers int `json:"strangers"`
	// Gaps are losses that the product itself reports, but for calls that were
	// passed.
	Gaps int `json:"gaps"`
	// Hangs are answers that did not come although the build lived.
	Hangs int `json:"hangs"`
	// CountersWrong is by how much the product's own counts differ from what
	// happened.
	CountersWrong int `json:"counters_wrong"`
	// PassedWrong is by how much the product's gaps and its count of passed
	// calls differ from what passed.
	PassedWrong int `json:"passed_wrong"`
	// Unconserved is how often the equations did not hold.
	Unconserved int `json:"unconserved"`

	Problems
}

// Held says whether the promise held, and that there was something to hold.
func (v *Verdict) Held() bool {
	return v.Missing+v.LateReads+v.Unrecorded+v.Duplicates+v.SequenceErrors+v.WrongStatus+v.WrongFields+
		v.RefusedReached+v.Strangers+v.Gaps+v.Hangs+v.CountersWrong+v.PassedWrong+v.Unconserved == 0 && v.Acked > 0
}

// Conservation holds the equations of a status.
func (v *Verdict) Conservation(st rig.Status, when string) {
	for _, b := range st.Broken() {
		v.Note(&v.Unconserved, "not conserved %s: %s: %s", when, b, st.Raw)
	}
}

// Compare holds the exported entries of a drained, stopped build and its
// counts against what happened.
func (v *Verdict) Compare(o *Oracle, entries []rig.Entry, st rig.Status, r Rules) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v.Hangs, v.Strangers = o.timeouts, o.unasked
	v.Head = st.Delivered()
	if st.Head-v.Head > 1 {
		v.Note(&v.SequenceErrors, "the head is %d and only %d entries were delivered before the end", st.Head, v.Head)
	}
	stored := map[string][]rig.Entry{}
	ids := map[string]bool{}
	recorded, passed := uint64(0), uint64(0)
	for _, e := range entries {
		if ids[e.ID] {
			v.Note(&v.Duplicates, "entry %s is exported twice", e.ID)
			continue
		}
		ids[e.ID] = true
		switch {
		case e.Action.Code == "audit.gap":
			g, wrong := PassedGap(e, r)
			if wrong != "" {
				v.Note(&v.Gaps, "the product reports a gap: entry %s: %s: %s", e.ID, wrong, e.Action.Metadata)
				continue
			}
			passed += g.Count
		case e.Event():
		case o.calls[e.TargetID()] == nil:
			v.Note(&v.Strangers, "entry %s (%s %s, target %q) belongs to no call", e.ID, e.Action.Method, e.Action.Route, e.TargetID())
		default:
			stored[e.TargetID()] = append(stored[e.TargetID()], e)
			if Recorded(e) {
				recorded++
			}
		}
	}
	v.Stored = len(stored)
	for id, c := range o.calls {
		found := stored[id]
		v.count(id, c, found, r)
		switch {
		case len(found) == 0:
			v.absent(id, c, r)
		case len(found) > 1:
			v.Note(&v.Duplicates, "call %s has %d entries: %s, %s", id, len(found), found[0].ID, found[1].ID)
		default:
			v.check(id, c, found[0], r)
		}
	}
	v.SequenceErrors += Sequences(o.calls, entries, v.Head, &v.Problems)
	v.equals("recorded", st.Calls.Recorded, recorded, st)
	if !r.Deaths { // of those that it had in hand, it counts none
		v.equals("seen", st.Calls.Seen, uint64(len(o.calls)), st)
		v.equals("refused", st.Calls.Refused, uint64(v.Refused-v.Withheld), st)
	}
	if n := uint64(v.Passed); st.Calls.Passed != n || passed != n {
		v.PassedWrong += distance(st.Calls.Passed, n) + distance(passed, n)
		v.Add("%d calls passed unrecorded; the product counts %d and its gaps name %d", n, st.Calls.Passed, passed)
	}
}

// equals holds one of the product's counts against what happened.
func (v *Verdict) equals(term string, counted, happened uint64, st rig.Status) {
	if counted != happened {
		v.CountersWrong += distance(counted, happened)
		v.Add("the product counts %d calls %s, and %d were: %s", counted, term, happened, st.Raw)
	}
}

func distance(a, b uint64) int { return int(max(a, b) - min(a, b)) }

func (v *Verdict) count(id string, c *Call, found []rig.Entry, r Rules) {
	if c.Acked() {
		v.Acked++
	}
	if c.Reached {
		v.Reached++
	}
	if c.Late && c.Acked() {
		v.Late++
	}
	if !c.Refused {
		return
	}
	v.Refused++
	if len(found) > 0 && Withheld(found[0]) != 0 {
		v.Withheld++
	}
	if c.Reached && !c.Excused(found, r) {
		v.Note(&v.RefusedReached, "call %s (%s) was refused and reached the API", id, c)
	}
}

func (v *Verdict) absent(id string, c *Call, r Rules) {
	switch {
	case r.Pass && c.Reached:
		v.Passed++
		return
	case c.Acked() && c.Late && c.Kind.Read():
		v.Note(&v.LateReads, "read %s (%s) was answered with %d after max_wait and is not stored", id, c, c.Status)
	case c.Acked():
		v.Note(&v.Missing, "call %s (%s) was answered with %d and is not stored", id, c, c.Status)
	}
	switch {
	case !c.Reached:
	case !c.Kind.Read(), !c.Acked() && !r.Deaths:
		v.Note(&v.Unrecorded, "call %s (%s) reached the API and is not stored", id, c)
	case !c.Acked():
		v.ReadsLost++
	}
}

// check holds one entry against its call.
func (v *Verdict) check(id string, c *Call, e rig.Entry, r Rules) {
	if e.Outcome == "unknown" {
		v.Unknown++
	}
	if why := c.WrongFields(id, e); why != "" {
		v.Note(&v.WrongFields, "%s", why)
	}
	if why := c.WrongStatus(id, e, r); why != "" {
		v.Note(&v.WrongStatus, "%s", why)
	}
}
