//go:build unix

package commands

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// all are the commands of all documents.
func all(t *testing.T) (list []command) {
	t.Helper()
	for _, name := range tree(t) {
		if documented(name) {
			list = append(list, find(name, read(t, name))...)
		}
	}
	return list
}

// tree are the repository's files, by their paths below its root.
func tree(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if rel, err := filepath.Rel(root, path); err == nil && !d.IsDir() {
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// runnable are the programs that may be run in the sandbox.
var runnable = []string{
	"caddy", "./caddy", "caddy-new", "go", "export", "printf", "echo", "cat", "cp", "curl", "mv", "install", "jq", "sqlite3", "zstd", "sha256sum",
	"systemd-sysusers", "systemctl", "nats", "aws", "pg_dump", "pg_restore",
}

// What a document tells to run is run (TestDocumentedCommands, behind tags), or there is a reason
// why not, and something else that shows it.
func TestEachDocumentedCommandIsRunOrExcused(t *testing.T) {
	rows := excuses(t)
	found := toRun(all(t), rows)
	if len(found) < 120 {
		t.Fatalf("only %d commands were found", len(found))
	}
	for _, c := range found {
		if _, ok := excuseOf(rows, c); ok {
			continue
		}
		if _, ok := settings[c.doc]; !ok {
			t.Errorf("%s:%d: %s\n\t%s has no setting in which its commands are run: give it one in settings, or the command a row in %s", c.doc, c.line, c.text, c.doc, excused)
			continue
		}
		for _, part := range parts(c.text) {
			program, _, _ := strings.Cut(part, " ")
			if isProgram.MatchString(program) && !slices.Contains(runnable, program) {
				t.Errorf("%s:%d: %s\n\t%s is not run here: add it to runnable if it can do no harm, or give the command a row in %s", c.doc, c.line, c.text, program, excused)
			}
		}
	}
}

// What a quoted "|" cuts off is none.
var isProgram = regexp.MustCompile(`^[a-z./][a-z0-9./_-]*$`)

// A row or a step is for commands that documents have.
func TestNoReasonAndNoStepIsLeftOver(t *testing.T) {
	rows := excuses(t)
	every := all(t)
	tests := map[string]bool{}
	for _, name := range tree(t) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range testFunc.FindAllStringSubmatch(read(t, name), -1) {
				tests[m[1]] = true
			}
		}
	}
	for _, e := range rows {
		if !slices.ContainsFunc(every, e.covers) {
			t.Errorf("%s:%d: no document has a command %q any more: take the row out", excused, e.line, e.command)
		}
		if wrong := e.holds(tests); wrong != "" {
			t.Errorf("%s:%d: %s: %s", excused, e.line, e.command, wrong)
		}
	}
	found := slices.DeleteFunc(toRun(every, rows), func(c command) bool { _, ok := excuseOf(rows, c); return ok })
	for doc, in := range settings {
		if !slices.ContainsFunc(found, func(c command) bool { return c.doc == doc }) {
			t.Errorf("%s has a setting, and no command that is run", doc)
		}
		if len(in.steps) > 0 && &in.steps[0] == &bench.steps[0] {
			continue // of several documents
		}
		for _, s := range in.steps {
			if !slices.ContainsFunc(found, func(c command) bool { return c.doc == doc && strings.HasPrefix(c.text, s.command) }) {
				t.Errorf("%s has a step for %q, and no command that begins so", doc, s.command)
			}
		}
	}
}

func TestWhatACommandIs(t *testing.T) {
	text := strings.Join([]string{
		"Run `caddy audit status [--json]`, as `README.md` says, or `caddy audit",
		"tail`:",
		"",
		"    go run ./bench/torture # a minute",
		"",
		"- a list",
		"    - of lists",
		"",
		"```sh",
		"# nothing",
		`a one \`,
		"  two # three",
		"```",
		"```console",
		"$ b",
		"prints 1",
		"```",
		"```",
		"no command",
		"```",
		`| table | ` + "`caddy audit buffer inspect\\|verify`" + ` |`,
	}, "\n")
	var got []string
	for _, c := range find("d.md", text) {
		got = append(got, c.text+strings.Repeat(" >", len(c.shows)))
	}
	want := []string{"caddy audit status [--json]", "caddy audit tail", "go run ./bench/torture", "a one two", "b >", "caddy audit buffer inspect|verify"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := spellings("caddy audit x a|b [-f] …"); !slices.Equal(got, []string{"caddy audit x a", "caddy audit x b", "caddy audit x a -f", "caddy audit x b -f"}) {
		t.Errorf("%q", got)
	}
	one := func(text string, inText bool) command { return command{doc: "d.md", text: text, inText: inText} }
	var run []string
	for _, c := range toRun([]command{one("caddy audit NAME", true), one("caddy audit x", true), one("sudo caddy audit x -f && y", false), one("docker caddy audit z", false), one("caddy audit z", true)}, []excuse{{command: "docker"}}) {
		run = append(run, c.text)
	}
	if !slices.Equal(run, []string{"sudo caddy audit x -f && y", "docker caddy audit z", "caddy audit z"}) {
		t.Errorf("%q", run)
	}
}

func TestWhatIsShownIsPrinted(t *testing.T) {
	const output = "at 12:00:01\nsqlite has received 10 sequences\nnothing is lost\n"
	for _, c := range []struct {
		shows   []string
		exact   bool
		differs string
	}{
		{[]string{"sqlite has received 7 sequences", "nothing is lost"}, false, ""},
		{[]string{"sqlite has received 7 sequences"}, true, "sqlite has received 7 sequences"},
		{[]string{"nothing is lost", "sqlite has received 7 sequences"}, false, "sqlite has received 7 sequences"},
		{[]string{"sqlite … sequences"}, true, ""},
		{[]string{"sqlite has received 7 entries"}, false, "sqlite has received 7 entries"},
	} {
		if got := differs(c.shows, output, c.exact); got != c.differs {
			t.Errorf("%q: %q", c.shows, got)
		}
	}
}
