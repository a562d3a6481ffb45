package caddymodule

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
	"golang.org/x/sys/unix"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// onTerminal runs the search with a real terminal of a width as its output.
func onTerminal(t *testing.T, width uint16, args ...string) string {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		b, _ := io.ReadAll(ours) // ends with EIO when the other side closes
		shown <- string(b)
	}()
	cmd := auditCommand(append([]string{"search"}, args...)...)
	cmd.SetOut(theirs)
	cmd.SetErr(io.Discard)
	err = cmd.ExecuteContext(t.Context())
	theirs.Close()
	if text := <-shown; err == nil {
		return strings.ReplaceAll(text, "\r\n", "\n")
	}
	t.Fatal(err)
	return ""
}

func TestATerminalGetsATableAndEverythingElsePlainLines(t *testing.T) {
	r := start(t, proxy, answers(403))
	r.send("POST", project+"/pause", nil, "")
	r.send("DELETE", project, nil, "")
	file := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(r.expand(rigCaddyfile, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("NO_COLOR", "")
	args := []string{"--config", file, "--outcome", "denied"}
	for _, width := range []uint16{0, 40, 80, 200} {
		text := onTerminal(t, width, args...)
		bare := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(text, "")
		if lines := strings.Split(bare, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "time ") || !strings.Contains(lines[1], "  denied  ") || !strings.Contains(text, "\x1b[33mdenied\x1b[0m") {
			t.Errorf("width %d:\n%s", width, text)
		}
		for line := range strings.Lines(bare) {
			if w := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); w > int(max(width, 40)) && width > 0 || w > 200 {
				t.Errorf("width %d: a line is %d wide: %s", width, w, line)
			}
		}
	}
	if text := onTerminal(t, 200, args...); !strings.Contains(text, "DELETE") || !strings.Contains(text, "project/abcdefghijklmnopqrst") {
		t.Errorf("in 200 columns something is cut:\n%s", text)
	}
	for line := range strings.Lines(onTerminal(t, 80, append(args, "--json")...)) {
		if e, err := audit.Decode([]byte(line)); err != nil || e.Outcome != audit.OutcomeDenied {
			t.Errorf("%s: %v", line, err)
		}
	}
	t.Setenv("NO_COLOR", "1")
	if text := onTerminal(t, 80, args...); strings.Contains(text, "\x1b") || strings.Count(text, "denied") != 2 {
		t.Errorf("with NO_COLOR:\n%q", text)
	}
	if out, _, err := searched(t, "", args...); err != nil || strings.Contains(out, "\x1b") || strings.Contains(out, "outcome") || strings.Count(out, "\n") != 2 {
		t.Errorf("without a terminal: %v\n%s", err, out)
	}
}
