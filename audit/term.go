package audit

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// margin is what is added to a term: entries are kept until the beginning of the second
// UTC day after it. So a clock that is wrong by up to a day, when an entry arrives or when
// it expires, deletes nothing early, and all that arrived on one day expires in one moment.
const marginDays = 2

// Term is how long something is kept: a number of days, months or years of the calendar,
// or forever. The zero value is no term at all.
type Term struct {
	n    int
	unit termUnit
}

type termUnit byte

const (
	unitNone    termUnit = 0
	unitDays    termUnit = 'd'
	unitMonths  termUnit = 'm'
	unitYears   termUnit = 'y'
	unitForever termUnit = 'f'
)

// Forever is the term that never ends.
var Forever = Term{unit: unitForever}

// Days is a term of whole days.
func Days(n int) Term { return Term{n, unitDays} }

var termForm = regexp.MustCompile(`^([0-9]{1,6})(d|mo|y)$`)

// maxTermYears bounds a term: what is to be kept for longer is kept forever.
const maxTermYears = 200

// ParseTerm reads a term: 400d, 13mo, 7y or forever. A term of nothing is refused: what is
// not to be recorded is a rule's level none.
func ParseTerm(s string) (Term, error) {
	if s == "forever" {
		return Forever, nil
	}
	m := termForm.FindStringSubmatch(s)
	if m == nil {
		return Term{}, fmt.Errorf("%q is no term: write days, months or years as in 400d, 13mo or 7y, or forever", s)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n == 0 {
		return Term{}, fmt.Errorf("%q keeps nothing: for what is not to be recorded at all, give a rule the level none", s)
	}
	t := Term{n, termUnit(m[2][0])}
	if t.End(epoch).Year() > epoch.Year()+maxTermYears {
		return Term{}, fmt.Errorf("%q is more than %d years: write forever", s, maxTermYears)
	}
	return t, nil
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// IsZero reports whether there is no term.
func (t Term) IsZero() bool { return t.unit == unitNone }

// IsForever reports whether the term never ends.
func (t Term) IsForever() bool { return t.unit == unitForever }

// String is the term as ParseTerm reads it.
func (t Term) String() string {
	switch t.unit {
	case unitForever:
		return "forever"
	case unitMonths:
		return strconv.Itoa(t.n) + "mo"
	case unitYears:
		return strconv.Itoa(t.n) + "y"
	case unitDays:
		return strconv.Itoa(t.n) + "d"
	default:
		return ""
	}
}

// MarshalText implements encoding.TextMarshaler.
func (t Term) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. The empty text is no term.
func (t *Term) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*t = Term{}
		return nil
	}
	*t, err = ParseTerm(string(b))
	return err
}

// End is when the term ends that begins then, by the calendar in UTC. A day that a month
// does not have is one of the next month: a term is never shorter than it says. Forever
// ends never, which is the zero time, and so does no term.
func (t Term) End(from time.Time) time.Time {
	from = from.UTC()
	switch t.unit {
	case unitDays:
		return from.AddDate(0, 0, t.n)
	case unitMonths:
		return from.AddDate(0, t.n, 0)
	case unitYears:
		return from.AddDate(t.n, 0, 0)
	default:
		return time.Time{}
	}
}

// start is when a term began that ends now, or a little before that: a day that a month
// does not have is the last one of it, so that nothing is left out whose own term has not
// ended.
func (t Term) start(now time.Time) time.Time {
	now = now.UTC()
	if t.unit == unitDays {
		return now.AddDate(0, 0, -t.n)
	}
	months := t.n
	if t.unit == unitYears {
		months *= 12
	}
	from := now.AddDate(0, -months, 0)
	if from.Day() != now.Day() {
		from = from.AddDate(0, 0, -from.Day()) // it went on into the next month
	}
	return from
}

// ForeverMicros is what KeepMicros gives for what is kept forever.
const ForeverMicros int64 = math.MaxInt64

// KeepMicros is until when an entry that arrived then is kept, both in microseconds since
// the Unix epoch: the beginning of the second UTC day after the term's end.
func (t Term) KeepMicros(arrival int64) int64 {
	end := t.End(time.UnixMicro(arrival))
	if end.IsZero() {
		return ForeverMicros
	}
	y, m, d := end.Date()
	return time.Date(y, m, d+marginDays, 0, 0, 0, 0, time.UTC).UnixMicro()
}

// isShorter reports whether the term may end before another one that begins with it.
func (t Term) isShorter(than Term) bool {
	switch {
	case t.IsForever():
		return false
	case than.IsForever():
		return true
	}
	// Months differ, and a leap year comes in four.
	for month := range 48 {
		from := epoch.AddDate(0, month, 0)
		if t.End(from).Before(than.End(from)) {
			return true
		}
	}
	return false
}

var errNoTerm = errors.New("there is no term: write one as in 400d, 13mo, 7y or forever")
