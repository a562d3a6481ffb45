package buffer

import "time"

// Reason is why something is not in the log that should be.
type Reason string

// The reasons of gaps.
const (
	// GapPassed: calls went through unrecorded under OnFault Pass, or while Pass
	// was in force.
	GapPassed Reason = "passed"
	// GapDamaged: entries cannot be read any more, because a file was harmed.
	GapDamaged Reason = "damaged"
	// GapSkipped: entries were removed while a store that returns now was not
	// configured. Other stores have them.
	GapSkipped Reason = "skipped"
	// GapDetached: more waited for a store than it may hold, so that it does not get
	// these entries. Other stores have them.
	GapDetached Reason = "detached"
	// GapDropped: an operator has given up an entry that a store will never take. Other
	// stores have it.
	GapDropped Reason = "dropped"
	// GapOrigin: the directory is a copy, or older than what a store has, or the end of
	// its newest file is harmed. What was recorded after that is not here.
	GapOrigin Reason = "origin"
)

// Gap tells what is not in the log. Nothing is lost without one.
type Gap struct {
	Reason Reason
	// Count is how many calls or entries are missing; with AtLeast, at least so
	// many are.
	Count   uint64
	AtLeast bool
	// First and Last bound the sequences of a damaged or skipped range, which may
	// hold good entries too. Ranges are those that are missing, the first hundred
	// of them.
	First, Last uint64
	Ranges      [][2]uint64
	// Segment is the name of the harmed file. Of quarantine.db, what is missing are
	// entries that Store would not take.
	Segment string
	// Since and Until bound when calls passed; Cause is why they did: full,
	// failing, slow or ordered; or why an entry was dropped, in an operator's words.
	Since, Until time.Time
	Cause        string
	// MissingSince is the first sequence of the run that a detached store does not get,
	// of which this may only be the end: First to Last is what was not told before.
	MissingSince uint64
	// Store is the store that does not get what was skipped, or would not take what was
	// dropped.
	Store string
	// Instance is the origin before a new one, and Head its last sequence here.
	// Cause is then what showed it: copied, harmed, or ahead, with
	// Store.
	Instance string
	Head     uint64
}
