package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Progress reports on standard error how far a program is: a bar on a
// terminal, now and then a plain line elsewhere.
type Progress struct {
	what string
	tty  bool
	last time.Time
}

// NewProgress reports on what.
func NewProgress(what string) *Progress {
	fi, err := os.Stderr.Stat()
	return &Progress{what: what, tty: err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// Step reports that done of total are done.
func (p *Progress) Step(done, total int, note string) {
	const width = 30
	if p.tty {
		full := width * done / max(total, 1)
		fmt.Fprintf(os.Stderr, "\r\033[K%s [%s%s] %d/%d %s", p.what, strings.Repeat("#", full), strings.Repeat(".", width-full), done, total, note)
		if done >= total {
			fmt.Fprintln(os.Stderr)
		}
		return
	}
	if done >= total || time.Since(p.last) >= 5*time.Second {
		p.last = time.Now()
		fmt.Fprintf(os.Stderr, "%s %d of %d: %s\n", p.what, done, total, note)
	}
}

// PrintJSON writes v as one line.
func PrintJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
