package commands

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// excuse is why commands that begin so are not run here, and what shows that they work.
type excuse struct {
	line                  int
	command, why, shownBy string
}

const excused = "testdata/excused.txt"

func excuses(t *testing.T) (list []excuse) {
	t.Helper()
	b, err := os.ReadFile(excused)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range strings.Split(string(b), "\n") {
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		f := strings.Split(l, " :: ")
		if len(f) != 3 {
			t.Fatalf("%s:%d: a row is COMMAND :: WHY :: SHOWN BY, and this has %d fields", excused, i+1, len(f))
		}
		list = append(list, excuse{i + 1, f[0], f[1], f[2]})
	}
	return list
}

// covers says whether a row is about a command.
func (e excuse) covers(c command) bool {
	text := c.text
	if !strings.HasPrefix(e.command, "sudo ") {
		text = strings.TrimPrefix(text, "sudo ")
	}
	exact, ok := strings.CutSuffix(e.command, " $")
	if ok {
		return text == exact
	}
	return text == e.command || strings.HasPrefix(text, e.command+" ")
}

func excuseOf(list []excuse, c command) (excuse, bool) {
	for _, e := range list {
		if e.covers(c) {
			return e, true
		}
	}
	return excuse{}, false
}

// holds says what is wrong with the last field of a row: what shows that the commands work must
// be there.
func (e excuse) holds(tests map[string]bool) string {
	for by := range strings.SplitSeq(e.shownBy, ", ") {
		what, arg, _ := strings.Cut(by, ": ")
		if testName.MatchString(by) {
			if !tests[by] {
				return "there is no test " + by
			}
			continue
		}
		if what == "by hand" {
			what, arg = arg, "" // it says what was tried
		}
		b, err := os.ReadFile(filepath.Join(root, what))
		if err != nil {
			return "what shows it is \"FILE: TEXT\", the name of a test, or \"by hand: DOCUMENT\": " + err.Error()
		}
		if !strings.Contains(string(b), arg) {
			return what + " does not contain " + arg
		}
	}
	return ""
}

var (
	testName = regexp.MustCompile(`^Test[A-Z]\w+$`)
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z]\w+)\(`)
)

const root = "../../.."

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
