package main

import (
	"fmt"
	"slices"
	"strings"
)

// The three variants are one Caddyfile: the shipped one, the same without our
// directives, and that with Caddy's access log. So they differ in nothing
// else.
const (
	plain  = "plain"
	access = "access log"
	ours   = "audit_log"
)

var variants = []string{plain, access, ours}

// variant makes one of them from the shipped text. log is where an access log
// is written.
func variant(name, shipped, log string) (string, error) {
	if name == ours {
		return shipped, nil
	}
	text, removed := withoutAudit(shipped)
	if removed == 0 {
		return "", fmt.Errorf("deriving %s: the Caddyfile has no audit_log to take out", name)
	}
	if name == plain {
		return text, nil
	}
	lines := strings.Split(text, "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "reverse_proxy ") })
	if i < 0 {
		return "", fmt.Errorf("deriving %s: the Caddyfile has no reverse_proxy to log", name)
	}
	block := []string{"\tlog {", "\t\toutput file " + log, "\t}"}
	return strings.Join(slices.Insert(lines, i, block...), "\n"), nil
}

// withoutAudit takes every directive out whose name starts with audit_log,
// with its block.
func withoutAudit(text string) (string, int) {
	var kept []string
	depth, removed := 0, 0
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, " #")
		code = strings.TrimSpace(code)
		if strings.HasPrefix(code, "#") {
			code = ""
		}
		if depth == 0 && !strings.HasPrefix(code, "audit_log") {
			kept = append(kept, line)
			continue
		}
		if depth == 0 {
			removed++
		}
		// A brace of a block stands last or alone; the others belong to
		// placeholders.
		if code == "{" || strings.HasSuffix(code, " {") {
			depth++
		} else if code == "}" {
			depth--
		}
	}
	return strings.Join(kept, ""), removed
}
