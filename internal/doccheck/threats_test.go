package doccheck

import (
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]+\b`)
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z0-9]+)\(`)
)

// A document that names a test as the proof of what it says names one that exists.
func TestTestsThatDocumentsNameExist(t *testing.T) {
	exist := map[string]bool{}
	for _, name := range files(t, "_test.go") {
		for _, m := range testFunc.FindAllStringSubmatch(content(t, name), -1) {
			exist[m[1]] = true
		}
	}
	for _, name := range files(t, ".md") {
		for _, test := range testName.FindAllString(content(t, name), -1) {
			if !exist[test] {
				t.Errorf("%s names %s, which does not exist", name, test)
			}
		}
	}
}

// Each threat is told with what shows that it is met: a test, or a trial.
func TestEachThreatNamesItsProof(t *testing.T) {
	text := content(t, "docs/threat-model.md")
	rows := 0
	for _, row := range regexp.MustCompile(`(?m)^\| [^|]+ \| [^|]+ \| [^|]+ \| [^|]+ \|$`).FindAllString(text, -1) {
		// Nobody shows that nothing is done.
		if strings.HasPrefix(row, "| he, she or it") || strings.HasSuffix(row, "| nobody |") {
			continue
		}
		rows++
		if !testName.MatchString(row) && !strings.Contains(row, "bench/") {
			t.Errorf("a threat without a test or a trial: %s", row)
		}
	}
	if rows < 20 {
		t.Errorf("only %d threats were found", rows)
	}
}
