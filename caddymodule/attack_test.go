package caddymodule

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

// echoed is an API that keeps the headers it was sent.
func echoed(seen *http.Header, mu *sync.Mutex) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		*seen = r.Header.Clone()
		mu.Unlock()
	}
}

// rawCall sends header lines as they are.
func (r *rig) rawCall(path, head string) int {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"+head+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

func show(e *audit.Entry) string {
	b, _ := json.Marshal(e.Actor)
	return string(b)
}

// An empty first value hides the credential altogether.
func TestAttackEmptyFirstValueHidesTheCredential(t *testing.T) {
	var mu sync.Mutex
	var seen http.Header
	r := newRig(t, echoed(&seen, &mu))
	r.load(withRules("token robot prefix rb_\n\t\tcredential cookie sid session\n\t\tcredential query access_token\n\t\tcredential header X-Robot"), proxy)
	for i, c := range []struct{ path, head string }{
		{project, "Authorization: \r\nAuthorization: Bearer " + robot + "\r\n"},
		{project, "Cookie: sid=; sid=" + robot + "\r\n"},
		{project, "X-Robot: \r\nX-Robot: " + robot + "\r\n"},
		{project + "?access_token=&access_token=" + robot, ""},
		{project, "Apikey: \r\nApikey: " + robot + "\r\n"},
	} {
		r.rawCall(c.path, c.head)
		e := r.last(i + 1)
		t.Logf("%q -> %s; API saw %v %v", c.head, show(e), seen["Authorization"], seen["Cookie"])
		if e.Actor.TokenType == audit.TokenNone {
			t.Errorf("%s %q: the API was sent a credential and the entry says that there was none", c.path, c.head)
		}
	}
}

// Connection: Authorization makes Caddy drop the header that we believe.
func TestAttackConnectionHeader(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("ec"))
	var mu sync.Mutex
	var seen http.Header
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		seen = q.Header.Clone()
		mu.Unlock()
		w.Header().Set("X-Audit-User-Id", "mallory") // the API took the cookie
	})
	r.load(strings.Replace(withIssuer("jwks "+keys.URL), "platform supabase\n", "platform supabase\nanswer_header user_id X-Audit-User-Id\n", 1), proxy)
	r.keysRead()
	r.rawCall(project, "Authorization: Bearer "+jwttest.Session()+"\r\nConnection: close, Authorization, Audit-Id\r\nCookie: s=mallory\r\n")
	e := r.last(1)
	b, _ := json.Marshal(e)
	t.Logf("API saw Authorization %q, Audit-Id %q; the entry's actor: %s", seen.Get("Authorization"), seen.Get("Audit-Id"), show(e))
	if e.Actor.Verification == audit.VerificationSignature && seen.Get("Authorization") == "" {
		t.Errorf("the entry names %s, by a token that the API never got", e.Actor.UserID)
	}
	if !strings.Contains(string(b), "mallory") {
		t.Errorf("the API said who acted, and nothing of it is in the entry")
	}
	if seen.Get("Audit-Id") == "" {
		t.Errorf("a client keeps Audit-Id from the API")
	}
}

// A leaked key in Apikey, or at a second place, is not found behind junk.
func TestAttackSearchMissesALeakedKey(t *testing.T) {
	var mu sync.Mutex
	var seen http.Header
	for _, platform := range []string{"supabase", "generic"} {
		r := newRig(t, echoed(&seen, &mu))
		config := strings.Replace(withRules("credential header X-Robot\n\t\tcredential cookie sid"), "platform supabase", "platform "+platform, 1)
		r.load(config, proxy)
		file := filepath.Join(r.dir, "Caddyfile")
		if err := os.WriteFile(file, []byte(r.expand(config, proxy)), 0o600); err != nil {
			t.Fatal(err)
		}
		leaked := "sb_secret_abcdefghijklmnopqrstuv"
		for i, h := range []map[string]string{
			{"Apikey": leaked, "Authorization": "Bearer junk"},
			{"Apikey": leaked, "Cookie": "sid=junk"},
			{"X-Robot": leaked, "Authorization": "Bearer junk"},
			{"Apikey": leaked, "Authorization": "x"},
		} {
			r.send("POST", project, h, "")
			t.Logf("%v -> %s", h, show(r.last(i+1)))
		}
		r.drained()
		_, messages, err := searched(t, leaked, "--config", file, "--token-stdin")
		if err != nil || !strings.HasPrefix(messages, "4 entries") {
			t.Errorf("%s: %q, %v", platform, messages, err)
		}
	}
}

