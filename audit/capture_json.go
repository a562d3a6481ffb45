package audit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// jsonPruner reads a JSON text from its beginning and keeps what is selected.
// It stops at the end of the text or at its first fault, so that a text which
// was cut gives what was read to its end before, and nothing else.
type jsonPruner struct {
	*captured
	text []byte
	at   int
	// cut says that the text goes on behind its end.
	cut bool
	// fault is wordTruncated or wordMalformed once reading has stopped.
	fault string
	// base is the field that the text stands in, if any.
	base string
	// depth counts the objects and lists around.
	depth int
}

var byteOrderMark = []byte("\uFEFF")

// root gives what is selected of the whole text.
func (r *jsonPruner) root(n *selected) (any, bool) {
	r.text = bytes.TrimPrefix(r.text, byteOrderMark)
	if r.space() == 0 && !r.cut {
		return nil, false // an empty body
	}
	v, ok := r.value(n, r.base)
	if r.fault == "" && r.space() != 0 {
		r.fail()
	}
	switch r.fault {
	case "":
		return v, ok
	case wordMalformed:
		// How somebody else reads it cannot be known.
		r.say(wordMalformed)
		return nil, false
	}
	r.say(wordTruncated)
	return v, ok
}

// fail stops the reading: at the end of a text that was cut, or at a fault.
func (r *jsonPruner) fail() {
	switch {
	case r.fault != "":
	case r.cut && r.at >= len(r.text):
		r.fault = wordTruncated
	default:
		r.fault = wordMalformed
	}
	r.at = len(r.text)
}

// space skips white space and gives the byte behind it, or 0 at the end.
func (r *jsonPruner) space() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
		case 0:
			return 1 // no JSON has it there
		default:
			return c
		}
	}
	return 0
}

// value reads a value and gives what is selected of it.
func (r *jsonPruner) value(n *selected, path string) (any, bool) {
	c := r.space()
	if n == nil || c == '{' && n.names == nil && !n.whole || c == '[' && n.each == nil && !n.whole {
		r.skip()
		return nil, false
	}
	switch {
	case c == '{' || c == '[':
		return r.container(c, n, path)
	case !n.whole:
		r.skip()
		return nil, false
	case c == '"':
		s, ok := r.string()
		if !ok {
			return nil, false
		}
		return r.captured.text(path, s, n.sql)
	}
	return r.scalar()
}

func (r *jsonPruner) container(c byte, n *selected, path string) (any, bool) {
	if r.depth == maxCapturedDepth {
		r.say(wordTooDeep)
		r.skip()
		return nil, false
	}
	r.depth++
	defer func() { r.depth-- }()
	if !r.take(2) {
		r.skip()
		return nil, false
	}
	if c == '{' {
		return r.object(n, path)
	}
	return r.list(n, path)
}

func (r *jsonPruner) object(n *selected, path string) (any, bool) {
	out := make(map[string]any)
	var seen, spelled seenNames
	r.at++
	for first := true; r.more('}', first); first = false {
		name, ok := r.string()
		if !ok || r.space() != ':' {
			r.fail()
			break
		}
		r.at++
		// Another spelling of a selected name may count for the API.
		own, wanted := n.member(name)
		if seen.add(name) || own != "" && spelled.add(own) {
			r.say(wordDuplicateName)
			out = nil
		}
		if out == nil {
			r.skip()
			continue
		}
		r.member(out, wanted, name, path)
	}
	r.hideLabelled(out)
	return out, len(out) > 0 || out != nil && n.whole && r.fault == ""
}

// member reads a member's value into out.
func (r *jsonPruner) member(out map[string]any, n *selected, name, path string) {
	if n == nil {
		r.skip()
		return
	}
	shown, ok := r.name(name)
	if !ok {
		r.skip()
		return
	}
	if kindOfName(name) != namePlain && r.hides(name) {
		if r.fault == "" && r.take(len(redactedParam)+3) {
			out[shown], r.masked = redactedParam, true
		}
		return
	}
	if v, ok := r.value(n, joinPath(path, shown)); ok {
		out[shown] = v
	}
}

// hideLabelled hides the value of a pair whose name is a value too, as in
// {"name":"DB_PASSWORD","value":…}. In an object that is cut the name may follow.
func (r *jsonPruner) hideLabelled(out map[string]any) {
	label, secret := r.label(out)
	for own, v := range out {
		name := strings.ToLower(own)
		_, isText := v.(string)
		switch {
		case secret && valueNames[name]:
			if b, ok := v.(bool); ok && !hidesValue(label, strconv.FormatBool(b)) {
				continue
			}
		case label != "" || r.fault == "" || !isText || name != "value" && name != "val" && name != "v":
			continue
		}
		out[own], r.masked = redactedParam, true
	}
}

// label is what an object says that its value is called.
func (r *jsonPruner) label(out map[string]any) (label string, secret bool) {
	for name, v := range out {
		text, ok := v.(string)
		if !ok || !labelNames[strings.ToLower(name)] || secret {
			continue
		}
		label, secret = text, kindOfName(text) != namePlain
	}
	return label, secret
}

var (
	labelNames = wordSet(`name key k field header variable env param parameter setting option id label title path`)
	valueNames = wordSet(`value values val v default content text data`)
)

