package audit

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"unicode/utf8"
)

const (
	maxFields     = 64
	maxFieldValue = 4 << 10
)

// form takes the selected fields of an URL-encoded form.
func (c *captured) form(text []byte, cut bool, n *selected) any {
	if cut {
		text = text[:bytes.LastIndexByte(text, '&')+1]
		c.say(wordTruncated)
	}
	c.pairs(string(text), func(name string) *selected {
		_, m := n.member(name)
		return m
	})
	if out := c.object(); out != nil {
		return out
	}
	return nil
}

// multipart takes the names of a form's fields and files, and the values of the
// selected ones that are short text.
func (c *captured) multipart(text []byte, cut bool, boundary string, n *selected) any {
	if boundary == "" {
		c.say(wordMalformed)
		return c.object()
	}
	fields := []any{}
	r := multipart.NewReader(bytes.NewReader(text), boundary)
	for {
		part, err := r.NextPart()
		if err != nil {
			c.ended(err, cut)
			break
		}
		if len(fields) == maxFields {
			c.say(wordTooLarge)
			break
		}
		field, err := c.part(part, n)
		if field != nil {
			fields = append(fields, field)
		}
		if err != nil {
			c.ended(err, cut)
			break
		}
	}
	if len(fields) > 0 {
		c.fields = map[string]any{"fields": fields}
	}
	return c.object()
}

func (c *captured) ended(err error, cut bool) {
	switch {
	case cut:
		c.say(wordTruncated)
	case !errors.Is(err, io.EOF):
		c.say(wordMalformed)
	}
}

// part takes one field. Its value is there only if it was read to its end.
func (c *captured) part(part *multipart.Part, n *selected) (map[string]any, error) {
	name := part.FormName()
	value, err := io.ReadAll(io.LimitReader(part, maxFieldValue+1))
	field := make(map[string]any, 2)
	shown, ok := c.name(name)
	if !ok || !c.take(12) {
		return nil, err
	}
	field["name"] = shown
	if file := part.FileName(); file != "" {
		if shown, ok := c.text(shown, file, false); ok {
			field["file"] = shown
		}
	}
	_, wanted := n.member(name)
	switch {
	case wanted == nil || err != nil:
	case len(value) > maxFieldValue:
		c.say(wordTooLarge)
	case !utf8.Valid(value) || strings.IndexByte(string(value), 0) >= 0:
		c.say(wordEncoding)
	default:
		if v, ok := c.fieldValue(name, string(value), wanted); ok {
			field["value"] = v
		}
	}
	return field, err
}
