package audit

import "strings"

// secretMark begins credentials that are recognised wherever they stand. What
// follows must be long enough to be one: a name may hold the mark.
type secretMark struct {
	mark string
	word bool // only at the start of a word
	min  int  // word characters that follow
}

// secretMarks are those of every platform.
var secretMarks = []secretMark{
	{mark: "sbp_", min: 16},
	{mark: "sb_secret_", min: 16},
	{mark: "eyJ", word: true, min: 17},
}

// minSecretWord is the least length of a word that a pattern of the site is
// tried on, where no mark can tell what it matches.
const minSecretWord = 12

// looksSecret reports whether a text that is to be recorded holds what may be
// a credential, by the marks that every platform has.
func looksSecret(s string) bool { return hasMark(s, secretMarks) }

// looksSecret knows the platform's own shapes too. A nil platform has none.
func (p *Platform) looksSecret(s string) bool {
	if looksSecret(s) {
		return true
	}
	if p == nil || len(p.marks) == 0 && len(p.patterns) == 0 {
		return false
	}
	return hasMark(s, p.marks) || p.holdsPattern(s)
}

func hasMark(s string, marks []secretMark) bool {
	for i := range marks {
		m := &marks[i]
		for from := 0; ; {
			i := strings.Index(s[from:], m.mark)
			if i < 0 {
				break
			}
			at := from + i
			from = at + len(m.mark)
			if m.word && !startsWord(s, at) {
				continue
			}
			rest := s[from:]
			if n := len(rest) - len(strings.TrimLeft(rest, wordChars)); n >= m.min {
				return true
			}
		}
	}
	return false
}

// holdsPattern tries the site's patterns on each word. A word ends where no
// credential goes on.
func (p *Platform) holdsPattern(s string) bool {
	if len(p.patterns) == 0 {
		return false
	}
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(" /?&;,:\"'<>()[]{}|\\\t\r\n", r) }) {
		if len(word) < minSecretWord {
			continue
		}
		for _, pattern := range p.patterns {
			if pattern.MatchString(word) {
				return true
			}
		}
	}
	return false
}

// startsWord takes an escaped character before the word for its end.
func startsWord(s string, at int) bool {
	return at == 0 || !strings.Contains(wordChars, s[at-1:at]) || at >= 3 && s[at-3] == '%'
}