// A reload to a buffer that cannot be opened, with a question on its way:
// App.Stop waits for Lookups.Close, under App.mu, for a revision that wants
// App.mu. Caddy holds its own lock meanwhile: no reload is possible any more.
func TestAttackStopDeadlocksWithALateAnswer(t *testing.T) {
	answer := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-answer
		_, _ = w.Write([]byte(`{"id":"u-1"}`))
	}))
	defer s.Close()
	r := newRig(t, ok)
	r.load(rigCaddyfile, proxy) // the configuration in force

	dir := filepath.Join(r.dir, "elsewhere")
	other, err := buffer.Open(dir, buffer.Options{MaxSize: 4 << 20, SegmentSize: 1 << 20, MaxWait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	text := strings.Replace(withRules("profile "+s.URL+" {\n\t\t\ttimeout 10s\n\t\t}"), "buffer %DIR%/audit/buffer", "buffer "+dir, 1)
	var cfg caddy.Config
	if err := json.Unmarshal(adapt(t, r.expand(text, proxy)), &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg) // what caddy.Load does before it starts the apps
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("audit_log")
	if err != nil {
		t.Fatal(err)
	}
	a := app.(*App)

	// Caddy starts http first (map order): a call comes, and is recorded in the
	// buffer that is in force.
	for range 300 {
		repl := caddy.NewReplacer()
		q := httptest.NewRequest("POST", project, nil)
		q.Header.Set("Authorization", "Bearer "+robot)
		w := httptest.NewRecorder()
		q = caddyhttp.PrepareRequest(q, repl, w, &caddyhttp.Server{})
		if err := a.handlers[0].ServeHTTP(w, q, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(200); return nil })); err != nil {
			t.Fatal(err)
		}
	}

	// Then it starts audit_log, which fails, so it stops and cleans up.
	t.Log("Start:", a.Start())
	done := make(chan struct{})
	close(answer) // the service answers while Caddy gives the configuration up
	time.Sleep(time.Millisecond)
	go func() { _ = a.Stop(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		buf := make([]byte, 1<<20)
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "(*App).Stop") || strings.Contains(g, "(*App).open") {
				t.Log(g)
				if strings.Contains(g, "(*App).open") {
					break
				}
			}
		}
		t.Fatal("App.Stop hangs for ever")
	}
}

// A service's no to one form of a credential hides its owner in another.
func TestAttackAServicesNoIsPoisoned(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+robot && r.Header.Get("X-Robot") != robot {
			w.WriteHeader(401) // as strict as most
			return
		}
		_, _ = io.WriteString(w, `{"id":"u-1"}`)
	}))
	defer s.Close()
	for _, poison := range []string{"Authorization: Token " + robot, "Authorization: Bearer  " + robot, "Authorization: bearer " + robot, "Apikey: " + robot} {
		r := newRig(t, ok) // a route that answers to everybody, as a 404 does
		r.load(withRules("token robot prefix rb_\n\t\tcredential header X-Robot\n\t\tprofile "+s.URL+" {\n\t\t\ttimeout 30s\n\t\t\twait 500ms\n\t\t}"), proxy)
		r.rawCall("/health", poison+"\r\n")
		r.rawCall(project, "Authorization: Bearer "+robot+"\r\n")
		e := r.settled(2)
		t.Logf("%q: %s", poison, show(e))
		if e.Actor.UserID != "u-1" {
			t.Errorf("after %q its owner is not in the entry: %s", poison, show(e))
		}
		_ = r.api
	}
}

