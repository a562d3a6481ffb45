package postgres

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// replacement is what U+FFFD is in JSON.
const replacement = `\ufffd`

// document returns what PostgreSQL's json can have of a document, and the document
// itself as raw if that is something else.
//
// PostgreSQL stores the escape of U+0000, but then fails each query that looks into
// such a document: one client's entry would break everybody's reports. The same is true
// of half a surrogate pair. Bytes that are not UTF-8 it does not store at all. All of
// these become U+FFFD in the column that is queried, and Read returns the raw bytes.
func document(doc []byte) (text string, raw []byte) {
	if bytes.IndexByte(doc, '\\') < 0 && bytes.IndexByte(doc, 0) < 0 && utf8.Valid(doc) {
		return string(doc), nil // as nearly all are
	}
	var b strings.Builder
	copied := 0 // what of doc is in b
	replace := func(from, to int) {
		b.Write(doc[copied:from])
		b.WriteString(replacement)
		copied = to
	}
	for i := 0; i < len(doc); {
		switch c := doc[i]; {
		case c == '\\':
			unit, ok := escaped(doc[i:])
			switch {
			case !ok:
				i += 2 // another escape, or no JSON at all, which PostgreSQL will say
			case unit == 0:
				replace(i, i+6)
				i += 6
			case utf16.IsSurrogate(unit):
				low, ok := escaped(doc[i+6:])
				if ok && utf16.DecodeRune(unit, low) != utf8.RuneError {
					i += 12
					continue
				}
				replace(i, i+6)
				i += 6
			default:
				i += 6
			}
		case c == 0:
			replace(i, i+1)
			i++
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(doc[i:])
			if r == utf8.RuneError && size == 1 {
				replace(i, i+1)
			}
			i += size
		}
	}
	if copied == 0 {
		return string(doc), nil
	}
	b.Write(doc[copied:])
	return b.String(), doc
}

// escaped reads \uXXXX at the beginning of b.
func escaped(b []byte) (unit rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	return unit, true
}
