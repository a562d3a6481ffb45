//go:build linux && root && servers

package commands

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/natstest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/otelcol"
	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
	"github.com/caddy-audit-log/caddy-audit-log/internal/s3test"
)

var transcript = flag.String("transcript", "", "a file for each command, its output and its exit status")

// natsCLI is the program of docs/nats.md.
const natsCLI = "github.com/nats-io/natscli/nats@v0.5.1"

// TestDocumentedCommands runs the commands of the documents from a clean clone of what is
// committed, in a sandbox. It needs Linux and root.
func TestDocumentedCommands(t *testing.T) {
	if os.Getenv(inside) != "" {
		run(t)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("it needs root, for namespaces and mounts of its own")
	}
	work, err := os.MkdirTemp("/tmp", "doc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	if err := os.Chmod(work, 0o755); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	prepare(t, work)
	t.Logf("cloned and built within %.0f s", time.Since(begin).Seconds())

	file := *transcript
	if file != "" {
		if file, err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written := filepath.Join(work, "transcript")
	// Asked here, where the settings of go are; there, HOME is another one.
	goEnv, err := exec.Command("go", "env", "GOROOT", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := sandboxed([]string{"DOCCHECK_WORK=" + work, "DOCCHECK_GO=" + string(goEnv)})
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// It would end with the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		t.Errorf("in the sandbox: %v", err)
	}
	if file != "" {
		b, err := os.ReadFile(written)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// prepare makes what needs the network: the clone's modules, its build, and the servers of
// others.
func prepare(t *testing.T, work string) {
	t.Helper()
	shell := func(dir, line string) {
		t.Helper()
		cmd := exec.Command("bash", "-c", line)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	for _, dir := range []string{"bin", "home", "scratch", "tmp"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// PostgreSQL's user makes files there, too.
	if err := os.Chmod(filepath.Join(work, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	clone, bin := filepath.Join(work, "clone"), filepath.Join(work, "bin")
	shell(root, "git clone -q . "+clone)
	shell(clone, "GOFLAGS=-buildvcs=true go build -o ../bin/caddy ./cmd/caddy && go list -deps -test ./... >/dev/null")
	shell(bin, "ln -s caddy caddy-new")
	// As the real one does, it takes the environment away.
	if err := os.WriteFile(filepath.Join(bin, "sudo"), []byte("#!/bin/sh\nexec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	nats, err := program.Go(t.Context(), natsCLI)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(nats, filepath.Join(bin, "nats")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{natstest.Program, s3test.Program} {
		if _, err := program.Go(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := otelcol.Program(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// run is in the sandbox.
func run(t *testing.T) {
	if os.Getpid() != 1 {
		t.Fatalf("%s is set, and this process is not the first one of a sandbox", inside)
	}
	work := os.Getenv("DOCCHECK_WORK")
	dirs := strings.Fields(os.Getenv("DOCCHECK_GO"))
	if err := enterSandbox(filepath.Join(work, "scratch"), []string{"/tmp", dirs[1], dirs[2]}); err != nil {
		t.Fatalf("making a sandbox: %v", err)
	}
	tmp := filepath.Join(work, "tmp")
	t.Setenv("TMPDIR", tmp)
	env := []string{
		"TMPDIR=" + tmp,
		"PATH=" + filepath.Join(work, "bin") + ":" + filepath.Join(dirs[0], "bin") + ":" + os.Getenv("PATH"),
		"HOME=" + filepath.Join(work, "home"), "LANG=C.UTF-8", "USER=root",
		"GOCACHE=" + dirs[1], "GOMODCACHE=" + dirs[2], "GOPROXY=off", "GOTOOLCHAIN=local",
	}
	if root := os.Getenv("PYENV_ROOT"); root != "" {
		env = append(env, "PYENV_ROOT="+root)
	}
	rows := excuses(t)
	byDoc := map[string][]command{}
	var docs []string
	for _, c := range toRun(all(t), rows) {
		if byDoc[c.doc] == nil {
			docs = append(docs, c.doc)
		}
		byDoc[c.doc] = append(byDoc[c.doc], c)
	}
	api(t)
	file := filepath.Join(work, "transcript")
	head, err := exec.Command("sh", "-c", "cd "+work+"/clone && git log -1 --format='# The commands of the documents, as they were run at %H' && date -u '+# %F %H:%M UTC' && go version | sed 's/^/# /'").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, head, 0o644); err != nil {
		t.Fatal(err)
	}
	count := map[bool]int{}
	begin := time.Now()
	for _, doc := range docs {
		t.Run(strings.ReplaceAll(doc, "/", "-"), func(t *testing.T) {
			in, ok := settings[doc]
			s := &site{t: t, ctx: t.Context(), clone: filepath.Join(work, "clone"), dir: filepath.Join(work, "clone"), env: append(slices.Clone(env), in.env...), values: map[string]string{}}
			prepared := false
			for _, c := range byDoc[doc] {
				if e, is := excuseOf(rows, c); is {
					ran{command: c, reason: e.why + " (" + e.shownBy + ")"}.write(t, file)
					count[false]++
					continue
				}
				if !ok {
					t.Errorf("%s:%d: no setting", doc, c.line)
					continue
				}
				if !prepared {
					prepared = true
					s.clean()
					t.Cleanup(func() {
						if t.Failed() && s.server != nil {
							said := s.server.output()
							t.Logf("the server said last:\n%s", said[max(0, len(said)-3000):])
						}
						s.kill()
					})
					if in.before != nil {
						in.before(s)
					}
					if !in.noServer {
						s.up()
						s.calls()
						s.delivered()
					}
				}
				at := in.stepFor(c)
				if _, err := exec.LookPath(at.optional); at.optional != "" && err != nil {
					ran{command: c, reason: at.optional + " is not installed here"}.write(t, file)
					count[false]++
					continue
				}
				s.run(c, at, file)
				count[true]++
			}
		})
	}
	fmt.Printf("documented commands: %d run and %d not, within %.0f s\n", count[true], count[false], time.Since(begin).Seconds())
}

// stepFor is the one that says most of a command.
func (in setting) stepFor(c command) (at step) {
	for _, one := range in.steps {
		if strings.HasPrefix(c.text, one.command) && len(one.command) > len(at.command) {
			at = one
		}
	}
	return at
}

// run is one command.
func (s *site) run(c command, at step, file string) {
	s.t.Helper()
	if at.before != nil {
		at.before(s)
	}
	line := c.text
	for i := 0; i+1 < len(at.instead); i += 2 {
		line = strings.ReplaceAll(line, at.instead[i], at.instead[i+1])
	}
	for name, value := range s.values {
		line = strings.ReplaceAll(line, name, value)
	}
	within := at.within
	if within == 0 {
		within = time.Minute
	}
	begin := time.Now()
	p := start(s.t, s.dir, append(slices.Clone(s.env), at.env...), line, credential(s.t, at.user))
	done := ran{command: c, as: line}
	if at.until != "" {
		ctx, cancel := context.WithTimeout(s.ctx, within)
		defer cancel()
		if err := p.until(ctx, at.until); err != nil {
			s.t.Errorf("%s:%d: %s\n%v; it has printed:\n%s", c.doc, c.line, line, err, p.output())
		}
		s.output = p.output()
		if at.serves {
			s.serves(p)
		}
		if at.after != nil {
			at.after(s)
		}
		if !at.serves {
			done.status = p.end(syscall.SIGINT)
		}
	} else {
		done.status = p.wait(within)
	}
	done.output, done.seconds = p.output(), time.Since(begin).Seconds()
	s.output = done.output
	done.write(s.t, file)
	var wrong []string
	if done.status != at.status {
		wrong = append(wrong, fmt.Sprintf("its exit status is %d", done.status))
	}
	if missing := differs(c.shows, done.output, at.exact); missing != "" {
		wrong = append(wrong, "it does not print a line that the document shows: "+missing)
	}
	for _, pattern := range at.prints {
		if !matches(pattern, done.output) {
			wrong = append(wrong, "nothing that it prints matches "+pattern)
		}
	}
	if wrong != nil {
		s.t.Errorf("%s:%d: %s\n%s\nit printed:\n%s", c.doc, c.line, line, strings.Join(wrong, "\n"), done.output[max(0, len(done.output)-3000):])
	}
	if at.until == "" && at.after != nil {
		at.after(s)
	}
}
