package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// setting is something that an operator may change while the product runs.
type setting struct {
	name string
	line *regexp.Regexp // the one line that says it, in the shipped Caddyfile
	with string         // what it becomes; %d is a number that is never used again
	from int            // and that starts here
	// policy says that the setting decides what is recorded or how much is
	// kept, so that audit.config_changed has to tell of it. The size of the
	// buffer's files does neither.
	policy bool
}

var settings = []setting{
	{"max_wait", regexp.MustCompile(`(?m)^(\s*)max_wait .*$`), "${1}max_wait %dms", 2000, true},
	{"max_size", regexp.MustCompile(`(?m)^(\s*)max_size .*$`), "${1}max_size %dMiB", 8192, true},
	{"rule", regexp.MustCompile(`(?m)^(\s*@probes path) .*$`), "${1} /health /healthz /probe-%d", 0, true},
	{"segment_size", regexp.MustCompile(`(?m)^(\s*)max_size (.*)$`), "${0}\n${1}segment_size %dMiB", 4, false},
}

// apply makes the text in which settings have been changed; zero is as
// shipped.
func apply(text string, changed [4]int) (string, error) {
	for i, s := range settings {
		if len(s.line.FindAllString(text, 2)) != 1 {
			return "", fmt.Errorf("changing %s: the Caddyfile does not have exactly one such line; use one that is like the shipped one", s.name)
		}
		if changed[i] > 0 {
			text = s.line.ReplaceAllString(text, fmt.Sprintf(s.with, s.from+changed[i]))
		}
	}
	return text, nil
}

var (
	auditBlock = regexp.MustCompile(`(?ms)^\taudit_log \{\n.*?^\t\}\n`)
	auditLine  = regexp.MustCompile(`(?m)^.* audit_log\n`) // a filter of the log
)

// withoutAudit makes the control's Caddyfile: the same without us.
func withoutAudit(text string) (string, error) {
	plain := auditLine.ReplaceAllString(auditBlock.ReplaceAllString(text, ""), "")
	if plain == text || strings.Contains(plain, "audit_log") {
		return "", fmt.Errorf("deriving the control: taking audit_log out of the Caddyfile needs its blocks to be formatted as in the shipped one")
	}
	return plain, nil
}

// fault makes a configuration invalid.
type fault struct {
	name string
	// audit says that it is about the buffer, which the control has not.
	audit bool
	// starts says that the product may have started with this configuration
	// before it is given up, depending on what Caddy happens to start first.
	starts bool
	// words must stand in the refusal, so that it is for the right reason.
	words string
	text  func(string) string
	json  func(config map[string]any)
}

var bufferLine = regexp.MustCompile(`(?m)^(\s*buffer) .*( \{)$`)

// faults are taken in turn. busy is a port that this program holds, dir a
// directory for things that are in the way.
func faults(busy int, dir string) ([]fault, error) {
	file, locked := filepath.Join(dir, "file"), filepath.Join(dir, "locked")
	if err := os.MkdirAll(filepath.Join(locked, "LOCK"), 0o700); err != nil {
		return nil, fmt.Errorf("making an unusable directory: %w", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return nil, fmt.Errorf("making an unusable directory: %w", err)
	}
	buffer := func(path string) func(string) string {
		return func(text string) string { return bufferLine.ReplaceAllString(text, "$1 "+path+"$2") }
	}
	return []fault{
		{
			name: "port busy", starts: true, words: "address already in use",
			text: func(text string) string {
				return fmt.Sprintf("%s\nhttp://:%d {\n\tbind %s\n\trespond 204\n}\n", text, busy, rig.Host)
			},
		},
		{
			name: "unknown module", words: "no_such_handler",
			json: func(config map[string]any) {
				apps, _ := config["apps"].(map[string]any)
				web, _ := apps["http"].(map[string]any)
				servers, _ := web["servers"].(map[string]any)
				servers["unknown"] = map[string]any{"routes": []any{map[string]any{"handle": []any{map[string]any{"handler": "no_such_handler"}}}}}
			},
		},
		// Refused while it is checked, and only when it is opened.
		{name: "directory below a file", audit: true, words: file, text: buffer(filepath.Join(file, "buffer"))},
		{name: "directory that cannot be locked", audit: true, words: locked, text: buffer(locked)},
	}, nil
}
