package caddymodule

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const project = "/v1/projects/abcdefghijklmnopqrst"

func ok(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "ok")
}

func TestAChangingCallsIntentIsDurableBeforeTheAPISeesIt(t *testing.T) {
	var open int
	var head uint64
	r := start(t, proxy, func(w http.ResponseWriter, _ *http.Request) {
		s := running.current().shared.Load().buf.Stats()
		open, head = s.Open, s.Head
		w.WriteHeader(http.StatusCreated)
	})
	started := r.status().Head
	resp, _ := r.send("POST", project+"/pause", nil, "")
	if head -= started; open != 1 || head != 0 {
		t.Errorf("at the API %d intents were open and %d entries durable, want 1 and 0", open, head)
	}
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("status %d", resp.StatusCode)
	}
	e := r.only()
	if e.Outcome != audit.OutcomeSuccess || e.Action.Status != 201 || e.Policy.Durability != audit.DurabilityStrict || e.Revision != 1 {
		t.Errorf("entry %+v", e)
	}
	if s := r.status(); !s.Conserved || s.Calls.Open != 0 || s.Calls.Recorded != 1 {
		t.Errorf("status %+v", s.Calls)
	}
}

func TestAReadIsDurableBeforeItsAnswerArrives(t *testing.T) {
	r := start(t, proxy, func(w http.ResponseWriter, _ *http.Request) {
		if s := running.current().shared.Load().buf.Stats(); s.Open != 0 {
			t.Errorf("%d intents are open for a read", s.Open)
		}
		_ = http.NewResponseController(w).Flush() // headers alone
		time.Sleep(50 * time.Millisecond)
		_, _ = io.WriteString(w, "late body")
	})
	resp, err := oneCall.RoundTrip(r.request("GET", "/v1/organizations/acme/members", nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	e := r.only() // the headers are here; the body is not
	if e.Policy.Durability != audit.DurabilityAnswer || e.OrganizationSlug != "acme" || e.Action.Code != "v1-list-organization-members" {
		t.Errorf("entry %+v", e)
	}
}

func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// One row for each way in which an answer comes to be. Want is what the client
// gets, and the entry's status, its source, outcome and revision.
func TestWhatTheClientAndTheEntrySee(t *testing.T) {
	const down = "reverse_proxy 127.0.0.1:1"
	hinting := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(103)
		w.WriteHeader(302)
	}
	for _, c := range []struct {
		name, method, site string
		api                http.HandlerFunc
		want               string
	}{
		{"the API answers 503", "POST", proxy, answers(503), "503: 503 written failure 1"},
		{"the API answers 403", "GET", proxy, answers(403), "403: 403 written denied 1"},
		{"early hints before the answer", "GET", proxy, hinting, "302: 302 written success 1"},
		{"the API is unreachable", "DELETE", down, ok, "502: 502 error failure 1"},
		{"a handler refuses before the API", "POST", "error 418\n" + proxy, ok, "418: 418 error failure 1"},
		{"authentication refuses", "DELETE", "basic_auth {\n somebody " + bcrypted + "\n}\n" + proxy, ok, "401: 401 error denied 1"},
		{"the body is too large", "PUT", "request_body {\n max_size 1\n}\n" + proxy, ok, "413: 413 error failure 1"},
		{"nobody answers", "POST", "", ok, "200: 200 default success 1"},
		{"Caddy answers itself", "PUT", "respond 204", ok, "204: 204 written success 1"},
		{"a redirect", "POST", "redir https://elsewhere.example/ 308", ok, "308: 308 written success 1"},
		{"a rewrite before the API", "GET", "rewrite * /elsewhere\n" + proxy, ok, "200: 200 written success 1"},
		{"HEAD of what has a body", "HEAD", "respond \"a body\"", ok, "200: 200 written success 1"},
		{"a body that HTTP does not allow", "GET", "respond \"a body\" 304", ok, "304: 304 written success 1"},
		{"a stripped path", "GET", "handle_path /v1/* {\n" + proxy + "\n}", ok, "200: 200 written success 1"},
		{"an error route, same status", "PUT", down + "\nhandle_errors {\n audit_log\n respond sorry 502\n}", ok, "502: 502 error failure 1"},
		{"an error route, other status", "PUT", down + "\nhandle_errors {\n audit_log\n respond sorry 404\n}", ok, "404: 404 written failure 2"},
		{"an error route that ours does not see", "PUT", down + "\nhandle_errors {\n respond sorry 404\n}", ok, "404: 502 error failure 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, c.site, c.api)
			resp, _ := r.send(c.method, project, nil, "body")
			all := r.buffered()
			if len(all) == 0 {
				t.Fatal("no entry")
			}
			e := all[len(all)-1]
			got := fmt.Sprintf("%d: %d %s %s %d", resp.StatusCode, e.Action.Status, e.Action.StatusSource, e.Outcome, e.Revision)
			if got != c.want || e.Revision != len(all) || e.ID != all[0].ID {
				t.Errorf("%q in %d entries, want %q", got, len(all), c.want)
			}
			if e.Action.Path != project || e.Action.Method != c.method || e.ProjectRef != "abcdefghijklmnopqrst" {
				t.Errorf("action %+v", e.Action)
			}
			if got := resp.Header.Values("Audit-Id"); len(got) != 1 || got[0] != e.ID {
				t.Errorf("Audit-Id %q, want %q", got, e.ID)
			}
			if s := r.status(); s.Calls.Seen != 1 || s.Calls.Recorded != 1 || !s.Conserved {
				t.Errorf("status %s", s.Text())
			}
			t.Logf("%-40s %s", c.name, got)
		})
	}
}

