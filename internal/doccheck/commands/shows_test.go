package commands

import (
	"regexp"
	"strings"
)

// differs is the first line that a document shows and the program does not print, in this
// order. Numbers, times and ids may be others, unless all of it is to be the same; an ellipsis is
// anything.
func differs(shows []string, output string, exact bool) string {
	printed := strings.Split(output, "\n")
	for _, want := range shows {
		if strings.TrimSpace(want) == "" {
			continue
		}
		form := likeness(want, exact)
		for len(printed) > 0 && !form.MatchString(printed[0]) {
			printed = printed[1:]
		}
		if len(printed) == 0 {
			return want
		}
		printed = printed[1:]
	}
	return ""
}

// varies is a number, with its parts; a time; an id.
var varies = regexp.MustCompile(`[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+Z?|[0-9][0-9.,]*`)

func likeness(line string, exact bool) *regexp.Regexp {
	line = strings.TrimRight(line, " ")
	var b strings.Builder
	b.WriteString(`^`)
	literal := func(s string) {
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(s), "…", `.*`))
	}
	rest := line
	for !exact {
		at := varies.FindStringIndex(rest)
		if at == nil {
			break
		}
		literal(rest[:at[0]])
		b.WriteString(`[0-9a-fTZ:., -]+?`)
		rest = rest[at[1]:]
	}
	literal(rest)
	b.WriteString(`\s*$`)
	return regexp.MustCompile(b.String())
}

func matches(pattern, output string) bool { return regexp.MustCompile(pattern).MatchString(output) }
