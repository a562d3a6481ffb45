package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How much of a text is shown, in bytes before anything is made visible. What is longer
// is whole in the entry's JSON.
const (
	cellText  = 120
	titleText = 600
	fieldText = 1 << 10
	// jsonText bounds the JSON of an entry that a page has; whole it is at the API.
	jsonText = 512 << 10
)

// Text is what is shown of a text that somebody else wrote. The zero value is empty.
type Text struct {
	// Shown has nothing in it that cannot be seen or that changes how text runs.
	Shown string
	// Title is more of it where Shown was cut; else empty.
	Title string
	// Cut is how many bytes the whole has where Shown was cut; else zero.
	Cut string
}

// newText cuts a text to a number of bytes.
func newText(s string, most int) Text {
	if len(s) <= most {
		return Text{Shown: visible(s)}
	}
	t := Text{Shown: visible(clip(s, most)) + "…", Cut: number(int64(len(s)))}
	if most < titleText {
		t.Title = visible(clip(s, titleText))
		if len(s) > titleText {
			t.Title += "… (" + t.Cut + " bytes, whole in the entry)"
		}
	}
	return t
}

func cell(s string) Text { return newText(s, cellText) }

// clip is the beginning of a text, without half a character at its end.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for i := 0; i < utf8.UTFMax && most > 0 && !utf8.RuneStart(s[most]); i++ {
		most--
	}
	return s[:most]
}

// blanks are characters that count as letters, marks or symbols and show nothing.
var blanks = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x034f, Hi: 0x034f, Stride: 1},
		{Lo: 0x115f, Hi: 0x1160, Stride: 1},
		{Lo: 0x17b4, Hi: 0x17b5, Stride: 1},
		{Lo: 0x180b, Hi: 0x180f, Stride: 1},
		{Lo: 0x2800, Hi: 0x2800, Stride: 1},
		{Lo: 0x3164, Hi: 0x3164, Stride: 1},
		{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1},
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0xe0100, Hi: 0xe01ef, Stride: 1}},
}

// maxMarks is how many marks may stand on one letter; more of them cover other lines.
const maxMarks = 3

// hidden reports whether a character cannot be seen, or changes where others are seen:
// controls, formats such as a right-to-left override, and spaces that are none of the
// usual ones.
func hidden(r rune) bool { return !unicode.IsPrint(r) || unicode.Is(blanks, r) }

// visible writes what cannot be seen as ⟨U+202E⟩, and a byte that is not UTF-8 as ⟨0xFF⟩.
func visible(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	marks := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.In(r, unicode.Mn, unicode.Me) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, "⟨0x%02X⟩", s[i])
		case hidden(r), marks > maxMarks:
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// newJSON is a document, indented, in which what cannot be seen is escaped; so it is the
// same one still. What is no JSON is shown as text. It is cut to a number of bytes.
func newJSON(doc []byte, most int) Text {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		return newText(string(doc), most)
	}
	var s strings.Builder
	for _, r := range strings.ToValidUTF8(b.String(), "\ufffd") {
		switch {
		case s.Len() > most:
			return Text{Shown: clip(s.String(), most) + "…", Cut: number(int64(len(doc)))}
		case r == '\n' || !hidden(r): // inside of a text a new line is escaped already
			s.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&s, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&s, `\u%04x`, r)
		}
	}
	return Text{Shown: s.String()}
}

// words makes words for people of a name of ours: edge_function.
func words(name string) string {
	s := strings.ReplaceAll(name, "_", " ")
	if s == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}
