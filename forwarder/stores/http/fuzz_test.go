package httpstore

import "testing"

func FuzzParseStatuses(f *testing.F) {
	for _, text := range []string{"200-299", "204", "2xx", "-", "200-", "599-200", "0200", "+20"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseStatuses(text)
		if err != nil {
			return
		}
		if len(s) != 1 || s[0].First < 200 || s[0].First > s[0].Last || s[0].Last > 599 {
			t.Errorf("%q is %v", text, s)
		}
		if !s.has(s[0].First) || !s.has(s[0].Last) || s.has(s[0].First-1) || s.has(s[0].Last+1) {
			t.Errorf("%q does not have what it says", text)
		}
	})
}
