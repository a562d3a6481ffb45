package commands

import (
	"regexp"
	"slices"
	"strings"
)

// spellings are what a command in text stands for: its synopsis without what may be left out
// ("[--json]"), and with it, and one for each of several words ("list|show"). An ellipsis at its
// end says that it goes on.
func spellings(text string) (all []string) {
	text = strings.TrimSpace(strings.TrimSuffix(text, "…"))
	if m := optional.FindStringSubmatchIndex(text); m != nil {
		return append(spellings(text[:m[0]]+text[m[1]:]), spellings(text[:m[0]]+" "+text[m[2]:m[3]]+text[m[1]:])...)
	}
	if m := oneOf.FindStringIndex(text); m != nil {
		for word := range strings.SplitSeq(text[m[0]:m[1]], "|") {
			all = append(all, spellings(text[:m[0]]+word+text[m[1]:])...)
		}
		return all
	}
	return []string{strings.Join(strings.Fields(text), " ")}
}

var (
	optional = regexp.MustCompile(`\s*\[([^\]]+)\]`)
	oneOf    = regexp.MustCompile(`\b[a-z]+(?:\|[a-z]+)+\b`)
	// stands is a word that stands for others: NAME, <name>.
	stands = regexp.MustCompile(`^(?:[A-Z]{2,}|<[^>]+>)$`)
	prefix = regexp.MustCompile(`^(?:sudo )?(?:[A-Z_]+=(?:'[^']*'|\S+) )*`)
)

// parts are the commands of a line, without sudo and variables.
func parts(text string) (all []string) {
	for part := range strings.SplitSeq(strings.ReplaceAll(text, "&&", "|"), "|") {
		all = append(all, prefix.ReplaceAllString(strings.TrimSpace(part), ""))
	}
	return all
}

// begins says whether a command begins with the words of another, in which a word that stands
// for others is any.
func begins(text, with string) bool {
	words, want := strings.Fields(text), strings.Fields(with)
	if len(want) > len(words) {
		return false
	}
	for i, w := range want {
		if w != words[i] && !stands.MatchString(w) {
			return false
		}
	}
	return true
}

// toRun are the commands of all documents that have to be run or excused: those of blocks, and
// those in text, in each spelling, of which no other that is run is an example.
func toRun(all []command, list []excuse) (run []command) {
	type example struct {
		words int
		text  string
	}
	var examples []example
	var candidates []command
	for _, c := range all {
		texts := []string{c.text}
		if c.inText {
			texts = spellings(c.text)
		}
		for _, text := range texts {
			one := c
			one.text = text
			candidates = append(candidates, one)
			if _, ok := excuseOf(list, one); ok {
				continue
			}
			for _, p := range parts(text) {
				// One of a block counts for more than the same in text.
				words := 2 * len(strings.Fields(p))
				if !c.inText {
					words++
				}
				examples = append(examples, example{words, p})
			}
		}
	}
	seen := map[string]bool{}
	for _, c := range candidates {
		bare := prefix.ReplaceAllString(c.text, "")
		words := 2 * len(strings.Fields(bare))
		if c.inText && (seen[bare] || slices.ContainsFunc(examples, func(e example) bool { return e.words > words && begins(e.text, bare) })) {
			continue
		}
		seen[bare] = true
		run = append(run, c)
	}
	return run
}
