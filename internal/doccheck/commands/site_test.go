//go:build unix

package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site is where the commands of one document are run: a clean clone, which is the working
// directory, and a server in it.
type site struct {
	t     *testing.T
	ctx   context.Context
	clone string
	// dir is the working directory: the clone, unless the setting has another one.
	dir string
	env []string
	// values are what a reader fills in.
	values map[string]string
	// output is what the last command has printed.
	output string
	server *process
	// object is the file of an object in the bucket of a store s3, if there is one.
	object func() string
}

// file writes one below the working directory.
func (s *site) file(name, content string) {
	s.t.Helper()
	name = s.at(name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.at(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *site) at(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

// edit replaces a text of a file, which must be there.
func (s *site) edit(name, old, with string) {
	s.t.Helper()
	text := s.read(name)
	if !strings.Contains(text, old) {
		s.t.Fatalf("%s has no %q", name, old)
	}
	s.file(name, strings.Replace(text, old, with, 1))
}

// set gives the environment a variable.
func (s *site) set(name, value string) {
	s.env = append(slices.DeleteFunc(slices.Clone(s.env), func(e string) bool { return strings.HasPrefix(e, name+"=") }), name+"="+value)
}

// shell runs what no document has, but needs.
func (s *site) shell(line string) string {
	s.t.Helper()
	p := start(s.t, s.dir, s.env, line, nil)
	if status := p.wait(2 * time.Minute); status != 0 {
		s.t.Fatalf("%s: exit status %d: %s", line, status, p.output())
	}
	return p.output()
}

// up starts the server and waits until it answers.
func (s *site) up() {
	s.t.Helper()
	s.serves(start(s.t, s.dir, s.env, "caddy run", nil))
}

func (s *site) serves(p *process) {
	s.t.Helper()
	s.server = p
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if answer, err := http.Get("http://127.0.0.1:9180/healthz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-p.ended:
			s.t.Fatalf("the server ended: %s", p.output())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the server does not answer: %s", p.output())
		}
	}
}

// down ends the server.
func (s *site) down() {
	s.t.Helper()
	if s.server == nil {
		return
	}
	if status := s.server.end(syscall.SIGTERM); status != 0 {
		s.t.Errorf("the server's exit status is %d: %s", status, s.server.output())
	}
	s.server = nil
}

// kill ends the server as a crash does, so that what no store has stays in the buffer.
func (s *site) kill() {
	if s.server != nil {
		s.server.end(syscall.SIGKILL)
		s.server = nil
	}
}

// call is one to the API, through the server. It returns its entry's id.
func (s *site) call(method, path string, known bool) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.ctx, method, "http://127.0.0.1:8080"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if known {
		request.Header.Set("Authorization", "Bearer "+person)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	id := answer.Header.Get("Audit-Id")
	if id == "" {
		s.t.Fatalf("%s %s: status %d, and no Audit-Id", method, path, answer.StatusCode)
	}
	return id
}

// calls are some of each outcome.
func (s *site) calls() {
	s.t.Helper()
	s.call(http.MethodGet, "/v1/organizations/acme", true)
	s.call(http.MethodPost, "/v1/projects/abcdefghijklmnopqrst/functions", true)
	s.values["ENTRY"] = s.call(http.MethodDelete, "/v1/projects/abcdefghijklmnopqrst/functions/hello-world", true)
	s.call(http.MethodDelete, "/v1/projects/abcdefghijklmnopqrst/functions/hello-world", false)
	s.call(http.MethodGet, "/v1/projects", true)
}

// delivered waits until the stores have what was recorded until now.
func (s *site) delivered() { s.shell("caddy audit drain --wait --timeout 1m") }

// lines decodes what prints an object a line.
func lines[T any](s *site, line string) (all []T) {
	s.t.Helper()
	for l := range strings.Lines(s.shell(line + " 2>/dev/null")) {
		var v T
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			s.t.Fatalf("%s: %v: %s", line, err, l)
		}
		all = append(all, v)
	}
	return all
}

// eventually waits for something that takes a moment.
func (s *site) eventually(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it was waited in vain for %s", what)
		}
	}
}

// credential is a user's.
func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// clean makes the clone what it was.
func (s *site) clean() {
	s.t.Helper()
	out, err := exec.Command("sh", "-c", "cd "+s.clone+" && git checkout -q . && git clean -fdxq && rm -rf /mnt/old-volume").CombinedOutput()
	if err != nil {
		s.t.Fatal(fmt.Errorf("cleaning the clone: %w: %s", err, out))
	}
}

// block is the first block of a language in a document that has a text in it.
func (s *site) block(doc, language, with string) string {
	s.t.Helper()
	for rest := read(s.t, doc); ; {
		_, after, ok := strings.Cut(rest, "\n```"+language+"\n")
		if !ok {
			s.t.Fatalf("%s has no block %s with %q", doc, language, with)
		}
		block, next, _ := strings.Cut(after, "\n```")
		if strings.Contains(block, with) {
			return block + "\n"
		}
		rest = next
	}
}
