package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"mime"
	"strings"
)

// Bounds of a body's copy.
const (
	// DefaultBodyLimit is how much of a body is looked at, in bytes as they
	// pass.
	DefaultBodyLimit = 16 << 10
	// maxDecodedBody is how much of it is looked at when it is decoded.
	maxDecodedBody = 64 << 10
	// minHashed is the size below which what a body holds could be guessed from
	// its hash.
	minHashed = 256
)

// Body takes a copy of a body as it streams past, of which an entry gets what
// is selected. It is not safe for concurrent use. A nil Body takes nothing.
type Body struct {
	masks     masker
	wanted    *selected
	form      bodyForm
	params    map[string]string
	encodings string
	limit     int
	kept      []byte
	size      int64
	sum       hash.Hash
	cuts      map[string]int
}

type bodyForm int

const (
	formOther bodyForm = iota
	formJSON
	formURLEncoded
	formMultipart
)

// NewBody makes the copy of a call's body, or of its answer's with response. It
// is nil if nothing is selected there. contentType and contentEncoding are the
// headers' values; limit is how many bytes are kept, and 0 the default.
func (s *Selection) NewBody(contentType, contentEncoding string, response bool, limit int) *Body {
	if s == nil {
		return nil
	}
	wanted := s.body
	if response {
		wanted = s.response
	}
	if wanted == nil {
		return nil
	}
	if limit <= 0 {
		limit = DefaultBodyLimit
	}
	b := &Body{masks: s.masks, wanted: wanted, encodings: contentEncoding, limit: limit}
	b.form, b.params = formOf(contentType)
	if b.form == formOther {
		b.sum = sha256.New()
	}
	return b
}

func formOf(contentType string) (bodyForm, map[string]string) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil && kind == "" {
		kind, _, _ = strings.Cut(contentType, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	switch {
	case kind == "application/json", kind == "text/json", strings.HasSuffix(kind, "+json") && !strings.HasSuffix(kind, "seq+json"):
		return formJSON, nil
	case kind == "application/x-www-form-urlencoded":
		return formURLEncoded, nil
	case kind == "multipart/form-data":
		return formMultipart, params
	}
	return formOther, nil
}

// Write takes a part of the body. It never fails and never waits.
func (b *Body) Write(p []byte) (int, error) {
	if b == nil {
		return len(p), nil
	}
	b.size += int64(len(p))
	if b.sum != nil {
		b.sum.Write(p)
	}
	if room := b.limit - len(b.kept); room > 0 {
		b.kept = append(b.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// Size is how many bytes passed.
func (b *Body) Size() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

// Cut names the strings that were cut, by their paths, with their own length in
// bytes, as Entry.Cut does. It is known after Captured.
func (b *Body) Cut() map[string]int {
	if b == nil {
		return nil
	}
	return b.cuts
}

// Captured gives what goes into the entry: of JSON what is selected, in its own
// shape; of a form its fields; of all else size and hash. Nil is nothing.
// complete says that the body was sent to its end.
//
// What could not be captured is said by the member "_capture", a list of words.
// A body that is a list is under "elements" then.
func (b *Body) Captured(complete bool) any {
	if b == nil || b.size == 0 {
		return nil
	}
	c := newCaptured(b.masks)
	defer func() { b.cuts = c.cuts }()
	text, cut, word := b.decode(!complete || b.size > int64(len(b.kept)))
	if word != "" {
		c.say(word)
		return b.other(c)
	}
	switch b.form {
	case formURLEncoded:
		return c.form(text, cut, b.wanted)
	case formMultipart:
		return c.multipart(text, cut, b.params["boundary"], b.wanted)
	case formOther:
		if !looksJSON(text) {
			c.say(wordNotJSON)
			return b.other(c)
		}
	}
	v := c.json(text, cut, b.wanted)
	if b.form == formOther && len(c.words) > 0 && c.words[0] == wordMalformed {
		return b.other(c)
	}
	return v
}

// looksJSON finds JSON under another name: some APIs do not look at the type.
func looksJSON(text []byte) bool {
	r := jsonPruner{text: text}
	c := r.space()
	return c == '{' || c == '['
}

// other is what is said of a body that cannot be read.
func (b *Body) other(c *captured) any {
	if b.sum != nil {
		c.fields = map[string]any{"size": b.size}
		if b.size >= minHashed {
			c.fields["sha256"] = hex.EncodeToString(b.sum.Sum(nil))
		}
	}
	return c.object()
}

func (c *captured) json(text []byte, cut bool, n *selected) any {
	r := jsonPruner{captured: c, text: text, cut: cut}
	v, ok := r.root(n)
	switch fields := v.(type) {
	case map[string]any:
		if ok {
			c.fields = fields
		}
	default:
		if ok && len(c.words) == 0 {
			return v
		}
		if ok {
			c.fields = map[string]any{"elements": v}
		}
	}
	if out := c.object(); out != nil {
		return out
	}
	return nil
}
