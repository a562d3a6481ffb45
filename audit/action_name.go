package audit

import (
	"slices"
	"strings"
	"unicode"
)

// ActionName turns an operation's id into words for people: "Get project api
// keys" for v1-get-project-api-keys, "Send invite" for
// AuthInviteController_sendInvite. An abbreviation in capitals keeps them, and
// so do the names with a capital inside that we know: GitHub.
func ActionName(code string) string {
	if controller, method, ok := strings.Cut(code, "_"); ok && strings.HasSuffix(controller, "Controller") {
		code = method
	}
	words := joinBrands(splitWords(code))
	if len(words) > 1 && isVersion(words[0]) {
		words = words[1:]
	}
	for i, word := range words {
		if !isAbbreviation(word) && !slices.Contains(brands, word) {
			words[i] = strings.ToLower(word)
		}
	}
	if len(words) == 0 {
		return ""
	}
	first := []rune(words[0])
	first[0] = unicode.ToUpper(first[0])
	words[0] = string(first)
	return strings.Join(words, " ")
}

// splitWords splits a name at everything but letters and digits, and where its
// capitals say that a word begins: sendInvite, getMFAState, oauth_app.
func splitWords(name string) []string {
	var words []string
	var word []rune
	flush := func() {
		if len(word) > 0 {
			words = append(words, string(word))
			word = word[:0]
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			flush()
			continue
		}
		if unicode.IsUpper(r) && len(word) > 0 {
			afterLower := !unicode.IsUpper(word[len(word)-1])
			beforeLower := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if afterLower || beforeLower {
				flush()
			}
		}
		word = append(word, r)
	}
	flush()
	return words
}

// brands are spelled with a capital where splitWords sees a second word.
var brands = []string{"GitHub", "GoTrue", "OAuth", "PostgREST"}

func joinBrands(words []string) []string {
	for i := 0; i+1 < len(words); i++ {
		if joined := words[i] + words[i+1]; slices.Contains(brands, joined) {
			words = slices.Replace(words, i, i+2, joined)
		}
	}
	return words
}

func isVersion(word string) bool {
	digits, ok := strings.CutPrefix(strings.ToLower(word), "v")
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

func isAbbreviation(word string) bool {
	return len(word) > 1 && !isVersion(word) && word == strings.ToUpper(word) && word != strings.ToLower(word)
}