// bcrypted is some password's hash.
const bcrypted = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"

func TestAnAPIThatDiesInMidAnswerGivesARevision(t *testing.T) {
	r := start(t, proxy, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "only this")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := oneCall.RoundTrip(r.request("GET", project, nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the client took half an answer for a whole one")
	}
	_ = resp.Body.Close()
	e := r.calls(2)
	if len(e) != 2 || e[0].ID != e[1].ID || e[0].Revision != 1 || e[1].Revision != 2 {
		t.Fatalf("%d entries", len(e))
	}
	if *e[0].ResponseBytes != 100 || *e[1].ResponseBytes != 9 || e[1].Action.Metadata["aborted"] != true {
		t.Errorf("announced %d, sent %d, metadata %v", *e[0].ResponseBytes, *e[1].ResponseBytes, e[1].Action.Metadata)
	}
	if s := r.status(); s.Calls.Recorded != 1 || !s.Conserved {
		t.Errorf("status %+v", s.Calls)
	}
}

func TestAnUpgradedConnectionIsRecordedAtItsBeginningAndItsEnd(t *testing.T) {
	r := start(t, proxy, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		_, _ = conn.Write([]byte("echo " + line))
	})
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: any\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", project)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if e := r.only(); e.Action.Status != 101 || e.Outcome != audit.OutcomeSuccess || e.Policy.Durability != audit.DurabilityStrict {
		t.Errorf("entry at the upgrade %+v", e)
	}
	fmt.Fprint(conn, "hello\n")
	if line, _ := in.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("got %q", line)
	}
	if err := conn.Close(); err != nil { // the API closed its half only
		t.Error(err)
	}
	if e := r.calls(2)[1]; e.Revision != 2 || *e.ResponseBytes != int64(len("echo hello\n")) {
		t.Errorf("entry at the end %+v", e)
	}
}

