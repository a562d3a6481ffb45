package caddymodule

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// diagnosisState is how bad a diagnosis is.
type diagnosisState string

const (
	// diagnosisOK is as it should be.
	diagnosisOK diagnosisState = "ok"
	// diagnosisWarning may be meant, or become wrong.
	diagnosisWarning diagnosisState = "warning"
	// diagnosisWrong loses entries, lets somebody in, or will.
	diagnosisWrong diagnosisState = "wrong"
	// diagnosisNotKnown could not be looked at.
	diagnosisNotKnown diagnosisState = "not_known"
)

// diagnosis is one thing that was looked at. It never holds a secret.
type diagnosis struct {
	// Check is the look that found it.
	Check string         `json:"check"`
	State diagnosisState `json:"state"`
	// Seen says in one line what was seen, and Cure in one how to mend it.
	Seen string `json:"seen"`
	Cure string `json:"cure,omitempty"`
	// Link is where it is explained.
	Link string `json:"link"`
}

func diagnosed(state diagnosisState, format string, args []any) diagnosis {
	return diagnosis{State: state, Seen: fmt.Sprintf(format, args...)}
}

func fine(format string, args ...any) diagnosis { return diagnosed(diagnosisOK, format, args) }

func warning(format string, args ...any) diagnosis {
	return diagnosed(diagnosisWarning, format, args)
}

func wrong(format string, args ...any) diagnosis { return diagnosed(diagnosisWrong, format, args) }

func notKnown(format string, args ...any) diagnosis {
	return diagnosed(diagnosisNotKnown, format, args)
}

// mend says how.
func (f diagnosis) mend(format string, args ...any) diagnosis {
	f.Cure = fmt.Sprintf(format, args...)
	return f
}

// doctorDocs is where each check has its section.
const doctorDocs = "https://github.com/caddy-audit-log/caddy-audit-log/blob/main/docs/doctor.md#"

// doctorReport is what a doctor has found.
type doctorReport struct {
	Wrong    int `json:"wrong"`
	Warnings int `json:"warnings"`
	NotKnown int `json:"not_known"`
	OK       int `json:"ok"`

	Findings []diagnosis `json:"findings"`
}

const (
	// maxFindings bounds those of one check, and maxFindingText a line of one, in bytes:
	// some of it comes from the network.
	maxFindings    = 40
	maxFindingText = 600
)

// add takes what a check has found.
func (r *doctorReport) add(check string, list []diagnosis) {
	for i, f := range list {
		if i == maxFindings {
			f = notKnown("there is more of the kind; only %d findings are shown", maxFindings).mend("mend these first, and look again")
		}
		f.Check, f.Link = check, doctorDocs+check
		f.Seen, f.Cure = oneLine(f.Seen), oneLine(f.Cure)
		switch f.State {
		case diagnosisOK:
			r.OK++
		case diagnosisWarning:
			r.Warnings++
		case diagnosisWrong:
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
	s = printable(strings.Join(strings.Fields(s), " "))
	if len(s) > maxFindingText {
		s = strings.ToValidUTF8(s[:maxFindingText], "") + "…"
	}
	return s
}

// diagnosisWords are what a person reads. The word tells as much as the colour.
var diagnosisWords = map[diagnosisState]struct{ word, colour string }{
	diagnosisOK:       {"ok", "\x1b[32m"},
	diagnosisWarning:  {"WARNING", "\x1b[33m"},
	diagnosisWrong:    {"WRONG", "\x1b[1;31m"},
	diagnosisNotKnown: {"not known", "\x1b[35m"},
}

// print shows the report to a person.
func (r *doctorReport) print(w io.Writer) error {
	screen, _ := screenOf(w)
	colour := screen != nil && inColour(os.Getenv)
	if screen != nil {
		w = screen
	}
	var b strings.Builder
	before := ""
	for _, f := range r.Findings {
		how := diagnosisWords[f.State]
		word := fmt.Sprintf("%-9s", how.word)
		if colour {
			word = how.colour + word + plain
		}
		name := f.Check
		if name == before {
			name = ""
		}
		before = f.Check
		fmt.Fprintf(&b, "%s  %-13s  %s\n", word, name, f.Seen)
		if f.State == diagnosisOK {
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
