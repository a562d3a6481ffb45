package audit

import (
	"slices"
	"strings"
)

// redactedParam stands where a path held a credential.
const redactedParam = "[redacted]"

// RedactPath returns an escaped path with its credentials replaced by
// "[redacted]". m is the path's match, or the zero Match: a path that matches
// nothing may still carry a credential, mistyped, or in a form that the API
// understands and we do not. Such a path ends where in some route a credential
// would begin.
func (c *Catalog) RedactPath(path string, m *Match) string {
	if c == nil || len(c.markers) == 0 {
		return path
	}
	if m.Operation == nil {
		return c.cutMarked(path)
	}
	if len(m.Operation.Secrets) == 0 && !isOdd(path) {
		return path
	}
	parts := strings.Split(path, "/") // few, since it matched; the first is empty
	for i := range parts {
		parts[i] = c.cutMarked(parts[i])
	}
	for _, p := range m.params {
		if p.secret {
			parts[p.segment+1] = redactedParam
		}
	}
	return strings.Join(parts, "/")
}

// cutMarked replaces what follows the first marker. It reads escaped and plain
// separators alike and ignores case, since it need not know what the API does
// with them.
func (c *Catalog) cutMarked(path string) string {
	for start := 0; ; {
		end, next := nextSeparator(path, start)
		if end == next {
			return path
		}
		if c.marks(path[start:end]) {
			if onlySeparators(path[next:]) {
				return path
			}
			return path[:next] + redactedParam
		}
		start = next
	}
}

func (c *Catalog) marks(segment string) bool {
	segment = unescape(segment) // the same string if it holds no escape
	return slices.ContainsFunc(c.markers, func(marker string) bool { return strings.EqualFold(marker, segment) })
}

// nextSeparator finds the next separator at or after start, from end to next;
// both are the path's length if there is none.
func nextSeparator(path string, start int) (end, next int) {
	for i := start; i < len(path); i++ {
		if n := separatorLen(path[i:]); n > 0 {
			return i, i + n
		}
	}
	return len(path), len(path)
}

func onlySeparators(s string) bool {
	for s != "" {
		n := separatorLen(s)
		if n == 0 {
			return false
		}
		s = s[n:]
	}
	return true
}

// separatorLen is the length of the separator that s begins with, or 0.
func separatorLen(s string) int {
	switch {
	case s[0] == '/' || s[0] == '\\':
		return 1
	case s[0] == '%' && len(s) > 2:
		if e := s[1:3]; e == "2f" || e == "2F" || e == "5c" || e == "5C" {
			return 3
		}
	}
	return 0
}
