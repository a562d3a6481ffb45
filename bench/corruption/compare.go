package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// verdict is what a run found; it is the program's last line. The fields from
// Crashes on are 0 when the promise held.
type verdict struct {
	Seed    uint64         `json:"seed"`
	Damages int            `json:"damages"`
	Kinds   map[string]int `json:"kinds"`
	Rounds  int            `json:"rounds"`
	// Running are rounds in which files were harmed while a process had them,
	// and Killed those whose first process was killed while it delivered.
	Running int `json:"running"`
	Killed  int `json:"killed"`
	// Files are the files that were harmed, and Harmless those of which nothing
	// was lost.
	Files    int `json:"files"`
	Harmless int `json:"harmless"`
	// Entries were in the files, Delivered of them are stored, and Lost cannot
	// be read any more. Tail are those of the lost that only a count_at_least
	// stands for: nothing is left that says they were there.
	Entries   int `json:"entries"`
	Delivered int `json:"delivered"`
	Lost      int `json:"lost"`
	Tail      int `json:"tail"`
	// Unknown are calls whose intent is all that is left of them.
	Unknown int `json:"unknown"`
	// InHand are lost entries that are stored, since they had been read before
	// their file was harmed.
	InHand int `json:"in_hand"`

	// Crashes are processes that did not start, or ended by themselves, or
	// could not be stopped.
	Crashes int `json:"crashes"`
	// Stuck are lives that did not deliver everything in time.
	Stuck int `json:"stuck"`
	// Undelivered are unharmed and are not stored.
	Undelivered int `json:"undelivered"`
	// Altered are stored with another content or under another origin.
	Altered int `json:"altered"`
	// Untold are lost and lie in no gap.
	Untold int `json:"untold"`
	// FalseLoss are gaps that tell of what is not lost.
	FalseLoss int `json:"false_loss"`
	// WrongCounts are gaps whose counts are not what is lost.
	WrongCounts int `json:"wrong_counts"`
	// ToldAgain are gaps that a second start tells once more.
	ToldAgain int `json:"told_again"`
	// Forgotten are calls whose intent can be read and that have no entry.
	Forgotten int `json:"forgotten"`
	// Holes are sequences that are neither stored nor lost.
	Holes int `json:"holes"`
	// Strangers are entries of calls that nobody sent, gaps for other reasons,
	// and what is stored twice.
	Strangers int `json:"strangers"`
	// Unrecorded were answered while files were harmed and are not stored.
	Unrecorded int `json:"unrecorded"`
	// NotConserved are the moments at which an equation did not hold.
	NotConserved int `json:"not_conserved"`
	// OriginsKept are harmed ends of a newest file behind which numbers went on
	// under the same UUID, although a store may have had them already.
	OriginsKept int `json:"origins_kept"`
	// CopiesUnnoticed are copied directories that were taken for the original.
	CopiesUnnoticed int `json:"copies_unnoticed"`

	problems []string
	round    string // the one that problems are about
}

func (v *verdict) bad() int {
	return v.Crashes + v.Stuck + v.Undelivered + v.Altered + v.Untold + v.FalseLoss + v.WrongCounts + v.ToldAgain +
		v.Forgotten + v.Holes + v.Strangers + v.Unrecorded + v.NotConserved + v.OriginsKept + v.CopiesUnnoticed
}

func (v *verdict) held() bool { return v.bad() == 0 && v.Rounds > 0 }

// problem notes an example for people; a flood of one sort is cut.
func (v *verdict) problem(count *int, format string, args ...any) {
	if *count++; *count <= 5 {
		v.problems = append(v.problems, v.round+": "+fmt.Sprintf(format, args...))
	}
}

// shown is what a round has shown.
type shown struct {
	ref *reference
	// harmed are the files that are no longer as they were, by name.
	harmed map[string][]byte
	// running says that they were harmed while a process had them.
	running bool
	// copied says that the directory is a copy.
	copied bool
	// stored are the entries that the store has.
	stored []stored
	// calls are the targets of calls that were answered meanwhile.
	calls []string
	// first is the status after the first orderly end, and last after the last.
	first, last rig.Status
}

type stored struct {
	rig.Entry
	content content
}