// hides skips the value of a name that may be a secret's, and reports whether
// it is one; if it is not, the value is still to be read.
func (r *jsonPruner) hides(name string) bool {
	r.space()
	start := r.at
	r.skip()
	if r.fault != "" || hidesValue(name, string(r.text[start:min(r.at, start+maxCapturedNumber)])) {
		return true
	}
	r.at = start
	return false
}

func (r *jsonPruner) list(n *selected, path string) (any, bool) {
	out, follows := []any{}, false
	element := n.element()
	path = joinPath(path, "*")
	r.at++
	for first := true; r.more(']', first); first = false {
		if len(out) == maxCapturedElements {
			r.say(wordTooLarge)
			r.skip()
			continue
		}
		v, ok := r.value(element, path)
		if !ok {
			continue
		}
		text, isText := v.(string)
		if isText && follows {
			v, r.masked = redactedParam, true
		}
		// As in ["--password", "…"] and ["password", "…"].
		follows = isText && len(text) <= maxCapturedNumber && !strings.Contains(text, " ") && kindOfName(text) == nameSecret
		out = append(out, v)
	}
	return out, len(out) > 0 || n.whole && r.fault == ""
}

// more moves to the next member or element, and reports whether there is one.
func (r *jsonPruner) more(end byte, first bool) bool {
	switch c := r.space(); {
	case r.fault != "":
		return false
	case c == end:
		r.at++
		return false
	case first:
		return true
	case c == ',':
		r.at++
		if c := r.space(); c != 0 && c != end {
			return true
		}
	}
	r.fail()
	return false
}

// scalar reads a number or a literal.
func (r *jsonPruner) scalar() (any, bool) {
	start := r.at
	if !r.skipScalar() {
		return nil, false
	}
	switch word := string(r.text[start:r.at]); word {
	case "null":
		return nil, r.take(5)
	case "true", "false":
		return word == "true", r.take(6)
	default:
		number := json.Number(word)
		switch {
		case !fits(number):
			r.say(wordTooLarge)
			return nil, false
		case r.masks.hides(word):
			r.masked = true
			return redactedParam, r.take(len(redactedParam) + 3)
		}
		return number, r.take(len(word) + 1)
	}
}

// string reads a string to its end.
func (r *jsonPruner) string() (string, bool) {
	start := r.at
	if !r.skipString() {
		return "", false
	}
	raw := r.text[start:r.at]
	var s string
	if json.Unmarshal(raw, &s) != nil {
		r.at = start
		r.fault = wordMalformed
		return "", false
	}
	return s, true
}

// skip reads a value of any depth to its end, and checks its form.
func (r *jsonPruner) skip() {
	var open []byte
	for {
		switch c := r.space(); c {
		case '{', '[':
			open = append(open, c+2) // its closing bracket
			r.at++
			if r.space() != c+2 {
				if c == '{' && !r.skipName() {
					return
				}
				continue
			}
		case '"':
			if !r.skipString() {
				return
			}
		default:
			if !r.skipScalar() {
				return
			}
		}
		var more bool
		if open, more = r.skipClosing(open); !more {
			return
		}
	}
}

// skipClosing reads what stands behind a value, and reports whether another one
// follows.
func (r *jsonPruner) skipClosing(open []byte) ([]byte, bool) {
	for len(open) > 0 {
		end := open[len(open)-1]
		switch c := r.space(); c {
		case end:
			r.at++
			open = open[:len(open)-1]
		case ',':
			r.at++
			return open, end == ']' || r.skipName()
		default:
			r.fail()
			return open, false
		}
	}
	return open, false
}

func (r *jsonPruner) skipName() bool {
	r.space()
	if !r.skipString() {
		return false
	}
	if r.space() != ':' {
		r.fail()
		return false
	}
	r.at++
	return true
}

func (r *jsonPruner) skipString() bool {
	if r.at >= len(r.text) || r.text[r.at] != '"' {
		r.fail()
		return false
	}
	for r.at++; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return true
		case c == '\\':
			r.at++ // what is escaped ends nothing
		case c < ' ':
			r.fault = wordMalformed
			return false
		}
	}
	r.at = len(r.text)
	r.fail()
	return false
}

// skipScalar reads a number, true, false or null. At the end of a text that was
// cut it may go on, and then it is not read.
func (r *jsonPruner) skipScalar() bool {
	start := r.at
	for r.at < len(r.text) && strings.IndexByte("+-.0123456789Eaeflnrstu", r.text[r.at]) >= 0 {
		r.at++
	}
	if r.cut && r.at == len(r.text) || !json.Valid(r.text[start:r.at]) {
		r.fail()
		return false
	}
	return true
}

// seenNames are an object's, of which most have few.
type seenNames struct {
	few  []string
	many map[string]bool
}

// add reports whether the name was there already.
func (s *seenNames) add(name string) bool {
	if s.many == nil && len(s.few) < 16 {
		if slices.Contains(s.few, name) {
			return true
		}
		s.few = append(s.few, name)
		return false
	}
	if s.many == nil {
		s.many = make(map[string]bool)
		for _, old := range s.few {
			s.many[old] = true
		}
	}
	if s.many[name] {
		return true
	}
	s.many[name] = true
	return false
}
