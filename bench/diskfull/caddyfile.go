package main

import (
	"fmt"
	"regexp"
)

// lines of the shipped Caddyfile that a trial changes.
var (
	bufferLine  = regexp.MustCompile(`(?m)^(\s*)buffer .*\{$`)
	onFaultLine = regexp.MustCompile(`(?m)^(\s*)on_fault .*$`)
	maxSizeLine = regexp.MustCompile(`(?m)^(\s*)max_size .*$`)
)

// change says what a line becomes.
type change struct {
	name string
	line *regexp.Regexp
	with string
}

// caddyfile derives a trial's configuration. dir is where the buffer's disk
// is, which only cause disk has.
func caddyfile(text, mode, cause, minFree, dir string) (string, error) {
	changes := []change{{"on_fault", onFaultLine, "${1}on_fault " + mode}}
	if minFree != "" {
		changes[0].with += "\n${1}min_free " + minFree
	}
	switch cause {
	case disk:
		changes = append(
			changes,
			change{"buffer", bufferLine, "${1}buffer " + dir + "/buffer {"},
			// Small, so that what the store has taken goes while calls arrive.
			change{"max_size", maxSizeLine, "${0}\n${1}segment_size 4MiB"},
		)
	case size:
		changes = append(changes, change{"max_size", maxSizeLine, "${1}max_size 8MiB"})
	}
	for _, c := range changes {
		if len(c.line.FindAllString(text, 2)) != 1 {
			return "", fmt.Errorf("setting %s: the Caddyfile does not have exactly one such line; use one that is like the shipped one", c.name)
		}
		text = c.line.ReplaceAllString(text, c.with)
	}
	return text, nil
}
