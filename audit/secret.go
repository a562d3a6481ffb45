package audit

import (
	"encoding/hex"
	"strings"
)

// secretMark begins credentials that are recognised wherever they stand. What
// follows must be long enough to be one: a name may hold the mark.
type secretMark struct {
	mark string
	word bool // only at the start of a word
	min  int  // characters that follow
	// any counts every character but those that end a credential anywhere, and
	// not only those of words.
	any bool
}

// secretMarks are those of every platform.
var secretMarks = []secretMark{
	{mark: "sbp_", min: 16},
	{mark: "sb_secret_", min: 16},
	{mark: "eyJ", word: true, min: 17},
}

const (
	// minSecretMatch is the least that a pattern of the site must match within a
	// longer word to be taken for a credential.
	minSecretMatch = 12
	// maxMatches bounds the matches of a pattern that are looked at.
	maxMatches = 64
	// maxEscapes is how often a text may have been escaped to hide one.
	maxEscapes = 3
)

// looksSecret reports whether a text that is to be recorded holds what may be
// a credential, by the marks that every platform has.
func looksSecret(s string) bool { return hasMark(s, secretMarks) }

// looksSecret knows the platform's own shapes too. A nil platform has none.
// An escaped credential is one all the same.
func (p *Platform) looksSecret(s string) bool {
	for range maxEscapes {
		if looksSecret(s) || p != nil && (hasMark(s, p.marks) || p.holdsPattern(s)) {
			return true
		}
		plain := unescapeAny(s)
		if plain == s {
			return false
		}
		s = plain
	}
	return true // whoever escapes more often hides something
}

// unescapeAny replaces what is an escape and leaves the rest.
func unescapeAny(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
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
			n := len(rest) - len(strings.TrimLeft(rest, wordChars))
			if m.any {
				if n = strings.IndexAny(rest, delimiters); n < 0 {
					n = len(rest)
				}
			}
			if n >= m.min {
				return true
			}
		}
	}
	return false
}

// delimiters end a credential in any text.
const delimiters = " /?&;,:\"'<>()[]{}|\\\t\r\n"

// holdsPattern looks for what a pattern of the site matches: a word of its own,
// or enough of one. Rather too much is taken for a credential than too little.
func (p *Platform) holdsPattern(s string) bool {
	for _, pattern := range p.patterns {
		for _, at := range pattern.FindAllStringIndex(s, maxMatches) {
			own := (at[0] == 0 || !strings.Contains(wordChars, s[at[0]-1:at[0]])) && (at[1] == len(s) || !strings.Contains(wordChars, s[at[1]:at[1]+1]))
			if own || at[1]-at[0] >= minSecretMatch {
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
