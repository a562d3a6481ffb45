package confdoc

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// comment is a field's, taken apart.
type comment struct {
	meaning, byDefault, form string
}

var (
	// A sentence ends where a period is followed by a new one or by nothing.
	defaultForm = regexp.MustCompile(`(^| )Default: (.*?)\.( [A-Z{]|$)`)
	formForm    = regexp.MustCompile(`\n\nCaddyfile: (.+)$`)
)

func parseComment(text string) (c comment, err error) {
	text = strings.TrimSpace(text)
	if m := formForm.FindStringSubmatch(text); m != nil {
		c.form = strings.Join(strings.Fields(m[1]), " ")
		text = strings.TrimSuffix(text, m[0])
	}
	text = strings.Join(strings.Fields(text), " ")
	required := strings.HasSuffix(text, " Required.") || strings.Contains(text, " Required. ")
	m := defaultForm.FindStringSubmatchIndex(text)
	switch {
	case text == "":
		return c, errors.New("it has no comment, which is its place in the manual")
	case required && m != nil:
		return c, errors.New("it is required and has a default: remove one")
	case required:
		c.byDefault = "required"
		text = strings.Replace(text, " Required.", "", 1)
	case m == nil:
		return c, errors.New(`its comment states no default: write a sentence that begins with "Default:", or the sentence "Required."`)
	default:
		c.byDefault = text[m[4]:m[5]]
		text = text[:m[0]] + text[m[5]+1:]
	}
	c.meaning = strings.TrimSpace(text)
	if c.meaning == "" {
		return c, errors.New("its comment states a default and does not say what it is")
	}
	return c, nil
}

// withJSONNames writes the JSON names of fields in the place of their Go names, which are
// pairs of both. One that is also a word, as URL or Path, is meant where the text begins
// with it, or where it stands in the middle of a sentence and is no abbreviation.
func withJSONNames(text string, names [][2]string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		bare := strings.TrimRight(w, ".,:;")
		bare = strings.TrimSuffix(bare, "'s")
		n := slices.IndexFunc(names, func(n [2]string) bool { return n[0] == bare })
		if n < 0 || names[n][1] == "" {
			continue
		}
		begins := i == 0 || strings.HasSuffix(words[i-1], ".") || strings.HasSuffix(words[i-1], ":")
		switch {
		case i == 0:
		case humps(bare) > 1 && strings.ContainsFunc(bare, unicode.IsLower):
		case begins || strings.ToUpper(bare) == bare:
			continue
		}
		words[i] = "`" + names[n][1] + "`" + w[len(bare):]
	}
	return strings.Join(words, " ")
}

// humps counts the words of a Go name.
func humps(name string) (n int) {
	upper := false
	for _, r := range name {
		if unicode.IsUpper(r) && !upper {
			n++
		}
		upper = unicode.IsUpper(r)
	}
	return n
}
