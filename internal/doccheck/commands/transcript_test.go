//go:build unix

package commands

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// ran is what became of a command.
type ran struct {
	command
	as      string // as it was run
	status  int
	output  string
	seconds float64
	reason  string // why it was not run
}

// most is how much of an output the transcript has.
const most = 8 << 10

// write appends it to the transcript.
func (r ran) write(t *testing.T, file string) {
	t.Helper()
	if file == "" {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s:%d\n\n$ %s\n", r.doc, r.line, r.text)
	switch {
	case r.reason != "":
		fmt.Fprintf(&b, "not run here: %s\n", r.reason)
	default:
		if r.as != r.text {
			fmt.Fprintf(&b, "# as: %s\n", r.as)
		}
		output := r.output
		if len(output) > most {
			output = fmt.Sprintf("%s\n[… %d bytes …]\n%s", output[:most/2], len(output)-most, output[len(output)-most/2:])
		}
		b.WriteString(output)
		if output != "" && !strings.HasSuffix(output, "\n") {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# exit status %d, %.1f s\n", r.status, r.seconds)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(b.String()); err != nil {
		t.Fatal(err)
	}
}
