package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// groups are the commands that have commands of their own.
var groups = []string{"audit", "audit buffer", "audit quarantine", "audit retention", "audit store"}

var helps sync.Map

// checkCommand holds a command line, without the program's name, against what the
// program says of itself.
func checkCommand(t *testing.T, where string, args []string) {
	t.Helper()
	if len(args) == 0 {
		t.Errorf("%s: no command", where)
		return
	}
	n := 1
	for n < len(args) && slices.Contains(groups, strings.Join(args[:n], " ")) {
		n++
	}
	name := strings.Join(args[:n], " ")
	help, ok := helps.Load(name)
	if !ok {
		out, err := output(t.Context(), caddy(t), []string{"HOME=" + t.TempDir()}, append(slices.Clone(args[:n]), "--help")...)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return
		}
		help = out
		helps.Store(name, help)
	}
	// An unknown one gets the help of the command above it.
	if !strings.Contains(help.(string), "caddy "+name) {
		t.Errorf("%s: the program has no command %q", where, name)
	}
	for _, arg := range args[n:] {
		flag, _, _ := strings.Cut(arg, "=")
		if !strings.HasPrefix(flag, "-") || flag == "-" || regexp.MustCompile(`^-\d`).MatchString(flag) {
			continue
		}
		if !regexp.MustCompile(`(^|[\s,])` + regexp.QuoteMeta(flag) + `([\s,]|$)`).MatchString(help.(string)) {
			t.Errorf("%s: caddy %s has no flag %s", where, name, flag)
		}
	}
}

var placeholder = regexp.MustCompile(`\{\$([A-Z_0-9]+)[:}]|\{env\.([A-Z_0-9]+)\}`)

// variables are what a Caddyfile takes from the environment.
func variables(caddyfile string) (names []string) {
	for line := range strings.Lines(caddyfile) {
		for _, m := range placeholder.FindAllStringSubmatch(line, -1) {
			names = append(names, m[1]+m[2])
		}
	}
	return names
}

// caddys are variables that count without a Caddyfile.
var caddys = []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME", "PATH"}

// checkVariable holds a variable against the Caddyfile of the place.
func checkVariable(t *testing.T, where, name, caddyfile string) {
	t.Helper()
	if !slices.Contains(variables(caddyfile), name) && !slices.Contains(caddys, name) {
		t.Errorf("%s: no Caddyfile of it takes %s", where, name)
	}
}

// The documents show commands to copy: each must be one of the program's.
func TestTheDocumentedCommandsExist(t *testing.T) {
	seen := 0
	for _, name := range []string{"deployment.md", "releases.md"} {
		doc := read(t, filepath.Join("..", "docs", name))
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(doc, -1) {
			text := strings.ReplaceAll(block[1], "\\\n", " ")
			for line := range strings.Lines(text) {
				line, _, _ = strings.Cut(line, " #")
				for _, part := range regexp.MustCompile(`&&|\|`).Split(line, -1) {
					words := strings.Fields(part)
					at := slices.IndexFunc(words, func(w string) bool {
						return w == "caddy" || w == "./caddy" || w == "/usr/bin/caddy" || w == "/usr/local/bin/caddy"
					})
					if at < 0 || at+1 == len(words) || !commandFollows(words, at) {
						continue
					}
					seen++
					checkCommand(t, name+": "+strings.TrimSpace(part), words[at+1:])
				}
			}
		}
	}
	if seen < 8 {
		t.Errorf("%d commands were found in the documents; this test sees nothing", seen)
	}
}

// commandFollows tells "caddy run" from "install caddy /usr/local/bin".
func commandFollows(words []string, at int) bool {
	if at == 0 {
		return true
	}
	before := words[at-1]
	return before == "sudo" || before == "--" || before == "audit" || strings.Contains(before, "=") ||
		slices.Contains(words[:at], "exec") || slices.Contains(words[:at], "-u")
}

// What the documents name must be there.
func TestTheDocumentsNameFilesThatExist(t *testing.T) {
	for _, name := range []string{"deployment.md", "releases.md"} {
		doc := read(t, filepath.Join("..", "docs", name))
		for _, file := range regexp.MustCompile(`deploy/[a-zA-Z0-9_./-]*[a-zA-Z0-9]`).FindAllString(doc, -1) {
			if filepath.Base(file) == ".env" {
				continue // made by who follows the document
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