// A bearer prefix at a place of the site's is taken away from the question.
func TestAttackAProfileIsNotAskedAsTheCallerDid(t *testing.T) {
	s := newTeller(t)
	var got string
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		got = q.Header.Get("X-Robot")
		if got != "Bearer "+robot {
			w.WriteHeader(401)
			return
		}
		_, _ = w.Write([]byte(`{"id":"u-1"}`))
	})
	r := newRig(t, ok)
	r.load(withRules("credential header X-Robot\n\t\tprofile "+s.URL+" {\n\t\t\ttimeout 30s\n\t\t\twait 500ms\n\t\t}"), proxy)
	r.send("POST", project, map[string]string{"X-Robot": "Bearer " + robot}, "")
	if e := r.settled(1); e.Actor.UserID != "u-1" {
		t.Errorf("the caller sent %q, the profile was asked with %q: %s", "Bearer "+robot, got, show(e))
	}
}

// A tab, or a percent sign, makes a signed user disappear.
func TestAttackSpellingHidesASignedUser(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("ec"))
	var mu sync.Mutex
	var seen http.Header
	r := newRig(t, echoed(&seen, &mu))
	config := strings.Replace(withIssuer("jwks "+keys.URL), "platform supabase\n", "platform supabase\ncredential cookie access_token\n", 1)
	r.load(config, proxy)
	file := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(r.expand(config, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.keysRead()
	token := jwttest.Session()
	for i, head := range []string{
		"Authorization: Bearer " + token, // control
		"Authorization: Bearer\t" + token,
		"Cookie: access_token=%65" + token[1:],
		"Authorization: Bearer " + token + "\r\nAuthorization: Bearer " + token,
		"Authorization: Bearer " + token + "\r\nCookie: access_token=junk",
	} {
		r.rawCall(project, head+"\r\n")
		e := r.last(i + 1)
		t.Logf("%.30q… -> %.260s", head, show(e))
		if hidden := e.Actor.UserID != "u-1"; hidden != strings.Contains(head, "junk") {
			t.Errorf("%.30q… : the signed user is not in the entry", head)
		} else if hidden && (e.Actor.VerificationReason != audit.ReasonSeveralCredentials || e.Actor.Claimed == nil || e.Actor.Claimed.Subject != "u-1") {
			t.Errorf("what was presented is not in the entry: %s", show(e))
		}
	}
	r.drained()
	_, messages, err := searched(t, token, "--config", file, "--token-stdin")
	t.Log(messages, err)
}

// Rack 2 and others end a parameter with a semicolon too; Go drops the pair.
func TestAttackASemicolonHidesAQueryCredential(t *testing.T) {
	var mu sync.Mutex
	var seen http.Header
	r := newRig(t, echoed(&seen, &mu))
	r.load(withRules("token robot prefix rb_\n\t\tcredential query access_token"), proxy)
	r.rawCall(project+"?x=1;access_token="+robot, "")
	if e := r.last(1); e.Actor.TokenType == audit.TokenNone {
		t.Errorf("%s", show(e))
	}
}

// The site's own credentials get into entries and logs where "none is recorded
// wherever else in a call it stands".
func TestAttackASitesCredentialIsRecorded(t *testing.T) {
	const ticket = "2026-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9"
	const odd = "rb_a1b2.c3d4.e5f6.a7b8.c9d0" // is of type robot as well: any character may follow
	const colon = "tk:0a1b2c3d4e5f60718293a4b5c6d7e8f9"
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
	}
	for _, c := range []struct {
		name, path string
		header     map[string]string
		secret     string
	}{
		{"request id, prefix", project, map[string]string{"X-Request-Id": robot}, robot},
		{"request id, regexp", project, map[string]string{"X-Request-Id": ticket}, ticket},
		{"user agent key=value, regexp", project, map[string]string{"User-Agent": "cli/1 token=" + ticket}, ticket},
		{"matrix parameter, regexp", "/reset;token=" + ticket, nil, ticket},
		{"path, prefix behind a dash", "/reset/x-" + robot, nil, robot},
		{"path, prefix, dots", "/reset/" + odd, nil, odd},
		{"user agent, prefix, dots", project, map[string]string{"User-Agent": odd}, odd},
		{"path, regexp with a colon", "/reset/" + colon, nil, colon},
		{"path, percent-encoded prefix", "/reset/" + strings.Replace(robot, "_", "%5F", 1), nil, robot[4:]},
		{"path, percent-encoded sbp_", "/reset/sbp%5F" + strings.Repeat("a1b2c3d4", 5), nil, strings.Repeat("a1b2c3d4", 5)},
		{"path, percent-encoded regexp", "/reset/" + strings.Replace(ticket, "-", "%2D", 1), nil, ticket[5:]},
		{"path, short regexp", "/reset/pin-48213", nil, "pin-48213"},
	} {
		r := newRig(t, echo)
		r.load(withRules("token robot prefix rb_\n\t\ttoken ticket regexp [0-9]{4}(-[0-9a-f]{8}){4}\n\t\ttoken tk regexp tk:[0-9a-f]{32}\n\t\ttoken pin regexp pin-[0-9]{5}"), proxy)
		r.send("POST", c.path, c.header, "")
		e := r.last(1)
		if b, _ := e.Encode(); strings.Contains(string(b), c.secret) {
			t.Errorf("%s: on disk: path %q, request_id %q, user_agent %q, route %q", c.name, e.Action.Path, e.RequestID, e.Actor.UserAgent, e.Action.Route)
		}
		if got := running.current().handlers[0].platform.RedactURI(c.path); strings.Contains(got, c.secret) {
			t.Errorf("%s: the log filter leaves %q", c.name, got)
		}
	}
}

