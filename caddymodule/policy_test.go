package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// withRules is the usual Caddyfile with options for the directive.
func withRules(options string) string {
	return strings.Replace(rigCaddyfile, "\t\tplatform supabase\n", "\t\tplatform supabase\n"+options+"\n", 1)
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules(`
		@probes path /health /healthz
		@reads method GET
		rule @probes none
		rule /v1/oauth* metadata strict
		rule @reads metadata relaxed
		rule /v1/projects/* metadata answer`), proxy)
	for _, c := range []struct {
		method, path, rule string
		durability         audit.Durability // empty: excluded
	}{
		{"GET", "/health", "", ""},
		{"POST", "/healthz", "", ""},
		{"GET", "/health/../v1/oauth/token", "/v1/oauth*", audit.DurabilityStrict},
		{"GET", "/v1/oauth/token", "/v1/oauth*", audit.DurabilityStrict},
		{"GET", "/healthy", "@reads", audit.DurabilityRelaxed},
		{"DELETE", project, "/v1/projects/*", audit.DurabilityAnswer},
		{"POST", "/v1/organizations", "default", audit.DurabilityStrict},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			before, excluded := len(r.buffered()), r.status().Calls.Excluded
			if resp, _ := r.send(c.method, c.path, nil, ""); resp.StatusCode != 200 {
				t.Fatalf("status %d", resp.StatusCode)
			}
			if c.durability == "" {
				if got := r.status().Calls.Excluded; got != excluded+1 || len(r.buffered()) != before {
					t.Errorf("excluded %d, want %d", got, excluded+1)
				}
				return
			}
			e := r.calls(before + 1)[before]
			if e.Policy.Rule != c.rule || e.Policy.Durability != c.durability || e.Policy.Level != audit.LevelMetadata {
				t.Errorf("policy %+v", e.Policy)
			}
		})
	}
	if s := r.drained(); !s.Conserved || s.Calls.Seen != 7 || s.Calls.Excluded != 2 {
		t.Errorf("status %s", s.Text())
	}
}

func TestARuleThatExcludesEverythingCountsEverything(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules("rule * none"), proxy)
	for range 3 {
		r.send("POST", project, nil, "")
	}
	if s := r.status(); s.Calls.Excluded != 3 || len(r.buffered()) != 0 || !s.Conserved {
		t.Errorf("status %s", s.Text())
	}
}

func TestAuditIdJoinsTheLogsAndCannotBeForged(t *testing.T) {
	var atAPI []string
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		atAPI = req.Header.Values("Audit-Id")
		w.Header().Set("Audit-Id", "of the API")
	})
	r.load(withRules("rule /health none"), proxy)
	resp, _ := r.send("POST", project, map[string]string{"Audit-Id": "forged"}, "")
	id := r.only().ID
	if got := resp.Header.Values("Audit-Id"); !slices.Equal(got, []string{id}) {
		t.Errorf("the client got %q, want %q", got, id)
	}
	if !slices.Equal(atAPI, []string{id}) {
		t.Errorf("the API got %q, want %q", atAPI, id)
	}
	r.send("GET", "/health", map[string]string{"Audit-Id": "forged"}, "")
	if len(atAPI) > 0 {
		t.Errorf("the API got %q for a call that is not recorded", atAPI)
	}
	r.load(withRules(""), "error 418")
	resp, _ = r.send("POST", project, nil, "")
	if got := resp.Header.Get("Audit-Id"); got != r.calls(2)[1].ID || resp.StatusCode != 418 {
		t.Errorf("an error's answer has Audit-Id %q", got)
	}
}