// gap is what an audit.gap entry tells.
type gap struct {
	Reason   string      `json:"reason"`
	Cause    string      `json:"cause"`
	Segment  string      `json:"segment"`
	First    uint64      `json:"first"`
	Last     uint64      `json:"last"`
	Count    uint64      `json:"count"`
	AtLeast  *uint64     `json:"count_at_least"`
	Ranges   [][2]uint64 `json:"ranges"`
	Previous string      `json:"previous_instance"`
	Head     uint64      `json:"previous_head"`
	sequence uint64
}

func (g *gap) count() uint64 {
	if g.AtLeast != nil {
		return *g.AtLeast
	}
	return g.Count
}

// maxRanges is how many ranges a gap lists at most.
const maxRanges = 100

// holds reports whether the gap tells of a sequence.
func (g *gap) holds(sequence uint64) bool {
	if sequence < g.First || sequence > g.Last {
		return false
	}
	return len(g.Ranges) == 0 || len(g.Ranges) >= maxRanges || g.lists(sequence)
}

func (g *gap) lists(sequence uint64) bool {
	return slices.ContainsFunc(g.Ranges, func(r [2]uint64) bool { return sequence >= r[0] && sequence <= r[1] })
}

// compare holds what is stored and told against what the files had and what of
// it was harmed.
func (v *verdict) compare(s *shown) {
	r := s.ref
	for when, st := range map[string]rig.Status{"after the first stop": s.first, "after the last stop": s.last} {
		if broken := st.Broken(); len(broken) > 0 {
			v.problem(&v.NotConserved, "not conserved %s: %v: %s", when, broken, st.Raw)
		}
	}
	at, others, gaps := v.sort(s)
	left := map[string]*leftover{}
	for name, b := range s.harmed {
		left[name] = r.left(name, b)
	}
	v.Entries += len(r.entries)
	for _, seg := range r.segments {
		l := left[seg.name]
		told := gaps[seg.name]
		delete(gaps, seg.name)
		if l == nil {
			l = r.whole(seg)
		} else {
			v.Files++
		}
		lost := v.segment(s, seg, l, at, told)
		if s.harmed[seg.name] != nil && lost == 0 {
			v.Harmless++
		}
	}
	for name, told := range gaps {
		v.problem(&v.Strangers, "a gap tells of %q, which is no segment of the reference: %+v", name, *told[0])
	}
	v.others(s, at, others, left[r.newest().name])
}

// leftover is what can be read of a file.
type leftover struct {
	entries map[uint64]bool // by sequence
	intents map[uint64]bool // by number
}

func (r *reference) left(name string, b []byte) *leftover {
	l := &leftover{map[uint64]bool{}, map[uint64]bool{}}
	for _, f := range scan(b) {
		switch seg := r.of(f.sequence); {
		case f.isIntent():
			l.intents[f.intent] = true
		case f.isEntry() && seg != nil && seg.name == name:
			if _, c, err := read(f.payload); err == nil && c == r.entries[f.sequence-1].content {
				l.entries[f.sequence] = true
			}
		case f.isEntry() && f.sequence > r.head && name == r.newest().name:
			l.entries[f.sequence] = true // see uncommitted
		}
	}
	return l
}

func (r *reference) whole(s *segment) *leftover {
	l := &leftover{map[uint64]bool{}, map[uint64]bool{}}
	for n := s.first; n <= s.last; n++ {
		l.entries[n] = true
	}
	if s == r.newest() {
		for n := range r.intents {
			l.intents[n] = true
		}
	}
	return l
}

// origin is where the sequences of another origin begin, after the reference's.
type origin struct {
	first    uint64 // 0: there is no other one
	instance string
	gaps     int // that tell of it
}

// begins takes a gap that tells of another origin, if this round should have one.
func (s *shown) begins(o *origin, e stored, g *gap) bool {
	if g.Reason != "origin" || g.Previous != s.ref.instance {
		return false
	}
	switch {
	case s.copied && g.Cause == "copied" && g.Head == s.ref.head:
	case s.uncertainEnd() && g.Cause == "harmed" && g.Head+1 >= s.ref.newest().first:
	default:
		return false
	}
	o.first, o.instance = g.Head+1, e.Origin.Instance
	o.gaps++
	return true
}

// uncertainEnd reports whether a start found the newest file harmed: what would
// say how far it went may be lost too.
func (s *shown) uncertainEnd() bool { return s.harmed[s.ref.newest().name] != nil && !s.running }