func TestAttackALookupsErrorsRepeatASecret(t *testing.T) {
	const secret = "s3cr3t-of-the-client"
	t.Setenv("INTROSPECTION_URL", "https://audit:"+secret+"@auth.example.com/introspect")
	l := &Lookup{Kind: "introspection", URL: "{env.INTROSPECTION_URL}"}
	if _, err := l.service(nil); err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("placeholder: %v", err)
	}
	l.URL = os.Getenv("INTROSPECTION_URL")
	if err := l.check(); err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("literal: %v", err)
	}
	t.Setenv("INTROSPECTION_URL", "ht tp://"+secret)
	l.URL = "{env.INTROSPECTION_URL}"
	if _, err := l.service(nil); err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("malformed: %v", err)
	}
}

// A server that is no HTTP server sends its first line into our log.
func TestAttackAServicesBrokenAnswerIsLoggedWithTheCredential(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				line, _ := bufio.NewReader(conn).ReadString('\n')
				_, _ = io.WriteString(conn, line) // an echo server, or any that repeats what it does not understand
				_ = conn.Close()
			}()
		}
	}()
	r := newRig(t, ok)
	log := filepath.Join(r.dir, "caddy.log")
	config := strings.Replace(withRules("credential query key\n\t\tprofile http://"+l.Addr().String()+"/me {\n\t\t\twait 500ms\n\t\t}"),
		"level ERROR", "output file "+log+"\n\t\tformat filter {\n\t\t\trequest>headers delete\n\t\t\trequest>uri audit_log\n\t\t}", 1)
	r.load(config, proxy)
	r.send("POST", project+"?key="+robot, nil, "")
	b, _ := os.ReadFile(log)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, robot) {
			t.Errorf("in Caddy's log: %s", line)
		}
	}
}

// Nobody can take a header away from a route that has no audit_log: it is warned
// about.
func TestAttackAnErrorRouteThatShowsAnAssertionIsWarnedAbout(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules("answer_header user_id X-Audit-User-Id"), "reverse_proxy %API%\n\thandle_errors {\n\t\treverse_proxy %API%\n\t}")
	if found := strings.Join(running.current().warnings(), "\n"); !strings.Contains(found, "answer_header") {
		t.Errorf("warnings: %s", found)
	}
}

