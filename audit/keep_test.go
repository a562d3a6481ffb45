package audit

import (
	"regexp"
	"strings"
	"testing"
)

func FuzzWild(f *testing.F) {
	f.Add("v1-*-function", "v1-delete-a-function")
	f.Add("*a*ab*", "aab")
	f.Add("a*a", "a")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 50 || strings.Count(pattern, "*") > 5 || strings.ContainsAny(pattern+text, "\n") {
			return
		}
		re, err := regexp.Compile(`^(?s:` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `)$`)
		if err != nil {
			return
		}
		if got, want := wild(pattern, text), re.MatchString(text); got != want {
			t.Errorf("%q, %q: %t, want %t", pattern, text, got, want)
		}
	})
}
