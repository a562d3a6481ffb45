package main

import (
	"fmt"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// ledger is what one store has, held against what happened. The figures from
// Missing on are 0 when the promise held.
type ledger struct {
	Store string `json:"store"`
	// Position is how far the build says that the store got.
	Position uint64 `json:"position"`
	// Stored are different entries, Repeats those that came once more with the
	// same (id, revision), as at_least_once allows.
	Stored  int `json:"stored"`
	Repeats int `json:"repeats"`
	// Ahead are entries that arrived before one with a lower sequence because that had
	// been refused: an entry is only known to be at fault when the store takes another.
	Ahead int `json:"ahead,omitempty"`

	// Missing are calls that were answered, or reached the API, and entries up to
	// Position that are not there.
	Missing int `json:"missing"`
	// WrongRepeats are repeats of a store that has each once, those under
	// another sequence, and those with other content.
	WrongRepeats int `json:"wrong_repeats"`
	// OutOfOrder are first arrivals behind one with a higher sequence.
	OutOfOrder int `json:"out_of_order"`
	// WrongRanges are holes in what the store says that it received, at any moment.
	WrongRanges int `json:"wrong_ranges"`
	// Differ are entries that are not what another store has, byte by byte.
	Differ int `json:"differ"`
	// Strange are entries of others, or beyond Position, or that a gap says are
	// not there.
	Strange int `json:"strange"`
	// WrongEntries say something else than what happened.
	WrongEntries int `json:"wrong_entries"`

	once bool
	// latest are by id the highest revisions.
	latest map[string]rig.Entry
	oracle.Problems
}

func (l *ledger) held() bool {
	return l.Missing+l.WrongRepeats+l.OutOfOrder+l.WrongRanges+l.Differ+l.Strange+l.WrongEntries == 0 && l.Stored > 0
}

// span is what a store must have: all from start to position, but what is lost.
type span struct {
	instance        string
	start, position uint64
	// lost are the sequences of which gaps and quarantine say that the store does
	// not get them.
	lost map[uint64]string
	// refuses says that the store refused some, or lost some on their way, which lets others
	// overtake them.
	refuses bool
	// classes says that the store keeps each retention class apart: then nobody promises an
	// order between two.
	classes bool
}

// version is what is told apart by readers.
type version struct {
	id       string
	revision int
}

// arrived takes in what the store has, in the order in which it came.
func (l *ledger) arrived(entries []rig.Entry, want span) {
	l.Position = want.position
	l.latest = map[string]rig.Entry{}
	first := map[version]rig.Entry{}
	sequences := map[uint64]bool{}
	latest := map[string]uint64{} // by class
	for _, e := range entries {
		if e.Origin == nil || e.Origin.Instance != want.instance {
			l.Note(&l.Strange, "%s: entry %s is not of instance %s", l.Store, e.ID, want.instance)
			continue
		}
		n := e.Origin.Sequence
		if had, again := first[version{e.ID, e.Revision}]; again {
			l.repeat(had, e)
			continue
		}
		first[version{e.ID, e.Revision}] = e
		switch {
		case n <= want.start || n > want.position:
			l.Note(&l.Strange, "%s: entry %s has sequence %d, and the store's are %d to %d", l.Store, e.ID, n, want.start+1, want.position)
		case want.lost[n] != "":
			l.Note(&l.Strange, "%s: entry %s with sequence %d is there, although %s", l.Store, e.ID, n, want.lost[n])
		case sequences[n]:
			l.Note(&l.Strange, "%s: sequence %d has two entries, one is %s", l.Store, n, e.ID)
		}
		sequences[n] = true
		// A later revision takes the place of an earlier one in a store that has
		// each entry once, so it stands there too early.
		if !l.once || e.Revision <= 1 {
			class := ""
			if want.classes {
				class = e.Retention.Class
			}
			newest := latest[class]
			switch {
			case n < newest && want.refuses:
				l.Ahead++
			case n < newest:
				l.Note(&l.OutOfOrder, "%s: sequence %d arrived after %d", l.Store, n, newest)
			}
			latest[class] = max(newest, n)
		}
		if had, ok := l.latest[e.ID]; !ok || e.Revision > had.Revision {
			l.latest[e.ID] = e
		}
	}
	l.Stored = len(first)
	if l.once {
		return // what a revision replaced is in no row; see oracle.Sequences
	}
	for n := want.start + 1; n <= want.position; n++ {
		if !sequences[n] && want.lost[n] == "" {
			l.Note(&l.Missing, "%s: sequence %d is not there", l.Store, n)
		}
	}
}

func (l *ledger) repeat(had, e rig.Entry) {
	l.Repeats++
	switch {
	case l.once:
		l.Note(&l.WrongRepeats, "%s: entry %s revision %d is there twice", l.Store, e.ID, e.Revision)
	case e.Origin.Sequence != had.Origin.Sequence:
		l.Note(&l.WrongRepeats, "%s: entry %s revision %d came with sequence %d and again with %d", l.Store, e.ID, e.Revision, had.Origin.Sequence, e.Origin.Sequence)
	case e.Sum != had.Sum:
		l.Note(&l.WrongRepeats, "%s: entry %s revision %d came again with other content", l.Store, e.ID, e.Revision)
	}
}

// received holds the ranges that a store says it received. After the end they go
// from start to position; before, there may be less.
func (l *ledger) received(ranges [][2]uint64, start, position uint64, when string) {
	switch {
	case len(ranges) == 0 && position == 0:
	case len(ranges) != 1 || ranges[0][0] != start+1 || position > 0 && ranges[0][1] != position:
		l.Note(&l.WrongRanges, "%s: %s it has received %v, of %d to %d", l.Store, when, ranges, start+1, position)
	}
}

// calls holds what the store has of calls against what happened. expected says
// of a gap that the trial is about it.
func (l *ledger) calls(o *oracle.Oracle, st rig.Status, expected func(rig.Entry) bool) *oracle.Verdict {
	entries := make([]rig.Entry, 0, len(l.latest))
	for _, e := range l.latest {
		if e.Action.Code == codeGap && expected(e) {
			e.Action.Code += ".expected"
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b rig.Entry) int { return int(a.Origin.Sequence) - int(b.Origin.Sequence) })
	// How far other stores got is no matter here.
	st.Stores = slices.DeleteFunc(slices.Clone(st.Stores), func(s rig.StoreStatus) bool { return s.Name != l.Store })
	v := new(oracle.Verdict)
	v.Compare(o, entries, st, oracle.Rules{})
	l.Missing += v.Missing + v.LateReads + v.Unrecorded
	if !l.once {
		v.SequenceErrors = 0 // every one was looked for
	}
	l.WrongEntries += v.SequenceErrors + v.Duplicates + v.WrongStatus + v.WrongFields + v.RefusedReached + v.Strangers + v.Gaps + v.CountersWrong + v.PassedWrong
	if l.Missing+l.WrongEntries > 0 {
		l.Problems.Join(&v.Problems, l.Store+": ")
	}
	return v
}

// agrees says where two stores have not the same of what both must have.
func (l *ledger) agrees(other *ledger, lost map[uint64]string) {
	both := min(l.Position, other.Position)
	for id, e := range other.latest {
		mine, ok := l.latest[id]
		n := e.Origin.Sequence
		switch {
		case n > both || lost[n] != "":
		case !ok:
			l.Note(&l.Missing, "%s: entry %s is not there, and %s has it with sequence %d", l.Store, id, other.Store, n)
		case mine.Sum != e.Sum && mine.Origin.Sequence <= both:
			l.Note(&l.Differ, "%s: entry %s (revision %d) is not what %s has (revision %d)", l.Store, id, mine.Revision, other.Store, e.Revision)
		}
	}
}

// String is what people look for first.
func (l *ledger) String() string {
	return fmt.Sprintf("%s: %d stored, %d repeats, %d missing", l.Store, l.Stored, l.Repeats, l.Missing)
}
