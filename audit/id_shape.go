package audit

import "strings"

// idLen is the length of the id that an unescaped segment begins with, or 0.
func idLen(segment string) int {
	if verb := strings.LastIndexByte(segment, ':'); verb > 0 && isSuffix(segment[verb+1:]) && isID(segment[:verb]) {
		return verb
	}
	if dot := strings.LastIndexByte(segment, '.'); dot > 0 && isSuffix(segment[dot+1:]) && isID(segment[:dot]) {
		return len(segment)
	}
	if isID(segment) {
		return len(segment)
	}
	return 0
}

// isSuffix reports whether a text may be a verb or an extension.
func isSuffix(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) {
			return false
		}
	}
	return s != "" && !isID(s)
}

// isID judges a segment by its form; RouteOf says how. A segment is made of
// runs of letters and digits with separators between them.
func isID(s string) bool {
	if len(s) > maxPlainSegment || isUUID(s) {
		return true
	}
	var r run
	digits, lowers, words := 0, 0, true
	for i := 0; i <= len(s); i++ {
		if i < len(s) && !isSeparator(s[i]) {
			if !r.add(s[i]) {
				return true
			}
			continue
		}
		prefixed := i > r.n && s[i-r.n-1] == '_'
		if r.isID(prefixed) {
			return true
		}
		digits, lowers, words = digits+r.digits, lowers+r.lowers, words && r.isWord()
		r = run{}
	}
	switch {
	case digits == len(s):
		return true
	case len(s) == 20 && lowers == 20:
		return true
	case len(s) >= 20:
		return !words
	}
	return false
}

// run counts the letters and digits of a run.
type run struct {
	n, digits, lowers, hex int
	// turns are the changes between letters and digits, capitals the pairs of
	// letters with a capital in them.
	turns, capitals int
	last            byte
}

// add reports whether c is a letter or a digit at all.
func (r *run) add(c byte) bool {
	lower, digit := 'a' <= c && c <= 'z', isDigit(c)
	if !digit && !isLetter(c) {
		return false
	}
	if r.n > 0 {
		switch {
		case digit != isDigit(r.last):
			r.turns++
		case !digit && (!lower || r.last < 'a'):
			r.capitals++
		}
	}
	r.n++
	r.last = c
	if digit {
		r.digits++
	}
	if lower {
		r.lowers++
	}
	if digit || 'a' <= c|0x20 && c|0x20 <= 'f' {
		r.hex++
	}
	return true
}

func (r *run) isID(prefixed bool) bool {
	switch {
	case r.n >= 4 && r.digits == r.n:
		return true
	case r.n >= 8 && r.hex == r.n && r.digits > 0 && (r.uppers() == 0 || r.lowers == 0):
		return true
	case r.n >= 10 && !r.isWord():
		return prefixed || r.turns >= 3
	}
	return false
}

// isWord reports whether a run reads as words do: soc2, 2fa, getProjects. In a
// long random one, three pairs of letters in four have a capital.
func (r *run) isWord() bool {
	return r.n <= 32 && r.digits <= 3 && r.turns <= 1 && (r.n < 12 || 3*r.capitals <= r.n)
}

func (r *run) uppers() int { return r.n - r.digits - r.lowers }

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
		} else if c := s[i]; !isDigit(c) && (c|0x20 < 'a' || 'f' < c|0x20) {
			return false
		}
	}
	return true
}

func isSeparator(c byte) bool {
	switch c {
	case '-', '.', '_', '~', ':', '$':
		return true
	}
	return false
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
