package doctor

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// State is how bad a diagnosis is.
type State string

const (
	// StateOK is as it should be.
	StateOK State = "ok"
	// StateWarning may be meant, or become wrong.
	StateWarning State = "warning"
	// StateWrong loses entries, lets somebody in, or will.
	StateWrong State = "wrong"
	// StateNotKnown could not be looked at.
	StateNotKnown State = "not_known"
)

// Diagnosis is one thing that was looked at. It never holds a secret.
type Diagnosis struct {
	// Check is the look that found it.
	Check string `json:"check"`
	State State  `json:"state"`
	// Seen says in one line what was seen, and Cure in one how to mend it.
	Seen string `json:"seen"`
	Cure string `json:"cure,omitempty"`
	// Link is where it is explained.
	Link string `json:"link"`
}

func diagnosed(state State, format string, args []any) Diagnosis {
	return Diagnosis{State: state, Seen: fmt.Sprintf(format, args...)}
}

// Fine is as it should be.
func Fine(format string, args ...any) Diagnosis { return diagnosed(StateOK, format, args) }

// Warning may be meant, or become wrong.
func Warning(format string, args ...any) Diagnosis {
	return diagnosed(StateWarning, format, args)
}

// Wrong loses entries, lets somebody in, or will.
func Wrong(format string, args ...any) Diagnosis { return diagnosed(StateWrong, format, args) }

// NotKnown could not be looked at.
func NotKnown(format string, args ...any) Diagnosis {
	return diagnosed(StateNotKnown, format, args)
}

// Mend says how.
func (f Diagnosis) Mend(format string, args ...any) Diagnosis {
	f.Cure = fmt.Sprintf(format, args...)
	return f
}

// docs is where each check has its section.
const docs = "https://github.com/caddy-audit-log/caddy-audit-log/blob/main/docs/doctor.md#"

// Report is what a doctor has found.
type Report struct {
	Wrong    int `json:"wrong"`
	Warnings int `json:"warnings"`
	NotKnown int `json:"not_known"`
	OK       int `json:"ok"`

	Findings []Diagnosis `json:"findings"`
}

const (
	// maxFindings bounds those of one check, and maxFindingText a line of one, in bytes:
	// some of it comes from the network.
	maxFindings    = 40
	maxFindingText = 600
)

// Add takes what a check has found.
func (r *Report) Add(check string, list []Diagnosis) {
	for i, f := range list {
		if i == maxFindings {
			f = NotKnown("there is more of the kind; only %d findings are shown", maxFindings).Mend("mend these first, and look again")
		}
		f.Check, f.Link = check, docs+check
		f.Seen, f.Cure = oneLine(f.Seen), oneLine(f.Cure)
		switch f.State {
		case StateOK:
			r.OK++
		case StateWarning:
			r.Warnings++
		case StateWrong:
			r.Wrong++
		default:
			r.NotKnown++
		}
		if r.Findings = append(r.Findings, f); i == maxFindings {
			break
		}
	}
}

// oneLine is a text as it may stand on a terminal.
func oneLine(s string) string {
	s = display.Printable(strings.Join(strings.Fields(s), " "))
	if len(s) > maxFindingText {
		s = strings.ToValidUTF8(s[:maxFindingText], "") + "…"
	}
	return s
}

// words are what a person reads. The word tells as much as the colour.
var words = map[State]struct{ word, colour string }{
	StateOK:       {"ok", "\x1b[32m"},
	StateWarning:  {"WARNING", "\x1b[33m"},
	StateWrong:    {"WRONG", "\x1b[1;31m"},
	StateNotKnown: {"not known", "\x1b[35m"},
}

// Print shows the report to a person.
func (r *Report) Print(w io.Writer) error {
	screen, _ := display.ScreenOf(w)
	colour := screen != nil && display.InColour(os.Getenv)
	if screen != nil {
		w = screen
	}
	var b strings.Builder
	before := ""
	for _, f := range r.Findings {
		how := words[f.State]
		word := fmt.Sprintf("%-9s", how.word)
		if colour {
			word = how.colour + word + display.Plain
		}
		name := f.Check
		if name == before {
			name = ""
		}
		before = f.Check
		fmt.Fprintf(&b, "%s  %-13s  %s\n", word, name, f.Seen)
		if f.State == StateOK {
			continue
		}
		if f.Cure != "" {
			fmt.Fprintf(&b, "%26s → %s\n", "", f.Cure)
		}
		fmt.Fprintf(&b, "%28s %s\n", "", f.Link)
	}
	fmt.Fprintf(&b, "\n%d wrong, %d warning(s), %d not known, %d ok\n", r.Wrong, r.Warnings, r.NotKnown, r.OK)
	_, err := io.WriteString(w, b.String())
	return err
}
