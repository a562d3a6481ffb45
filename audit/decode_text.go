package audit

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder reads JSON from b, where it stands at i. Whoever gives up moves it to the end,
// where nothing more can be read; what was read until then is of no use.
type decoder struct {
	b      []byte
	i      int
	gaveUp bool
}

func (d *decoder) giveUp() { d.i, d.gaveUp = len(d.b), true }

// peek is the next byte that is no space; zero at the end.
func (d *decoder) peek() byte {
	for ; d.i < len(d.b); d.i++ {
		if c := d.b[d.i]; c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c
		}
	}
	return 0
}

// take takes the next byte that is no space, which must be c.
func (d *decoder) take(c byte) {
	if d.peek() != c {
		d.giveUp()
		return
	}
	d.i++
}

// open takes the beginning of an object or a list, and reports whether there is something
// in it; more goes on to what comes next, and reports whether there is something.
func (d *decoder) open(bracket byte) bool {
	d.take(bracket)
	if d.peek() == bracket+2 { // the one that closes it, in ASCII
		d.i++
		return false
	}
	if d.i == len(d.b) {
		d.giveUp()
	}
	return !d.gaveUp
}

func (d *decoder) more(end byte) bool {
	switch d.peek() {
	case ',':
		d.i++
		return true
	case end:
		d.i++
	default:
		d.giveUp()
	}
	return false
}

// name is a member's name as it is written, if it ends where a quote does. It is good
// until b changes.
func (d *decoder) name() []byte {
	d.take('"')
	n := bytes.IndexByte(d.b[d.i:], '"')
	if n < 0 {
		d.giveUp()
		return nil
	}
	name := d.b[d.i : d.i+n]
	d.i += n + 1
	d.take(':')
	return name
}

func (d *decoder) text() string { return string(d.raw()) }

// raw is a string's bytes. They are good until b changes.
func (d *decoder) raw() []byte {
	d.take('"')
	var s []byte // what comes before from, if there is an escape in it
	from := d.i
	for {
		d.i += plain(d.b[d.i:])
		if d.i == len(d.b) {
			d.giveUp()
			return nil
		}
		switch c := d.b[d.i]; {
		case c == '"':
			rest := d.b[from:d.i]
			d.i++
			if s == nil {
				return rest
			}
			return append(s, rest...)
		case c == '\\':
			s = append(s, d.b[from:d.i]...)
			s = utf8.AppendRune(s, d.escape())
			from = d.i
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(d.b[d.i:])
			if r == utf8.RuneError && size == 1 {
				d.giveUp()
				return nil
			}
			d.i += size
		case c < ' ':
			d.giveUp()
			return nil
		default: // it need not have been escaped
			d.i++
		}
	}
}

// escape is what an escape stands for. It gives up at a surrogate: AppendTo writes none.
func (d *decoder) escape() rune {
	if d.i+1 == len(d.b) {
		d.giveUp()
		return 0
	}
	c := d.b[d.i+1]
	d.i += 2
	switch c {
	case '"', '\\', '/':
		return rune(c)
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'u':
		if r, ok := hex4(d.b[d.i:]); ok && !utf16.IsSurrogate(r) {
			d.i += 4
			return r
		}
	}
	d.giveUp()
	return 0
}

// hex4 is the number that four digits are.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// oneOf is a text that is mostly one of a few, which are there already.
func oneOf[T ~string](d *decoder, usual ...T) T {
	raw := d.raw()
	for _, t := range usual {
		if string(t) == string(raw) {
			return t
		}
	}
	return T(raw)
}
