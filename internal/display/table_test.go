package display

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rivo/uniseg"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// tabled are the lines of a table.
func tabled(t *testing.T, width int, colour, trail bool, entries ...*audit.Entry) []string {
	t.Helper()
	var out strings.Builder
	table := NewTable(&out, width, colour, trail)
	for _, e := range entries {
		doc, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Add(doc, audit.BySession); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.End(); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func rowEntry(text string) *audit.Entry {
	return &audit.Entry{
		ID: "e", Timestamp: 1_760_000_000_000_000, Outcome: audit.OutcomeDenied, OrganizationSlug: text,
		Action: audit.Action{Code: text, Method: text, Status: 403, Path: text},
		Actor:  audit.Actor{TokenType: audit.TokenType(text), UserID: text, Email: text}, Target: &audit.Target{Type: text, ID: text},
	}
}

func TestATableIsAlignedAndNoWiderThanTheTerminalWhateverEntriesHold(t *testing.T) {
	texts := []string{
		"", "x", strings.Repeat("long ", 200), "\x1b[2J\x1b]0;owned\a", "a\nb\r\tc", "\u202etxt.exe\u202c", strings.Repeat("組織", 40), "e" + strings.Repeat("\u0301", 500),
		"\xff\xfe", "👩‍👩‍👧‍👦 family", "\u200b\u00ad\ufeff", "\u3164", strings.Repeat("🇩🇪", 30), "\u2028\u0085\u009b31m",
	}
	var entries []*audit.Entry
	for _, text := range texts {
		entries = append(entries, rowEntry(text))
	}
	for len(entries) < tableSample+30 { // the later ones come when the columns are laid out
		entries = append(entries, rowEntry(strings.Repeat("later", len(entries)%30)), rowEntry(texts[len(entries)%len(texts)]))
	}
	for _, width := range []int{1, 2, 5, 18, 19, 20, 21, 27, 28, 29, 30, 36, 40, 51, 60, 79, 80, 81, 100, 133, 200, 1000} {
		for _, colour := range []bool{false, true} {
			lines := tabled(t, width, colour, width%2 == 0, entries...)
			if len(lines) != len(entries)+1 {
				t.Fatalf("width %d: %d lines of %d entries", width, len(lines), len(entries))
			}
			for _, line := range lines {
				bare := colours.ReplaceAllString(line, "")
				if !colour && bare != line {
					t.Fatalf("width %d: there are colours: %q", width, line)
				}
				if w := uniseg.StringWidth(bare); w > width || strings.ContainsFunc(bare, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Fatalf("width %d: a line is %d wide: %q", width, w, line)
				}
				if width >= 40 && (len(bare) < 27 || bare[:19] == "" || bare[19:21] != "  " || bare[21:28] != "outcome" && bare[21:27] != "denied") {
					t.Fatalf("width %d: the outcome is not in its column: %q", width, line)
				}
				if width >= 40 && colour && line == bare {
					t.Fatalf("width %d: there is no colour: %q", width, line)
				}
			}
		}
	}
}

func TestATableShowsWhatTheFiltersTake(t *testing.T) {
	e := rowEntry("")
	e.OrganizationSlug, e.Action, e.Target = "acme", audit.Action{Code: "v1-pause", Method: "POST", Status: 403}, &audit.Target{Type: "project", ID: "ref"}
	e.Actor = audit.Actor{TokenType: "jwt", UserID: "u-1", Email: "ada@example.com"}
	event := audit.Event(audit.EventStarted, time.UnixMicro(e.Timestamp), nil)
	lines := tabled(t, 120, false, true, e, event)
	for i, want := range []string{
		"time outcome status method action target actor organization by",
		"DATE TIME denied 403 POST v1-pause project/ref ada@example.com acme session",
		"DATE TIME success – – audit.started – sidecar – session",
	} {
		got := regexp.MustCompile(`^\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d`).ReplaceAllString(lines[i], "DATE TIME")
		if got = strings.Join(strings.Fields(got), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if lines := tabled(t, 120, false, false, e); strings.Contains(lines[0], "by") || strings.Contains(lines[1], "session") {
		t.Errorf("a search by filters says how an entry was found: %q", lines)
	}
	for outcome, colour := range outcomeColours {
		e.Outcome = outcome
		if lines := tabled(t, 120, true, false, e); !strings.Contains(lines[1], colour+string(outcome)+Plain) {
			t.Errorf("outcome %s is not told by word and colour: %q", outcome, lines[1])
		}
	}
}

func TestColoursAreLeftOutWhereTheyAreNotWanted(t *testing.T) {
	for env, want := range map[string]bool{"": true, "NO_COLOR=1": false, "NO_COLOR=": true, "TERM=dumb": false, "TERM=xterm": true} {
		name, value, _ := strings.Cut(env, "=")
		got := InColour(func(asked string) string {
			if asked == name {
				return value
			}
			return ""
		})
		if got != want {
			t.Errorf("%q: %v", env, got)
		}
	}
}

func TestATableOfNothingIsEmpty(t *testing.T) {
	if lines := tabled(t, 80, true, false); fmt.Sprint(lines) != "[]" {
		t.Errorf("%q", lines)
	}
}
