package commands

import (
	"strings"
	"testing"
)

func TestAnAnswerWithoutItsEndIsNotTakenForAWholeOne(t *testing.T) {
	answer := `{"by":"","entry":{"id":"e"}}` + "\n"
	if _, err := readFindings(strings.NewReader(answer), func([]byte, string) error { return nil }); err == nil {
		t.Error("an answer without its end is taken for a whole one")
	}
}
