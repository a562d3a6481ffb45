package natsstore

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxText bounds what an error shows of what the network said, in bytes.
	maxText = 512
	// maxKnown bounds how many secrets are remembered, those of the last connections.
	maxKnown = 16

	concealed = "[concealed]"
)

// secrets are what no text may tell: what placeholders stood for when the store last
// connected. It is safe for concurrent use.
type secrets struct {
	mu    sync.Mutex
	known []string
}

func (s *secrets) add(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == "" || slices.Contains(s.known, value) {
		return
	}
	s.known = append(s.known, value)
	if len(s.known) > maxKnown {
		s.known = s.known[1:]
	}
}

// clean makes a text that came from outside fit for a log: no secret, nothing that is
// not printable, and not long.
func (s *secrets) clean(text string) string {
	if len(text) > 8*maxText {
		text = text[:8*maxText]
	}
	s.mu.Lock()
	var forms []string
	for _, value := range s.known {
		quoted, _ := json.Marshal(value) // a string always can be
		forms = append(forms, value, url.QueryEscape(value), url.PathEscape(value), strings.Trim(string(quoted), `"`),
			base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
	}
	s.mu.Unlock()
	// The longest first: one may be a part of another.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	forms = slices.Compact(forms)
	hide := func() {
		for _, form := range forms {
			text = strings.ReplaceAll(text, form, concealed)
		}
	}
	hide()
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	hide() // what a control character stood in
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
