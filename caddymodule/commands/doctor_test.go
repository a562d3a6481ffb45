package commands_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/commands"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// A Caddyfile with which nothing is wrong. %DIR% is replaced, and what stands behind %GLOBAL%
// and %SITE% is for a test.
const wellCaddyfile = `{
	admin unix/%DIR%/admin.sock|0600
	persist_config off
	storage file_system %DIR%/storage
	log {
		format filter {
			request>uri audit_log
		}
	}
	servers {
		trusted_proxies static 10.0.0.0/8
		trusted_proxies_strict
	}
	audit_log {
		buffer %DIR%/audit/buffer {
			max_wait 1m
			max_size 8MiB
			segment_size 1MiB
		}
		store sqlite %DIR%/audit/audit.db
		keep {
			default 400d
		}
		%GLOBAL%
	}
}
http://:18080 {
	bind 127.0.0.1
	audit_log {
		platform supabase
		answer_header user_id X-User
		%SITE%
	}
	reverse_proxy 127.0.0.1:9
}
`

// patient is a configuration in a directory of its own.
type patient struct {
	t         *testing.T
	dir, file string
}

func newPatient(t *testing.T, changes ...string) *patient {
	t.Helper()
	dir, err := os.MkdirTemp("", "ill") // a short path: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &patient{t: t, dir: dir}
	p.file = write(t, filepath.Join(dir, "Caddyfile"), p.caddyfile(changes...))
	return p
}

// caddyfile is the usual one with changes: what stands there, and what shall, in turn.
func (p *patient) caddyfile(changes ...string) string {
	text := strings.NewReplacer(changes...).Replace(wellCaddyfile)
	return strings.NewReplacer("%GLOBAL%", "", "%SITE%", "", "%DIR%", p.dir).Replace(text)
}

// examined is what the command finds, and the error that it ends with.
func (p *patient) examined(args ...string) (*verdict, error) {
	p.t.Helper()
	out, messages, err := run(p.t, append([]string{"doctor", "--json", "--config", p.file}, args...)...)
	r := newVerdict()
	if out == "" || json.Unmarshal([]byte(out), r.Report) != nil {
		p.t.Fatalf("%v: %s%s", err, out, messages)
	}
	return r, err
}

// verdict is a report that a test looks at.
type verdict struct{ *doctor.Report }

func newVerdict() *verdict { return &verdict{new(doctor.Report)} }

// one is the diagnosis of a check whose text has something in it.
func (r *verdict) one(check, has string) *doctor.Diagnosis {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Check == check && strings.Contains(f.Seen, has) {
			return f
		}
	}
	return nil
}

// warnings are those that do not depend on who else uses this machine's disk.
func (r *verdict) warnings() (n int) {
	for _, f := range r.Findings {
		if f.State == doctor.StateWarning && f.Check != "fsync" {
			n++
		}
	}
	return n
}

// want fails unless there is such a diagnosis, which says how it is mended.
func (r *verdict) want(t *testing.T, check string, state doctor.State, has string) {
	t.Helper()
	f := r.one(check, has)
	switch {
	case f == nil || f.State != state:
		b, _ := json.MarshalIndent(r.Findings, "", " ")
		t.Errorf("%s is not %s with %q: %s", check, state, has, b)
	case (state == doctor.StateWrong || state == doctor.StateWarning) && f.Cure == "":
		t.Errorf("%s: nothing says how to mend %q", check, f.Seen)
	}
}

func exitCodeOf(err error) int {
	if err == nil {
		return 0
	}
	if v := reflect.Indirect(reflect.ValueOf(err)); v.Kind() == reflect.Struct && v.FieldByName("ExitCode").IsValid() {
		return int(v.FieldByName("ExitCode").Int())
	}
	return 1
}

