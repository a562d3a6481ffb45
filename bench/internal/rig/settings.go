package rig

import (
	"fmt"
	"regexp"
)

// Setting is something that an operator may change while the product runs.
type Setting struct {
	Name string
	// Policy says that the setting decides what is recorded or how much is
	// kept, so that audit.config_changed has to tell of it. The size of the
	// buffer's files does neither.
	Policy bool

	line *regexp.Regexp // the one line that says it, in the shipped Caddyfile
	with string         // what it becomes; %d is a number that is never used again
	from int            // and that starts here
}

// Settings are those that the programs change. The ones of the policy come
// first.
var Settings = [4]Setting{
	{"max_wait", true, regexp.MustCompile(`(?m)^(\s*)max_wait .*$`), "${1}max_wait %dms", 2000},
	{"max_size", true, regexp.MustCompile(`(?m)^(\s*)max_size .*$`), "${1}max_size %dMiB", 8192},
	{"rule", true, regexp.MustCompile(`(?m)^(\s*@probes path) .*$`), "${1} /health /healthz /probe-%d", 0},
	{"segment_size", false, regexp.MustCompile(`(?m)^(\s*)max_size (.*)$`), "${0}\n${1}segment_size %dMiB", 4},
}

// Changes says which of Settings have been changed, and to the how manieth
// value; zero is as shipped.
type Changes [len(Settings)]int

// Apply makes the text of a Caddyfile in which settings have been changed.
func (c Changes) Apply(text string) (string, error) {
	for i, s := range Settings {
		if len(s.line.FindAllString(text, 2)) != 1 {
			return "", fmt.Errorf("changing %s: the Caddyfile does not have exactly one such line; use one that is like the shipped one", s.Name)
		}
		if c[i] > 0 {
			text = s.line.ReplaceAllString(text, fmt.Sprintf(s.with, s.from+c[i]))
		}
	}
	return text, nil
}
