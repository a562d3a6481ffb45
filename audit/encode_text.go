package audit

import (
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
)

// closed makes an object of the members that begin at start, each with a comma before it.
func closed(dst []byte, start int) []byte {
	if len(dst) == start {
		return append(dst, "{}"...)
	}
	dst[start] = '{'
	return append(dst, '}')
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

// The optional ones append a member, whose name they are given as it is written, unless
// its value is zero.

func optionalText(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(append(dst, name...), s)
}

func optionalInt(dst []byte, name string, n int64) []byte {
	if n == 0 {
		return dst
	}
	return appendInt(append(dst, name...), n)
}

func optionalTrue(dst []byte, member string, is bool) []byte {
	if !is {
		return dst
	}
	return append(dst, member...)
}

func optionalList(dst []byte, name string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	return appendList(append(dst, name...), list)
}

func appendList(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, s)
	}
	return append(dst, ']')
}

// appendTexts and appendNumbers append a map in the order of its names.
func appendTexts(dst []byte, m map[string]string) []byte {
	start := len(dst)
	var room [8]string
	for _, name := range sorted(room[:0], m) {
		dst = append(appendText(append(dst, ','), name), ':')
		dst = appendText(dst, m[name])
	}
	return closed(dst, start)
}

func appendNumbers(dst []byte, m map[string]int) []byte {
	start := len(dst)
	var room [8]string
	for _, name := range sorted(room[:0], m) {
		dst = append(appendText(append(dst, ','), name), ':')
		dst = appendInt(dst, int64(m[name]))
	}
	return closed(dst, start)
}

// sorted are a map's names, appended to names.
func sorted[V any](names []string, m map[string]V) []string {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// appendText appends a string as encoding/json writes it: fit for HTML too, and with
// U+FFFD for each byte that is not UTF-8.
func appendText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		s = s[n:]
		if s[0] < utf8.RuneSelf {
			dst = appendEscaped(dst, s[0])
			s = s[1:]
			continue
		}
		switch r, size := utf8.DecodeRuneInString(s); {
		case r == utf8.RuneError && size == 1:
			dst, s = append(dst, `\ufffd`...), s[1:]
		case r == '\u2028', r == '\u2029': // these end a line in JavaScript
			dst, s = append(dst, `\u202`...), s[size:]
			dst = append(dst, hexDigits[r&0xf])
		default:
			dst, s = append(dst, s[:size]...), s[size:]
		}
	}
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// plain is how many bytes at the beginning stand for themselves in a string of JSON, when
// it is written and when it is read: ASCII, but for control characters, quotes,
// backslashes, and < > &, which are escaped for HTML.
func plain[T string | []byte](s T) int {
	const (
		each = 0x0101010101010101
		high = 0x80 * each
	)
	// Eight at a time, of which the last ones may be looked at twice. Of a word that has a
	// byte that is not plain, the lowest bit that is left is the first such byte's: a borrow
	// only goes to bytes behind it.
	for i := 0; len(s) >= 8; i = min(i+8, len(s)-8) {
		b := s[i : i+8]
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		quote := w | 4*each ^ '&'*each // " and & differ by one bit
		angle := w | 2*each ^ '>'*each // and so do < and >
		slash := w ^ '\\'*each
		odd := w | (w - ' '*each) | (quote-each)&^quote | (angle-each)&^angle | (slash-each)&^slash
		if odd &= high; odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
		if i+8 == len(s) {
			return len(s)
		}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return i
		}
	}
	return len(s)
}
