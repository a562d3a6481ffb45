package commands_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/commands"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// server is a patient whose configuration runs, before an API that says yes to everything.
type server struct {
	*patient
	url string
}

func newServer(t *testing.T) *server {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(api.Close)
	address := ports.ForTest(t)
	_, port, _ := net.SplitHostPort(address)
	s := &server{newPatient(t, ":18080", ":"+port, "127.0.0.1:9\n", api.Listener.Addr().String()+"\n"), "http://" + address}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": "Caddyfile"})
	if err == nil {
		err = caddy.Load(config, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if _, err := buffer.Inspect(filepath.Join(s.dir, "audit", "buffer")); !errors.Is(err, buffer.ErrLocked) {
				return
			}
		}
		t.Error("the buffer is still open")
	})
	return s
}

// send sends a call, and waits until the store has its entry.
func (s *server) send(method string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/v1/projects/abcdefghijklmnopqrst/pause", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if _, messages, err := run(s.t, "drain", "--wait", "--timeout", "1m", "--config", s.file); err != nil {
		s.t.Fatal(err, messages)
	}
}

func (s *server) status() (st operator.Status) {
	s.t.Helper()
	out, messages, err := run(s.t, "status", "--json", "--config", s.file)
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	if err != nil {
		s.t.Fatal(err, messages)
	}
	return st
}

func TestTheDoctorFindsNothingWrongWithAServerThatIsWell(t *testing.T) {
	s := newServer(t)
	s.send("POST")
	before := s.status()
	report, err := s.examined()
	if exitCodeOf(err) != 0 || report.Wrong != 0 || report.warnings() != 0 {
		t.Errorf("%v: %+v", err, report.Findings)
	}
	report.want(t, "server", doctor.StateOK, "it runs")
	report.want(t, "clock", doctor.StateOK, "the newest entry")
	report.want(t, "stores", doctor.StateOK, "nothing was written to it")
	report.want(t, "calls", doctor.StateOK, "1 calls")
	report.want(t, "delivery", doctor.StateOK, "add up")
	if st := s.status(); st.Calls != before.Calls || st.Failing != "" {
		t.Errorf("looking changed something: %+v", st.Calls)
	}
	other := newPatient(t, "admin unix/%DIR%", "admin unix/"+s.dir)
	report, _ = other.examined()
	report.want(t, "server", doctor.StateWarning, "it runs with another configuration")
	s.send("POST")
	if st := s.status(); !st.Conserved || st.Calls.Recorded != 2 {
		t.Errorf("the server is not as before: %+v", st)
	}
	text, _, err := run(t, "doctor", "--config", s.file)
	if err != nil || !strings.Contains(text, "\n0 wrong, ") || strings.Contains(text, "\x1b") {
		t.Errorf("%v: %s", err, text)
	}
}

func TestAServerCanBeLookedAtWithoutItsConfiguration(t *testing.T) {
	s := newServer(t)
	t.Chdir(t.TempDir())
	out, _, err := run(t, "doctor", "--json", "--address", "unix/"+filepath.Join(s.dir, "admin.sock"))
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

func TestSizesComeFromTheRunningServersOwnEntries(t *testing.T) {
	s := newServer(t)
	for range 5 {
		s.send("POST")
		s.send("GET")
	}
	before := s.status()
	out, _, err := run(t, "size", "--config", s.file, "--rate", "1", "--json")
	var report sizeAnswer
	if err != nil || json.Unmarshal([]byte(out), &report) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if report.EntryBytes < 500 || report.EntryBytes > 3000 || report.Changing <= 0 || report.Changing >= 1 || report.MaxSize != 8<<20 ||
		report.KeepDays < 400 || report.KeepDays > 403 || len(report.Sizes.Stores) != 1 || !strings.Contains(report.From, "running server") {
		t.Errorf("%s", out)
	}
	if st := s.status(); st.Calls.Seen != before.Calls.Seen {
		t.Errorf("asking is a call: %+v", st.Calls)
	}
	// The rate counts from the first entry that the store has of the day.
	first, err := commands.FirstSince(t.Context(), s.file, time.Now().Add(-24*time.Hour), before.Instance)
	if err != nil || first == nil || first.Origin.Sequence != 1 {
		t.Errorf("%+v, %v", first, err)
	}
}