func TestTheSidecarRecordsItsOwnLife(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules("rule /health none"), proxy)
	r.send("POST", project, nil, "")
	running.current().shared.Load().heartbeat()
	r.load(withRules("rule /health none"), proxy+"\n# a comment changes nothing\n")
	r.load(withRules("rule /health none\nrule /v1/* none"), proxy)
	events := r.events()
	var codes []string
	for _, e := range events {
		codes = append(codes, e.Action.Code)
	}
	if want := []string{audit.EventStarted, audit.EventHeartbeat, audit.EventConfigChanged}; !slices.Equal(codes, want) {
		t.Fatalf("events %v, want %v", codes, want)
	}
	if beat := events[1].Action.Metadata; beat["last_sequence"].(float64) != 2 {
		t.Errorf("heartbeat %v", beat)
	}
	changed := events[2].Action.Metadata
	if text := fmt.Sprint(changed["changes"]); !strings.Contains(text, `2: rule /v1/* none path ["/v1/*"]`) || changed["from"] == changed["to"] {
		t.Errorf("change %v", changed)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.closed(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.loaded = false
	r.load(withRules("rule /health none"), proxy)
	codes = nil
	for _, e := range r.events() {
		codes = append(codes, e.Action.Code)
	}
	// The segment of the process before may be gone: its store has it.
	if got := codes[max(0, len(codes)-2):]; !slices.Equal(got, []string{audit.EventStopped, audit.EventStarted}) && !slices.Equal(codes, []string{audit.EventStarted}) {
		t.Errorf("events after a restart %v", codes)
	}
}

func TestASecretInAMatcherIsNotInTheConfigurationsDescription(t *testing.T) {
	r := newRig(t, ok)
	secret := "0123456789abcdefghijklmnop"
	r.load(withRules("@internal header X-Internal-Key "+secret+"\nrule @internal none"), proxy)
	started := r.events()[0]
	if b, _ := started.Encode(); strings.Contains(string(b), secret) || !strings.Contains(string(b), "@internal none header sha256:") {
		t.Errorf("entry %s", b)
	}
}

// The shipped Caddyfile's log block, with everything that Caddy can be made to
// print while the API is down.
func TestNoCredentialReachesCaddysOwnLogs(t *testing.T) {
	r := newRig(t, ok)
	log := filepath.Join(r.dir, "caddy.log")
	shipped, err := os.ReadFile("../Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	_, filter, found := strings.Cut(string(shipped), "format filter {")
	filter, _, _ = strings.Cut(filter, "}")
	if !found {
		t.Fatal("the shipped Caddyfile has no log filter")
	}
	config := strings.Replace(rigCaddyfile, "log {\n\t\tlevel ERROR\n\t}", "log {\n\t\toutput file "+log+"\n\t\tformat filter {"+filter+"}\n\t}\n\tdebug", 1)
	secrets := everyCredential()
	var shown strings.Builder // what else a person or a program may look at
	for _, site := range []string{"rewrite * {uri}\n" + proxy, "reverse_proxy 127.0.0.1:1"} {
		r.load(config, "log\nhandle /metrics {\n metrics\n}\nhandle {\n"+site+"\n}")
		for _, s := range secrets {
			for _, path := range []string{project + "?apikey=" + s, "/v1/organizations/acme/project-claim/" + s, "/v9/x;token=" + secrets[0] + "/y?z=" + s} {
				resp, err := oneCall.RoundTrip(r.request("GET", path, map[string]string{
					"Authorization": []string{"Bearer ", "Basic "}[len(path)%2] + s, "Apikey": s, "Cookie": "a=" + s, "X-Custom": s, "Referer": "http://x/?t=" + s, "User-Agent": s,
				}, s))
				if err != nil {
					continue // a listener that is being replaced
				}
				_, _ = io.Copy(&shown, resp.Body)
				_ = resp.Body.Close()
			}
		}
		_, metrics := r.send("GET", "/metrics", nil, "")
		shown.WriteString(metrics)
	}
	r.drained()
	status := r.status()
	shown.WriteString(status.Text())
	for _, e := range r.exported() {
		shown.WriteString(display.Summary(e))
	}
	r.load(rigCaddyfile, proxy) // closes the log
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.Contains(text, "connection refused") || !strings.Contains(text, "upstream roundtrip") || !strings.Contains(text, `"uri":"/v1/projects/abcdefghijklmnopqrst?[redacted]"`) {
		t.Errorf("the log lacks what it should show: %.3000s", text)
	}
	text += shown.String()
	for _, s := range secrets {
		s = secretPart(s)
		for i := 0; i+12 <= len(s); i++ {
			if j := strings.Index(text, s[i:i+12]); j >= 0 {
				t.Fatalf("the log holds %q: %s", s[i:i+12], text[max(0, j-600):min(len(text), j+100)])
			}
		}
	}
}
