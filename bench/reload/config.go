package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

var (
	auditBlock = regexp.MustCompile(`(?ms)^\taudit_log(?:_viewer)? \{\n.*?^\t\}\n`)
	// A filter of the log, and the answer to probes.
	auditLine = regexp.MustCompile(`(?m)^.* audit_log\n|^\taudit_log_health .*\n`)
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
				return fmt.Sprintf("%s\nhttp://:%d {\n\tbind %s\n\trespond 204\n}\n", text, busy, ports.Host)
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
