package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

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
	out, messages, err := audited(p.t, append([]string{"doctor", "--json", "--config", p.file}, args...)...)
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

func TestTheDoctorFindsNothingWrongWithAServerThatIsWell(t *testing.T) {
	r := newRig(t, ok)
	config := strings.NewReplacer("%GLOBAL%", "", "%SITE%", "", ":18080", ":%PORT%", "127.0.0.1:9\n", "%API%\n").Replace(wellCaddyfile)
	r.load(config, "")
	file := write(t, filepath.Join(r.dir, "Caddyfile"), r.expand(config, ""))
	r.send("POST", project+"/pause", nil, "")
	r.drained()
	before := r.status()
	p := &patient{t: t, dir: r.dir, file: file}
	report, err := p.examined()
	if exitCodeOf(err) != 0 || report.Wrong != 0 || report.Warnings != 0 {
		t.Errorf("%v: %+v", err, report.Findings)
	}
	report.want(t, "server", doctor.StateOK, "it runs")
	report.want(t, "clock", doctor.StateOK, "the newest entry")
	report.want(t, "stores", doctor.StateOK, "nothing was written to it")
	report.want(t, "calls", doctor.StateOK, "1 calls")
	report.want(t, "delivery", doctor.StateOK, "add up")
	if s := r.status(); s.Calls != before.Calls || s.Failing != "" {
		t.Errorf("looking changed something: %+v", s.Calls)
	}
	other := newPatient(t, "admin unix/%DIR%", "admin unix/"+r.dir)
	report, _ = other.examined()
	report.want(t, "server", doctor.StateWarning, "it runs with another configuration")
	r.send("POST", project+"/pause", nil, "")
	if s := r.drained(); !s.Conserved || s.Calls.Recorded != 2 {
		t.Errorf("the server is not as before: %+v", s)
	}
	text, _, err := audited(t, "doctor", "--config", file)
	if err != nil || !strings.Contains(text, "0 wrong, 0 warning(s)") || strings.Contains(text, "\x1b") {
		t.Errorf("%v: %s", err, text)
	}
}

func TestAServerCanBeLookedAtWithoutItsConfiguration(t *testing.T) {
	r := start(t, proxy, ok)
	t.Chdir(t.TempDir())
	out, _, err := audited(t, "doctor", "--json", "--address", "unix/"+filepath.Join(r.dir, "admin.sock"))
	report := newVerdict()
	if err := json.Unmarshal([]byte(out), report.Report); err != nil {
		t.Fatal(err)
	}
	if exitCodeOf(err) != 0 {
		t.Errorf("%v: %s", err, out)
	}
	report.want(t, "configuration", doctor.StateNotKnown, "there is no Caddyfile")
	report.want(t, "calls", doctor.StateOK, "add up")
	report.want(t, "disk", doctor.StateOK, "are free")
	report.want(t, "policy", doctor.StateNotKnown, "was not read")
}
