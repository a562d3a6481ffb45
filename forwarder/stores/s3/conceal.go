package s3

import (
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxText bounds what an error shows of what came from the network.
	maxText   = 1 << 10
	concealed = "[concealed]"
)

// secrets are what no text may show: what the placeholders have stood for lately, in the
// forms in which a server may give it back.
type secrets struct {
	mu    sync.Mutex
	forms []string
}

// maxForms bounds how many are remembered.
const maxForms = 256

func (s *secrets) add(value string) {
	if value == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.forms, value) {
		return
	}
	quoted, _ := json.Marshal(value) // a text always can be
	s.forms = append(s.forms, value,
		url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value), strings.Trim(string(quoted), `"`),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
	slices.SortFunc(s.forms, func(a, b string) int { return len(b) - len(a) })
	s.forms = s.forms[:min(len(s.forms), maxForms)]
}

// clean makes a text that came from outside fit for a log: no secret, nothing that is
// not printable, and not long.
func (s *secrets) clean(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	conceal := func() {
		for _, form := range s.forms {
			text = strings.ReplaceAll(text, form, concealed)
		}
	}
	conceal()
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	conceal() // what a control character stood in
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// quote shows a name of the bucket, which may be anybody's.
func quote(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strconv.Quote(s)
}
