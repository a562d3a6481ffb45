package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// bufferBlock is the first line of the buffer's block in a Caddyfile.
var bufferBlock = regexp.MustCompile(`(?m)^(\s*)buffer .*\{$`)

// WithBuffer writes the configuration into dir with an option of the buffer
// set. An empty value leaves it as it is.
func WithBuffer(caddyfile, dir, option, value string) (string, error) {
	if value == "" {
		return caddyfile, nil
	}
	b, err := os.ReadFile(caddyfile)
	if err != nil {
		return "", fmt.Errorf("reading the Caddyfile: %w", err)
	}
	if len(bufferBlock.FindAll(b, 2)) != 1 {
		return "", fmt.Errorf("setting %s: %s does not have exactly one buffer block; name a file that has its own with -caddyfile", option, caddyfile)
	}
	line := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(option) + `\s.*\n`)
	b = line.ReplaceAll(b, nil)
	b = bufferBlock.ReplaceAll(b, []byte("$0\n$1\t"+option+" "+value))
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", fmt.Errorf("setting %s: %w", option, err)
	}
	return path, nil
}
