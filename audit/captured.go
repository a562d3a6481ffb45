package audit

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what is captured at one place: a body, a query or the headers.
const (
	maxCaptured         = 8 << 10 // bytes of its JSON
	maxMaskedBytes      = 16 << 10
	maxCapturedMembers  = 100 // in all
	maxCapturedElements = 100 // of one list
	maxCapturedString   = maxText
	maxCapturedSQL      = maxLong
	maxCapturedNumber   = 64
	maxCapturedDepth    = 24
	maxCapturedCuts     = 16
)

// The words for what was not captured.
const (
	// wordTruncated says that the body went on where we had to stop. Only what
	// was read to its end is there; that a name comes a second time behind the
	// cut cannot be seen.
	wordTruncated = "truncated"
	// wordTooLarge says that more was selected than an entry has room for.
	wordTooLarge = "too_large"
	// wordShortened says that a string was cut; see Body.Cut.
	wordShortened = "shortened"
	// wordMalformed says that the body is not what its type says.
	wordMalformed = "malformed"
	// wordDuplicateName says that an object has a name twice. Parsers differ in
	// which one counts, so nothing of that object is there.
	wordDuplicateName = "duplicate_name"
	// wordTooDeep says that something lies deeper than we look.
	wordTooDeep = "too_deep"
	// wordEncoding says that the body is in an encoding that we cannot read.
	wordEncoding = "encoding"
	// wordBomb says that a few bytes decoded to very many.
	wordBomb = "bomb"
	// wordNotJSON says that the body is of a type that has no names.
	wordNotJSON = "not_json"
)

// captured collects what goes into an entry, masked and bounded.
type captured struct {
	masks   masker
	room    int
	work    int // bytes that were looked at for secrets
	members int
	words   []string
	cuts    map[string]int
	fields  map[string]any
	// masked says that something was.
	masked bool
}

func newCaptured(masks masker) *captured {
	return &captured{masks: masks, room: maxCaptured, members: maxCapturedMembers}
}

func (c *captured) say(word string) {
	if !slices.Contains(c.words, word) {
		c.words = append(c.words, word)
	}
}

// take reports whether there is room for n more bytes.
func (c *captured) take(n int) bool {
	if n > c.room {
		c.say(wordTooLarge)
		return false
	}
	c.room -= n
	return true
}

// full saves the work on what has no room in any case.
func (c *captured) full() bool {
	if c.room > 2 {
		return false
	}
	c.say(wordTooLarge)
	return true
}

// works reports whether n more bytes may be looked at for secrets. That costs far
// more than to copy them, and what is masked leaves room for as much again.
func (c *captured) works(n int) bool {
	c.work += min(n, maxCapturedString)
	if c.work > maxMaskedBytes {
		c.say(wordTooLarge)
		return false
	}
	return true
}

// name is a member's name as it may be recorded.
func (c *captured) name(name string) (string, bool) {
	if c.members == 0 || c.full() {
		c.say(wordTooLarge)
		return "", false
	}
	if !c.works(len(name)) {
		return "", false
	}
	masked, n := c.masks.text(name, maxCapturedString)
	if n > 0 {
		c.say(wordShortened)
	}
	c.masked = c.masked || n == 0 && masked != name
	if !c.take(jsonLen(masked) + 2) {
		return "", false
	}
	c.members--
	return masked, true
}

// text is a string as it may be recorded.
func (c *captured) text(path, s string, sql bool) (string, bool) {
	if c.full() || !c.works(len(s)) {
		return "", false
	}
	masked, n := c.masks.value(s, sql)
	c.masked = c.masked || strings.Contains(masked, redactedParam)
	if !c.take(jsonLen(masked) + 1) {
		return "", false
	}
	if n > 0 {
		c.cut(path, n)
	}
	return masked, true
}

func (c *captured) cut(path string, n int) {
	c.say(wordShortened)
	if c.cuts == nil {
		c.cuts = make(map[string]int)
	}
	if len(c.cuts) < maxCapturedCuts && len(path) <= maxCapturedString {
		c.cuts[path] = n
	}
}

// field takes one value of a form, a query or a header. A second one of the
// same name makes a list.
func (c *captured) field(name, value string, n *selected) {
	old := c.fields[name]
	list, isList := old.([]any)
	if len(list) == maxCaptureValues {
		c.say(wordTooLarge)
		return
	}
	shown := name
	if old == nil {
		var ok bool
		if shown, ok = c.name(name); !ok {
			return
		}
	}
	v, ok := c.fieldValue(name, value, n)
	if !ok {
		return
	}
	if c.fields == nil {
		c.fields = make(map[string]any)
	}
	switch {
	case isList:
		c.fields[name] = append(list, v)
	case old != nil:
		c.fields[name] = []any{old, v}
	default:
		c.fields[shown] = v
	}
}

// fieldValue is a field's text, or what is selected of the JSON in it.
func (c *captured) fieldValue(name, value string, n *selected) (any, bool) {
	switch {
	case hidesValue(name, value):
		return redactedParam, c.take(len(redactedParam) + 3)
	case n.whole:
		return c.text(name, value, n.sql)
	}
	r := jsonPruner{captured: c, text: []byte(value), base: name}
	return r.root(n)
}

// object is what was captured, with the words for what was not; nil if there is
// neither.
func (c *captured) object() map[string]any {
	if len(c.words) > 0 {
		if c.fields == nil {
			c.fields = make(map[string]any, 1)
		}
		c.fields[wordsMember] = c.words
	}
	return c.fields
}

// jsonLen is how many bytes a string takes in an entry, at most.
func jsonLen(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == '<' || c == '>' || c == '&':
			n += 5
		case c == '"' || c == '\\':
			n++
		case c == 0xe2: // may begin one of the two separators that are escaped
			n += 3
		}
	}
	return n
}

// fits reports whether every reader can hold a number: some fail on a whole
// entry for one that they cannot.
func fits(number json.Number) bool {
	if len(number) > maxCapturedNumber {
		return false
	}
	_, err := number.Float64()
	return err == nil
}

// clip cuts a string to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	end := n
	for end > 0 && end > n-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return strings.Join([]string{path, name}, ".")
}