// sort takes what is stored apart: entries by their sequence in this buffer,
// and gaps of harmed files, by the file.
func (v *verdict) sort(s *shown) (at map[uint64]stored, others []stored, gaps map[string][]*gap) {
	at, gaps = map[uint64]stored{}, map[string][]*gap{}
	ids := map[string]bool{}
	var o origin
	for _, e := range s.stored {
		if e.Origin == nil || ids[e.ID] || at[e.Origin.Sequence].Origin != nil {
			v.problem(&v.Strangers, "entry %s has no origin, or its id or its sequence twice: %+v", e.ID, e.Origin)
			continue
		}
		n := e.Origin.Sequence
		ids[e.ID], at[n] = true, e
		if n <= s.ref.head && e.content == s.ref.entries[n-1].content {
			continue
		}
		others = append(others, e)
		if e.Action.Code != "audit.gap" {
			continue
		}
		g := &gap{sequence: n}
		switch err := json.Unmarshal(e.Action.Metadata, g); {
		case err != nil:
			v.problem(&v.Strangers, "gap %d: %v: %s", n, err, e.Action.Metadata)
		case s.begins(&o, e, g):
		case g.Reason != "damaged":
			v.problem(&v.Strangers, "gap %d has another reason: %s", n, e.Action.Metadata)
		default:
			gaps[g.Segment] = append(gaps[g.Segment], g)
			if n > s.first.Head {
				v.problem(&v.ToldAgain, "the second start tells a further gap: %s", e.Action.Metadata)
			}
		}
	}
	v.origins(s, &o, at, gaps[s.ref.newest().name])
	return at, others, gaps
}

// origins holds the origin of each entry against where another one should begin.
func (v *verdict) origins(s *shown, o *origin, at map[uint64]stored, newest []*gap) {
	vague := slices.ContainsFunc(newest, func(g *gap) bool { return g.AtLeast != nil })
	switch {
	case s.copied && o.gaps != 1:
		v.problem(&v.CopiesUnnoticed, "the directory is a copy, and %d gaps say so", o.gaps)
	case !s.copied && vague && o.gaps != 1:
		v.problem(&v.OriginsKept, "how far the newest file went is not certain, and %d gaps tell of another origin", o.gaps)
	case !s.copied && !vague && o.gaps > 0:
		v.problem(&v.Strangers, "another origin begins, although it is certain how far the newest file went")
	}
	for _, n := range slices.Sorted(maps.Keys(at)) {
		e := at[n]
		reference := n <= s.ref.head && e.content == s.ref.entries[n-1].content
		want := s.ref.instance
		if o.first > 0 && n >= o.first && !reference {
			want = o.instance
		}
		if e.Origin.Instance != want || o.instance == s.ref.instance {
			v.problem(&v.Altered, "entry %d is of instance %s and not of %s", n, e.Origin.Instance, want)
		}
	}
}

// segment compares one segment and returns how many entries of it are lost.
func (v *verdict) segment(s *shown, seg *segment, l *leftover, at map[uint64]stored, told []*gap) (lost int) {
	r := s.ref
	// Nothing else is uncertain.
	vague := seg == r.newest() && s.uncertainEnd()
	undelivered, uncertain, sum, floor := 0, false, uint64(0), uint64(0)
	for _, g := range told {
		sum += g.count()
		uncertain = uncertain || g.AtLeast != nil
		floor = max(floor, g.Last)
		if g.First != seg.first || g.Last < g.First-1 || g.Last > seg.last && !vague {
			v.problem(&v.WrongCounts, "%s has entries %d to %d, and its gap is of %d to %d", seg.name, seg.first, seg.last, g.First, g.Last)
		}
	}
	for n := seg.first; n <= seg.last; n++ {
		e, there := at[n]
		there = there && e.content == r.entries[n-1].content
		inGap := slices.ContainsFunc(told, func(g *gap) bool { return g.holds(n) })
		listed := slices.ContainsFunc(told, func(g *gap) bool { return g.lists(n) })
		switch {
		case l.entries[n] && !there:
			v.problem(&v.Undelivered, "entry %d of %s is unharmed and not stored", n, seg.name)
		case l.entries[n]:
			v.Delivered++
			if listed {
				v.problem(&v.FalseLoss, "entry %d of %s is unharmed and stored, and a gap lists it", n, seg.name)
			}
		case there && s.running:
			v.InHand++
			lost++
		case there:
			v.problem(&v.Altered, "entry %d of %s is stored, although it cannot be read: the oracle is wrong, or the product reads what nobody should", n, seg.name)
		default:
			lost++
			undelivered++
			switch {
			case inGap:
			case vague && uncertain && n > floor:
				v.Tail++ // its number may have been given again
			default:
				v.problem(&v.Untold, "entry %d of %s is lost, and no gap tells of it", n, seg.name)
			}
		}
	}
	v.Lost += undelivered
	switch {
	case vague && uncertain:
		// A kill may have left a commit behind the head, or a part of one. Of
		// that some may be missing as of the others, which nobody can tell from
		// entries that were there.
		possible := uint64(undelivered)
		for n := seg.last + 1; n <= floor; n++ {
			if !l.entries[n] {
				possible++
			}
		}
		if sum > possible {
			v.problem(&v.WrongCounts, "of %s %d entries are lost, and gaps tell of at least %d", seg.name, possible, sum)
		}
	case s.running && sum >= uint64(undelivered) && sum <= uint64(lost):
		// Nobody reads again what is in hand.
	case sum != uint64(lost):
		v.problem(&v.WrongCounts, "of %s %d entries are lost, and gaps tell of %d", seg.name, lost, sum)
	case uncertain:
		v.problem(&v.WrongCounts, "what is lost of %s is certain, and a gap says at least %d", seg.name, sum)
	case lost == 0 && len(told) > 0:
		v.problem(&v.FalseLoss, "nothing of %s is lost, and a gap tells of it: %+v", seg.name, *told[0])
	}
	return lost
}

