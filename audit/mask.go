package audit

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// masker takes credentials out of texts that are to be recorded. It looks at
// shapes, wherever they stand, and at names before a value; names of members
// are looked at where members are read. Rather too much is masked than too
// little.
type masker struct {
	p *Platform // nil has no credentials of its own
	// statement says that the text is SQL without its literals: what follows a
	// name there is no value.
	statement bool
	// nested counts the encodings around the text.
	nested int
}

// maxNested is how many encodings of a credential are seen through.
const maxNested = 2

// text is a string as it may be recorded, of at most limit bytes. n is its own
// length if it was cut or was not valid UTF-8, else 0.
func (m masker) text(s string, limit int) (masked string, n int) {
	full := len(s)
	if full == 0 {
		return s, 0
	}
	// A credential may be cut in two: look further, but not through all.
	window := clip(s, 2*limit)
	if valid := strings.ToValidUTF8(window, "\uFFFD"); valid != window {
		window, n = valid, full
	}
	masked = m.mask(window, limit)
	if full > limit {
		n = full
	}
	return clip(masked, limit), n
}

// value is a captured string as it may be recorded; n is as in text.
func (m masker) value(s string, sql bool) (masked string, n int) {
	if sql {
		return m.sql(s)
	}
	return m.text(s, maxCapturedString)
}

// sql is a statement as it may be recorded; n is as in text.
func (m masker) sql(query string) (masked string, n int) {
	m.statement = true
	masked, n = m.text(stripSQL(query), maxCapturedSQL)
	if n > 0 {
		n = len(query)
	}
	return masked, n
}

// hides reports whether anything in a text is masked.
func (m masker) hides(s string) bool {
	return s != redactedParam && m.mask(s, len(s)) != s
}

// mask replaces the credentials in the first limit bytes of s.
func (m masker) mask(s string, limit int) string {
	has := traitsOf(s)
	if has == 0 && !m.p.looksSecret(s) {
		return clip(s, limit)
	}
	if has&traitBrace != 0 && m.nested < maxNested {
		if masked, ok := m.inJSON(s, limit); ok {
			s = masked
			has = traitsOf(s)
		}
	}
	plain := replaceSpans(s, m.spans(s, has), limit)
	if m.encoded(plain) || m.p.looksSecret(plain) {
		return redactedParam
	}
	return plain
}

// span is a part of a text that is masked.
type span struct{ from, to int }

// spans finds what is masked in a text as it stands.
func (m masker) spans(s string, has trait) []span {
	f := finder{text: s, masker: m}
	if has&traitRun != 0 {
		f.marks()
		f.runs()
	}
	if has&traitDigits != 0 {
		f.cards()
	}
	if has&traitDash != 0 {
		f.pem()
	}
	if has&traitScheme != 0 {
		f.phrases()
	}
	if m.statement {
		return f.found
	}
	if has&traitPair != 0 {
		f.urls()
		f.pairs()
	}
	if has&(traitQuote|traitDash) != 0 {
		f.arguments()
	}
	return f.found
}

// replaceSpans writes the first limit bytes of s with its spans redacted.
func replaceSpans(s string, spans []span, limit int) string {
	if len(spans) == 0 {
		return clip(s, limit)
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	at := 0
	for _, sp := range spans {
		if sp.from >= limit {
			break
		}
		if sp.to <= at {
			continue
		}
		if sp.from >= at && !(at > 0 && sp.from == at) { // adjacent ones are one
			b.WriteString(s[at:sp.from])
			b.WriteString(redactedParam)
		}
		at = sp.to
	}
	if at < limit && at < len(s) {
		b.WriteString(clip(s[at:], limit-at))
	}
	return b.String()
}

// encoded reports whether a text holds a credential in another form: escaped
// for a URL, for HTML or for JSON. Then none of it can be kept, since where it
// stands is known in the other form only. What has no place in any form after
// that many encodings hides something.
func (m masker) encoded(s string) bool {
	forms := make([]string, 0, 4)
	add := func(plain string) {
		if plain != s && !slices.Contains(forms, plain) {
			forms = append(forms, plain)
		}
	}
	if strings.ContainsAny(s, "%+") {
		add(unescapeAny(s))
		add(unescapeAny(strings.ReplaceAll(s, "+", " "))) // as forms have it
	}
	if strings.IndexByte(s, '&') >= 0 {
		add(html.UnescapeString(s))
	}
	if strings.IndexByte(s, '\\') >= 0 {
		add(unescapeJSON(s))
	}
	m.nested++
	for _, plain := range forms {
		if len(m.spans(plain, traitsOf(plain))) > 0 || m.p.looksSecret(plain) {
			return true
		}
		if m.nested < maxNested && m.encoded(plain) {
			return true
		}
	}
	return false
}

// unescapeJSON replaces the escapes of a JSON string, and leaves what is none.
func unescapeJSON(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		n, plain := jsonEscape(s[i:])
		if n == 0 {
			b.WriteByte(s[i])
			continue
		}
		b.WriteString(plain)
		i += n - 1
	}
	return b.String()
}

// jsonEscape reads the escape that s begins with, also \x41 as other languages
// write it; n is 0 if there is none.
func jsonEscape(s string) (n int, plain string) {
	if len(s) < 2 || s[0] != '\\' {
		return 0, ""
	}
	raw := s[:2]
	switch {
	case s[1] == 'u' && len(s) >= 6:
		raw = s[:6]
	case s[1] == 'x' && len(s) >= 4:
		raw = `\u00` + s[2:4]
		n = 4
	case s[1] == '\'':
		return 2, "'"
	}
	if json.Unmarshal([]byte(`"`+raw+`"`), &plain) != nil {
		return 0, ""
	}
	if n == 0 {
		n = len(raw)
	}
	return n, plain
}

// inJSON masks a text that is JSON by itself, name by name. It reports false if
// it is none or nothing in it is masked; then the text stays as it is written.
func (m masker) inJSON(s string, limit int) (string, bool) {
	m.nested++
	c := newCaptured(m)
	r := jsonPruner{captured: c, text: []byte(s)}
	v, ok := r.root(wholeValue)
	if !ok {
		return "", false
	}
	if !c.masked {
		return "", false
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return redactedParam, true
	}
	return clip(strings.TrimSuffix(b.String(), "\n"), 2*limit), true
}

// decodeBase64 gives what a run encodes, if it is text.
func decodeBase64(run string) (string, bool) {
	run = strings.TrimRight(run, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(run, "-_") {
		encoding = base64.RawURLEncoding
	}
	if len(run)%4 == 1 {
		run = run[:len(run)-1]
	}
	b, err := encoding.DecodeString(run)
	if err != nil {
		return "", false
	}
	if !utf8.Valid(b) {
		return "", false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return "", false
		}
	}
	return string(b), true
}
