package audit

import (
	"strings"
	"unicode/utf8"
)

// Bounds of what one field may hold, in bytes.
const (
	maxText = 256
	maxLong = 2048
)

// recorder puts text from the network into an entry: bounded, valid UTF-8, and
// without anything that looks like a credential. Control characters stay: JSON
// escapes them, and an auditor wants to see them.
type recorder struct {
	e *Entry
	p *Platform // nil has no credentials of its own
}

func (r recorder) text(field, s string) string { return r.bounded(field, s, maxText) }
func (r recorder) long(field, s string) string { return r.bounded(field, s, maxLong) }

func (r recorder) bounded(field, s string, limit int) string {
	n := len(s)
	if n == 0 {
		return s
	}
	if n > limit {
		// The mark of a credential may be cut in two: look first, but not
		// through a megabyte.
		if r.p.looksSecret(s[:min(n, 2*limit)]) {
			return redactedParam
		}
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
		r.cut(field, n)
	} else if r.p.looksSecret(s) {
		return redactedParam
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
		r.cut(field, n)
	}
	return s
}

func (r recorder) cut(field string, n int) {
	if r.e.Cut == nil {
		r.e.Cut = map[string]int{}
	}
	r.e.Cut[field] = n
}
