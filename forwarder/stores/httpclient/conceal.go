package httpclient

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

const (
	// MaxAnswer bounds what is read of an answer's body for an error, in bytes.
	MaxAnswer = 4 << 10
	// MaxText bounds what an error shows of it, or of what the network said.
	MaxText = 1 << 10
	// minPartial is the length from which on the beginning of a secret at the end of a
	// text is taken for one that was cut off.
	minPartial = 4

	concealed = "[concealed]"
)

// Secrets are what the request in hand must not be told by: everything that a
// placeholder stood for, in the forms in which a receiver may give it back.
type Secrets []string

// Add has all forms of a value concealed from now on.
func (s *Secrets) Add(value string) {
	if value == "" {
		return
	}
	quoted, _ := json.Marshal(value) // a string always can be
	*s = append(*s, value,
		url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), strings.Trim(string(quoted), `"`),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
}

// Clean makes a text that came from outside fit for a log: no secret, nothing that is
// not printable, and not long.
func (s Secrets) Clean(text string) string {
	// The longest first: one may be a part of another.
	forms := slices.Clone(s)
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	forms = slices.Compact(forms)

	text = conceal(text, forms)
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	text = conceal(text, forms) // what a control character stood in
	if len(text) > MaxText {
		text = strings.ToValidUTF8(text[:MaxText], "") + "…"
	}
	return text
}

func conceal(text string, forms []string) string {
	for _, form := range forms {
		text = strings.ReplaceAll(text, form, concealed)
	}
	// The end of what was read, or sent, may have cut one in two.
	for _, form := range forms {
		for n := min(len(form)-1, len(text)); n >= minPartial; n-- {
			if strings.HasSuffix(text, form[:n]) {
				return text[:len(text)-n] + concealed
			}
		}
	}
	return text
}

// readText reads the beginning of an answer's body, and makes text of it by said if that
// is not nil. An error ends it: what came until then is still the best there is.
func (s Secrets) readText(h http.Header, body io.Reader, said func(http.Header, []byte) string) string {
	b, _ := io.ReadAll(io.LimitReader(body, MaxAnswer))
	if said != nil {
		return s.Clean(said(h, b))
	}
	return s.Clean(string(b))
}