func TestAttackNestedHandlersHeadersAreNotTakenAway(t *testing.T) {
	var got string
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		got = q.Header.Get("X-Audit-User-Id")
		w.Header().Set("X-Audit-User-Id", "u-secret")
	})
	r.load(rigCaddyfile, `handle /v1/* {
		audit_log {
			platform supabase
			answer_header user_id X-Audit-User-Id
		}
		reverse_proxy %API%
	}`)
	resp, _ := r.send("GET", project, map[string]string{"X-Audit-User-Id": "root"}, "")
	if resp.Header.Get("X-Audit-User-Id") != "" || got != "" || r.last(1).Actor.UserID == "" {
		t.Errorf("the client sees %q, the API was sent %q, the entry names %q", resp.Header.Get("X-Audit-User-Id"), got, r.last(1).Actor.UserID)
	}
}

// Forms in which a leaked credential stood, and is not found by itself.
func TestAttackSearchMissesForms(t *testing.T) {
	r := newRig(t, ok)
	config := withRules("token robot prefix rb_\n\t\tcredential cookie sid session\n\t\tcredential header X-Robot")
	r.load(config, proxy)
	file := filepath.Join(r.dir, "Caddyfile")
	_ = os.WriteFile(file, []byte(r.expand(config, proxy)), 0o600)
	unpadded := base64.RawStdEncoding.EncodeToString([]byte("ada:correct-horse!x"))
	for _, c := range []struct{ name, head, search string }{
		{"a Cookie line", "Cookie: a=b; sid=3fc1aa77bb", "Cookie: a=b; sid=3fc1aa77bb"},
		{"a Cookie line of one", "Cookie: sid=3fc1aa77bb", "Cookie: sid=3fc1aa77bb"},
		{"Basic without padding, by the pair", "Authorization: Basic " + unpadded, "ada:correct-horse!x"},
		{"Basic without padding, by the padded header", "Authorization: Basic " + unpadded, "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ada:correct-horse!x"))},
		{"Bearer and a tab", "Authorization: Bearer\t" + robot, robot},
		{"Token scheme, by the token", "Authorization: Token " + robot, robot},
		{"apikey: Bearer", "Apikey: Bearer " + robot + "7", robot + "7"},
		{"percent-encoded cookie", "Cookie: sid=3fc1aa%37%37bb8", "3fc1aa77bb8"},
		{"quoted cookie", "Cookie: sid=\"3fc1aa77bb9\"", "3fc1aa77bb9"},
	} {
		r.rawCall(project, c.head+"\r\n")
		_, messages, err := searched(t, c.search, "--config", file, "--token-stdin")
		if err != nil || strings.Contains(messages, "nothing found") {
			t.Errorf("%s: %q", c.name, messages)
		}
	}
}

func TestAttackTheCommandRepeatsACredential(t *testing.T) {
	for _, args := range [][]string{{robot}, {"--token-stdin=" + robot}, {"--token-stdin", robot}, {"--from", robot, "--ip", "::1"}} {
		_, messages, err := searched(t, "x", args...)
		if strings.Contains(fmt.Sprint(messages, err), robot) {
			t.Errorf("%q: %v %s", args, err, messages)
		}
	}
}

func TestAttackAQuestionPrintsItsCredential(t *testing.T) {
	q := audit.Question{Type: "robot", Token: robot, Header: "Authorization", Value: "Bearer " + robot}
	for _, f := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(f, q); strings.Contains(s, robot) {
			t.Errorf("%s: %s", f, s)
		}
		if s := fmt.Sprintf(f, audit.Facts{Question: q}); strings.Contains(s, robot) {
			t.Errorf("Facts %s", f)
		}
		if s := fmt.Sprintf(f, &q); strings.Contains(s, robot) {
			t.Errorf("pointer %s: %s", f, s)
		}
	}
}