func TestAClientThatLeavesAChangingCallMakesItsOutcomeUnknown(t *testing.T) {
	reached, leave := make(chan struct{}), make(chan struct{})
	r := start(t, proxy, func(_ http.ResponseWriter, req *http.Request) {
		close(reached)
		<-req.Context().Done()
		close(leave)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if _, err := oneCall.RoundTrip(r.request("POST", project+"/pause", nil, "").WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-leave
	r.calls(1)
	if e := r.only(); !e.ClientGone || e.Outcome != audit.OutcomeUnknown {
		t.Errorf("entry %+v", e)
	}
}

func TestAStoreThatIsDownStopsNoCallUntilTheBufferIsFull(t *testing.T) {
	var mu sync.Mutex
	reached := 0
	r := newRig(t, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		reached++
		mu.Unlock()
	})
	// A directory where the store's file should be cannot be opened.
	if err := os.MkdirAll(filepath.Join(r.dir, "audit", "audit.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.load(rigCaddyfile, proxy)
	answered := 0
	var refused *http.Response
	var body string
	for refused == nil {
		resp, b := r.send("POST", project+"/pause", nil, "")
		if resp.StatusCode == http.StatusOK {
			if answered++; answered > 5000 {
				t.Fatal("the buffer did not fill")
			}
			continue
		}
		refused, body = resp, b
	}
	if answered < 100 {
		t.Errorf("only %d calls were answered", answered)
	}
	var problem struct{ Status int }
	if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != 503 || refused.StatusCode != 503 ||
		refused.Header.Get("Retry-After") == "" || refused.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("refused with %d %v %s", refused.StatusCode, refused.Header, body)
	}
	if reached != answered {
		t.Errorf("%d calls reached the API, %d were answered", reached, answered)
	}
	s := r.status()
	if s.Stores[0].FailingSince == nil || s.Calls.Refused != 1 || int(s.Calls.Recorded) != answered || !s.Conserved {
		t.Errorf("status %s", s.Text())
	}
	// The store comes back: everything is delivered and calls go on.
	if err := os.Remove(filepath.Join(r.dir, "audit", "audit.db")); err != nil {
		t.Fatal(err)
	}
	if s := r.drained(); s.Stores[0].Delivered != s.Head || !s.Conserved {
		t.Errorf("status %s", s.Text())
	}
	for range 100 {
		if resp, _ := r.send("POST", project+"/pause", nil, ""); resp.StatusCode == http.StatusOK {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("calls were refused although the buffer was drained")
}

func TestHostileValuesAreCutAndMarkedAndNeverFailACall(t *testing.T) {
	big := strings.Repeat("x", 900<<10)
	claims := map[string]any{}
	for i := range 10_000 {
		claims[fmt.Sprintf("claim-%d", i)] = strings.Repeat("v", 20)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signature := b64([]byte("0123456789abcdef0123456789abcdef"))
	wide := b64([]byte(`{"alg":"HS256"}`)) + "." + b64(body) + "." + signature
	r := start(t, proxy, ok)
	for _, c := range []struct {
		name, path string
		header     map[string]string
		cut        string
		check      func(*audit.Entry) bool
	}{
		{"a huge header", project, map[string]string{"User-Agent": big}, "actor.user_agent", nil},
		{"a huge path", "/v1/" + big, nil, "action.path", nil},
		{"a huge parameter", "/v1/projects/" + big, nil, "action.params.ref", nil},
		{"a huge unknown token", project, map[string]string{"Authorization": "Bearer " + big}, "", func(e *audit.Entry) bool {
			return e.Actor.TokenType == audit.TokenUnknown && strings.HasPrefix(e.Actor.TokenHash, "hmac:")
		}},
		{"a JWT with 10,000 claims", project, map[string]string{"Authorization": "Bearer " + wide}, "actor.claimed", func(e *audit.Entry) bool {
			return e.Actor.TokenType == audit.TokenJWT && e.Actor.Claimed == nil
		}},
		{"malformed base64", project, map[string]string{"Authorization": "Bearer a!.b!.c!"}, "", func(e *audit.Entry) bool {
			return e.Actor.TokenType == audit.TokenUnknown
		}},
		{"invalid UTF-8 in a path", project + "%ff%fe", nil, "action.params.ref", nil},
		{"invalid UTF-8 in a header", project, map[string]string{"User-Agent": "a\xff\xfeb"}, "actor.user_agent", func(e *audit.Entry) bool {
			return e.Actor.UserAgent == "a\uFFFDb"
		}},
		{"NUL and newlines in a path", project + "%00%0a%0d", nil, "", func(e *audit.Entry) bool {
			return e.Action.Params["ref"] == "abcdefghijklmnopqrst\x00\n\r"
		}},
		{"an empty bearer token", project, map[string]string{"Authorization": "Bearer "}, "", func(e *audit.Entry) bool {
			return e.Actor.TokenType == audit.TokenUnknown || e.Actor.TokenType == audit.TokenNone
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(r.buffered())
			req := r.request("POST", "/", c.header, "{}")
			req.URL.Opaque = "//" + r.addr + c.path
			resp, err := oneCall.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("the call failed: %d", resp.StatusCode)
			}
			all := r.buffered()
			if len(all) != before+1 {
				t.Fatalf("%d new entries", len(all)-before)
			}
			e := all[before]
			if c.cut != "" && e.Cut[c.cut] == 0 {
				t.Errorf("%s is not marked as cut: %v", c.cut, e.Cut)
			}
			if c.check != nil && !c.check(e) {
				t.Errorf("entry %+v", e)
			}
			b, err := e.Encode()
			if err != nil || !utf8.Valid(b) || len(b) > reserveBytes {
				t.Errorf("%d bytes, valid UTF-8 %v, %v", len(b), utf8.Valid(b), err)
			}
		})
	}
	r.drained()
	if got, want := len(r.exported()), len(r.buffered()); got != want {
		t.Errorf("%d entries are stored, want %d", got, want)
	}
}

// everyCredential is one of each kind, made up.
func everyCredential() []string {
	const hex40 = "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"somebody","role":"authenticated"}`)) + ".c2lnbmF0dXJlc2lnbmF0dXJlc2ln"
	return []string{
		"sbp_" + hex40, "sbp_v0_" + hex40, "sbp_oauth_" + hex40, "sbp_fc" + hex40, "sb_secret_" + hex40, jwt,
		"Basic-user:Basic-password-0123456789", "correct-horse-battery-staple",
	}
}

// secretPart is a credential without the prefix that all of its kind have, of
// which an alias shows six characters more.
func secretPart(s string) string {
	for _, prefix := range []string{"sbp_oauth_", "sbp_v0_", "sbp_fc", "sbp_", "sb_secret_"} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			return rest
		}
	}
	return s
}

func TestNoCredentialReachesTheDisk(t *testing.T) {
	r := start(t, proxy, ok)
	secrets := everyCredential()
	for _, s := range secrets {
		r.send("POST", project+"/secrets?token="+s+"&apikey="+s, map[string]string{"Authorization": "Bearer " + s, "Cookie": "session=" + s}, s)
		r.send("POST", project, map[string]string{"Authorization": "Basic " + s, "Apikey": s, "User-Agent": "cli"}, s)
		r.send("GET", "/v1/organizations/acme/project-claim/"+s, map[string]string{"Apikey": s}, "")
		r.send("GET", "/v9/unknown/route/"+secrets[0], map[string]string{"User-Agent": "agent " + secrets[5]}, "")
	}
	r.drained()
	r.stop() // it writes until its buffer is closed
	files := 0
	err := filepath.WalkDir(filepath.Join(r.dir, "audit"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			s = secretPart(s)
			// Any 12 characters would be too much.
			for i := 0; i+12 <= len(s); i++ {
				if piece := s[i : i+12]; strings.Contains(string(b), piece) {
					t.Errorf("%s holds %q of %q", path, piece, s)
				}
			}
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestTheClientsAddressFollowsTheTrustedProxies(t *testing.T) {
	r := start(t, proxy, ok)
	r.send("GET", project, map[string]string{"X-Forwarded-For": "203.0.113.9"}, "")
	if a := r.only().Actor; a.IP != "127.0.0.1" || a.IPSource != audit.IPPeer || a.PeerIP != "127.0.0.1" {
		t.Errorf("a header of an untrusted peer was believed: %+v", a)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	trusted := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
	resp, err := trusted.Do(r.request("GET", project, map[string]string{"X-Forwarded-For": "203.0.113.9"}, ""))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	trusted.CloseIdleConnections()
	if a := r.buffered()[1].Actor; a.IP != "203.0.113.9" || a.IPSource != audit.IPForwarded || a.PeerIP != "127.0.0.9" {
		t.Errorf("a trusted proxy's header was not used: %+v", a)
	}
}

func TestOneCallIsOneEntryWhateverTheNumberOfHandlers(t *testing.T) {
	r := start(t, "route {\n audit_log\n audit_log\n "+proxy+"\n}", ok)
	r.send("POST", project, nil, "")
	r.only()
	if s := r.status(); s.Calls.Seen != 1 {
		t.Errorf("seen %d", s.Calls.Seen)
	}
}
