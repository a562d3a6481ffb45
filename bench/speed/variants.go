//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
)

// A variant is a configuration under test. All of them are the shipped Caddyfile, and
// differ in nothing but what their name says.
type variant struct {
	name string
	// level and durability are those of a rule for all calls; without a level there is no
	// audit_log at all.
	level, durability string
	// held says that the store takes nothing until the measurement is over: what is left
	// is what recording costs.
	held bool
	// log says that Caddy writes an access log.
	log bool
	// gogc is GOGC in its environment, with which it leaves Go's collector alone. Empty: not
	// set, as in the others.
	gogc string
}

var (
	plain    = variant{name: "plain"}
	access   = variant{name: "access log", log: true}
	unlisted = variant{name: "none", level: "none"}
	relaxed  = variant{name: "relaxed", level: "metadata", durability: "relaxed", held: true}
	answer   = variant{name: "answer", level: "metadata", durability: "answer", held: true}
	strict   = variant{name: "strict", level: "metadata", durability: "strict", held: true}
	frugal   = variant{name: "answer GOGC=100", level: "metadata", durability: "answer", held: true, gogc: "100"}
	answered = variant{name: "answer delivering", level: "metadata", durability: "answer"}
	intended = variant{name: "strict delivering", level: "metadata", durability: "strict"}
)

// variants are all of them. plain comes first: the others are compared with it, and half
// of its load is what latency is measured at.
var variants = []variant{plain, access, unlisted, relaxed, answer, frugal, strict, answered, intended}

// chosen are the variants of a list of names, and plain.
func chosen(names string) ([]variant, error) {
	if names == "" {
		return variants, nil
	}
	some := []variant{plain}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(variants, func(v variant) bool { return v.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("reading the options: there is no variant %q: choose of %s", name, strings.Join(variantNames(), ","))
		}
		if variants[i] != plain {
			some = append(some, variants[i])
		}
	}
	return some, nil
}

func variantNames() (names []string) {
	for _, v := range variants {
		names = append(names, v.name)
	}
	return names
}

func (v variant) audits() bool { return v.level != "" }

// records says whether each call must have an entry afterwards.
func (v variant) records() bool { return v.audits() && v.level != "none" }

// caddyfile makes the variant from the shipped text. log is where an access log is written.
func (v variant) caddyfile(shipped, log string) (string, error) {
	// HTTP/2 without TLS, so that no variant pays for TLS.
	text, err := insert(shipped, "trusted_proxies_strict", 0, "\t\tprotocols h1 h2c")
	if err != nil {
		return "", fmt.Errorf("deriving %s: %w", v.name, err)
	}
	if !v.audits() {
		var removed int
		if text, removed = withoutAudit(text); removed == 0 {
			return "", fmt.Errorf("deriving %s: the Caddyfile has no audit_log to take out", v.name)
		}
	} else if text, err = insert(text, "platform ", 1, strings.TrimRight("\t\trule * "+v.level+" "+v.durability, " ")); err != nil {
		return "", fmt.Errorf("deriving %s: %w", v.name, err)
	}
	if v.log {
		if text, err = insert(text, "reverse_proxy ", 0, "\tlog {", "\t\toutput file "+log, "\t}"); err != nil {
			return "", fmt.Errorf("deriving %s: %w", v.name, err)
		}
	}
	return text, nil
}

// insert puts lines before the first line that begins with a word, or so many lines later.
func insert(text, word string, later int, lines ...string) (string, error) {
	all := strings.Split(text, "\n")
	i := slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), word) })
	if i < 0 {
		return "", fmt.Errorf("the Caddyfile has no line that begins with %q", word)
	}
	return strings.Join(slices.Insert(all, max(i+later, 0), lines...), "\n"), nil
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