// filesIn are the names and sizes of all files below a directory.
func filesIn(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			list = append(list, fmt.Sprintf("%s %d", path, info.Size()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTheDoctorFindsNothingWrongBeforeTheFirstStartAndMakesNothing(t *testing.T) {
	p := newPatient(t)
	before := filesIn(t, p.dir)
	r, err := p.examined()
	if exitCodeOf(err) != 0 || r.Wrong != 0 || r.warnings() != 0 || r.OK == 0 {
		t.Errorf("%v: %+v", err, r.Findings)
	}
	if after := filesIn(t, p.dir); !slices.Equal(before, after) {
		t.Errorf("it made %v", after)
	}
	for _, c := range append(commands.CheckNames(), "configuration") {
		if r.one(c, "") == nil {
			t.Errorf("%s was not looked at", c)
		}
	}
	r.want(t, "server", doctor.StateNotKnown, "does not run")
	r.want(t, "stores", doctor.StateNotKnown, "created when the server starts")
}

// A server that starts at that moment needs the lock.
func TestTheDoctorNeverHoldsTheBuffersLock(t *testing.T) {
	p := newPatient(t)
	dir := filepath.Join(p.dir, "audit", "buffer")
	b, err := buffer.Open(dir, buffer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.examined()
	if exitCodeOf(err) != 1 {
		t.Errorf("%v", err)
	}
	if _, linux := os.Stat("/proc/locks"); linux == nil {
		r.want(t, "server", doctor.StateWrong, fmt.Sprintf("process %d has the buffer open", os.Getpid()))
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var stop, opened atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			b, err := buffer.Open(dir, buffer.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			opened.Store(true)
			if err := b.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 3 {
		_, _ = p.examined()
	}
	for end := time.Now().Add(time.Minute); !opened.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waiting for an opening")
		}
	}
	stop.Store(true)
	<-done
}

func TestTheExitCodeSaysWhetherSomethingIsWrongOrCouldNotBeLookedAt(t *testing.T) {
	t.Chdir(t.TempDir())
	_, messages, err := run(t, "doctor")
	if exitCodeOf(err) != 2 || !strings.Contains(messages, "there is no Caddyfile") {
		t.Errorf("nothing to look at: %v %s", err, messages)
	}
	_, messages, err = run(t, "doctor", "--address", "unix/"+filepath.Join(t.TempDir(), "none.sock"))
	if exitCodeOf(err) != 2 || !strings.Contains(messages, "neither a configuration nor a server") {
		t.Errorf("an address where nobody is: %v %s", err, messages)
	}
	if _, _, err = run(t, "doctor", "--timeout", "0s"); exitCodeOf(err) != 2 {
		t.Errorf("no time: %v", err)
	}
	p := newPatient(t, "audit_log {\n\t\tplatform", "audit_log {\n\t\tplatforms")
	if _, err := p.examined(); exitCodeOf(err) != 1 {
		t.Errorf("something is wrong: %v", err)
	}
	p = newPatient(t, "keep {\n\t\t\tdefault 400d\n\t\t}", "")
	if r, err := p.examined(); exitCodeOf(err) != 0 || r.Warnings == 0 {
		t.Errorf("warnings alone: %v", err)
	}
}

func TestWhatIsWrongWithTheConfigurationIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		state   doctor.State
		has     string
	}{
		"it does not adapt":     {[]string{"platform supabase", "platforms supabase"}, doctor.StateWrong, `"platforms" is not an option`},
		"it does not provision": {[]string{"platform supabase", "platform nowhere"}, doctor.StateWrong, "nowhere"},
		"nobody is audited":     {[]string{"\taudit_log {\n\t\tplatform supabase\n\t\tanswer_header user_id X-User\n\t\t%SITE%\n\t}\n", ""}, doctor.StateWrong, "no site with audit_log"},
		"logs hold credentials": {[]string{"request>uri audit_log", "request>uri delete"}, doctor.StateWarning, "no log of Caddy's has the filter"},
		"no directory":          {[]string{"buffer %DIR%/audit/buffer", "buffer"}, doctor.StateWarning, "Caddy's data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_DATA_HOME", t.TempDir())
			r, err := newPatient(t, c.changes...).examined()
			r.want(t, "configuration", c.state, c.has)
			if wrong := c.state == doctor.StateWrong; wrong != (exitCodeOf(err) == 1) {
				t.Error(err)
			}
		})
	}
}

// Logs are not opened: the doctor may run as somebody else, whose file would then be in the
// server's way.
func TestNoLogFileOfTheConfigurationIsMade(t *testing.T) {
	p := newPatient(t, "\n\tlog {\n", "\n\tlog {\n\t\toutput file %DIR%/caddy.log\n")
	if r, _ := p.examined(); r.Wrong != 0 {
		t.Errorf("%+v", r.Findings)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "caddy.log")); err == nil {
		t.Error("there is a log")
	}
}

// Secrets of every kind in the configuration's environment and files, while everything that
// is asked fails: none of them is printed.
func TestTheDoctorPrintsNoSecret(t *testing.T) {
	const planted = "hunter2-planted-secret-of-32-bytes-or-more"
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The worst service sends back what it got.
		http.Error(w, r.Header.Get("Authorization")+planted, http.StatusTeapot)
	}))
	defer api.Close()
	dir := t.TempDir()
	t.Setenv("DOCTOR_SECRET", planted)
	t.Setenv("DOCTOR_DSN", "postgres://audit:"+planted+"@127.0.0.1:9/audit?sslmode=disable")
	file := write(t, filepath.Join(dir, "secret"), planted)
	p := newPatient(t, "%GLOBAL%", `store postgres {env.DOCTOR_DSN}
		store http `+api.URL+`/ingest?key={env.DOCTOR_SECRET} {
			secret {env.DOCTOR_SECRET}
		}
		organizations {
			lookup supabase `+api.URL+`
			token {file.`+file+`}
		}`,
		"%SITE%", `issuer https://auth.example.com {
			secret {env.DOCTOR_SECRET}
		}
		issuer `+api.URL+` {
			jwks `+api.URL+`/jwks?key=`+planted+`
		}
		introspect `+api.URL+`/introspect?key=`+planted+` {
			client audit {env.DOCTOR_SECRET}
		}`)
	for _, args := range [][]string{{"--json"}, {}, {"--json", "--probe"}} {
		out, messages, err := run(t, append(append([]string{"doctor"}, args...), "--config", p.file, "--timeout", "5s")...)
		if exitCodeOf(err) != 1 {
			t.Errorf("%v: %s%s", err, out, messages)
		}
		if text := out + messages + err.Error(); strings.Contains(text, "hunter2") {
			t.Errorf("%v: %s", args, text)
		}
	}
}

func TestEachCheckIsExplained(t *testing.T) {
	b, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(commands.CheckNames(), "configuration") {
		if !strings.Contains(string(b), "\n## "+c+"\n") {
			t.Errorf("docs/doctor.md has no section %s, to which its findings lead", c)
		}
	}
	if help, _, err := run(t, "doctor", "--help"); err != nil || !strings.Contains(help, "caddy audit doctor --json") || !strings.Contains(help, "caddy audit doctor --probe") {
		t.Error("the help has no example of each")
	}
}