// others looks at what is stored besides the reference's entries, and for what
// should be.
func (v *verdict) others(s *shown, at map[uint64]stored, others []stored, newest *leftover) {
	r := s.ref
	known := map[string]bool{} // ids of calls
	stillThere := map[string]bool{}
	for i, e := range r.entries {
		known[e.id] = true
		if at[uint64(i+1)].content == e.content {
			stillThere[e.id] = true
		}
	}
	for _, id := range r.intents {
		known[id] = true
	}
	if newest != nil && !s.running {
		maps.Copy(known, r.begun)
	}
	unknown, targets := map[string]bool{}, map[string]bool{}
	for _, e := range others {
		n := e.Origin.Sequence
		if n <= r.head && (newest == nil || s.running || n < r.newest().first) {
			v.problem(&v.Altered, "entry %d is stored with another content: %s", n, e.ID)
			continue
		}
		switch c, left := r.uncommitted[n]; {
		case e.Event():
		case e.Outcome == "unknown" && e.Revision == 0 && known[e.ID]:
			unknown[e.ID] = true
			v.Unknown++
		case slices.Contains(s.calls, e.TargetID()):
			targets[e.TargetID()] = true
		case left && newest != nil && c == e.content:
			stillThere[e.ID] = true
		default:
			v.problem(&v.Strangers, "entry %d (%s, %s %s) is of no call that was sent", n, e.ID, e.Action.Method, e.Action.Route)
		}
	}
	for _, target := range s.calls {
		if !targets[target] {
			v.problem(&v.Unrecorded, "call %s was answered and is not stored", target)
		}
	}
	for n, id := range r.intents {
		// A start that finds a harmed file does not know whose end was in it.
		atStart := newest == nil || s.running
		must := atStart && r.open[id] || !atStart && newest.intents[n] && !stillThere[id]
		if must && !unknown[id] {
			v.problem(&v.Forgotten, "intent %d can be read, and its call has neither an end nor an entry with outcome unknown: %s", n, id)
		}
	}
	// Behind what was there when it was harmed nothing may be missing.
	for n := r.head + 1; n <= delivered(s.last); n++ {
		if _, there := at[n]; !there && (newest == nil || s.running || !v.toldOf(others, n)) {
			v.problem(&v.Holes, "sequence %d is not stored, and was given after the files were harmed", n)
		}
	}
}

// toldOf reports whether a gap tells of a sequence.
func (v *verdict) toldOf(others []stored, n uint64) bool {
	return slices.ContainsFunc(others, func(e stored) bool {
		var g gap
		return e.Action.Code == "audit.gap" && json.Unmarshal(e.Action.Metadata, &g) == nil && g.holds(n)
	})
}

// delivered is how far the store is.
func delivered(st rig.Status) uint64 {
	n := st.Head
	for _, s := range st.Stores {
		n = min(n, s.Position)
	}
	return n
}
