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

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func mustQuery(t *testing.T) forwarder.Query {
	t.Helper()
	q, err := parseQuery(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return q
}

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

func TestWhatTheClientAndTheEntrySee(t *testing.T) {
	type want struct {
		status  int
		source  audit.StatusSource
		outcome audit.Outcome
	}
	for _, c := range []struct {
		name, site, method string
		api                http.HandlerFunc
		client             int
		entry              want
	}{
		{
			"the API answers 503", proxy, "POST", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
			503,
			want{503, audit.StatusWritten, audit.OutcomeFailure},
		},
		{
			"the API answers 403", proxy, "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
			403,
			want{403, audit.StatusWritten, audit.OutcomeDenied},
		},
		{"early hints come before the answer", proxy, "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(302)
		}, 302, want{302, audit.StatusWritten, audit.OutcomeSuccess}},
		{
			"the API is unreachable", "reverse_proxy 127.0.0.1:1", "DELETE", ok,
			502,
			want{502, audit.StatusError, audit.OutcomeFailure},
		},
		{
			"a handler refuses before the API", "error 418\n" + proxy, "POST", ok,
			418,
			want{418, audit.StatusError, audit.OutcomeFailure},
		},
		{
			"nobody answers", "", "POST", ok,
			200,
			want{200, audit.StatusDefault, audit.OutcomeSuccess},
		},
		{
			"Caddy answers itself", "respond 204", "PUT", ok,
			204,
			want{204, audit.StatusWritten, audit.OutcomeSuccess},
		},
		{
			"a rewrite before the API", "rewrite * /elsewhere\n" + proxy, "GET", ok,
			200,
			want{200, audit.StatusWritten, audit.OutcomeSuccess},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, c.site, c.api)
			resp, _ := r.send(c.method, project, nil, "")
			if resp.StatusCode != c.client {
				t.Errorf("the client got %d, want %d", resp.StatusCode, c.client)
			}
			e := r.only()
			if got := (want{e.Action.Status, e.Action.StatusSource, e.Outcome}); got != c.entry {
				t.Errorf("entry %+v, want %+v", got, c.entry)
			}
			if e.Action.Path != project || e.Action.Method != c.method || e.ProjectRef != "abcdefghijklmnopqrst" {
				t.Errorf("action %+v", e.Action)
			}
		})
	}
}

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
		t.Errorf("status %s", s.text())
	}
	// The store comes back: everything is delivered and calls go on.
	if err := os.Remove(filepath.Join(r.dir, "audit", "audit.db")); err != nil {
		t.Fatal(err)
	}
	if s := r.drained(); int(s.Stores[0].Delivered) != answered+1 || !s.Conserved {
		t.Errorf("status %s", s.text())
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
	if got, want := len(r.exported(&place{address: "unix/" + r.dir + "/admin.sock"})), len(r.buffered()); got != want {
		t.Errorf("%d entries are stored, want %d", got, want)
	}
}

func TestNoCredentialReachesTheDisk(t *testing.T) {
	r := start(t, proxy, ok)
	hex40 := "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"
	jwt := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"somebody","role":"authenticated"}`)) + ".c2lnbmF0dXJlc2lnbmF0dXJlc2ln"
	secrets := []string{
		"sbp_" + hex40, "sbp_v0_" + hex40, "sbp_oauth_" + hex40, "sbp_fc" + hex40, "sb_secret_" + hex40, jwt,
		"Basic-user:Basic-password-0123456789", "correct-horse-battery-staple",
	}
	for _, s := range secrets {
		r.send("POST", project+"/secrets?token="+s+"&apikey="+s, map[string]string{"Authorization": "Bearer " + s, "Cookie": "session=" + s}, s)
		r.send("POST", project, map[string]string{"Authorization": "Basic " + s, "Apikey": s, "User-Agent": "cli"}, s)
		r.send("GET", "/v1/organizations/acme/project-claim/"+s, map[string]string{"Apikey": s}, "")
		r.send("GET", "/v9/unknown/route/"+secrets[0], map[string]string{"User-Agent": "agent " + secrets[5]}, "")
	}
	r.drained()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
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
		for _, s := range append(secrets, hex40) {
			// Any 12 characters of the secret part would be too much.
			for i := max(0, len(s)-24); i+12 <= len(s); i += 4 {
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
