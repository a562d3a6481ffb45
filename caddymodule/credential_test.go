package caddymodule

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

const robot = "rb_5e0a9c1b7d3f4826a1c9"

// last is the newest entry, in its highest revision, of those of n calls.
func (r *rig) last(n int) *audit.Entry {
	r.t.Helper()
	for {
		head := r.status().Head // see calls
		byID := map[string]*audit.Entry{}
		var newest *audit.Entry
		for _, e := range r.buffered() {
			if before := byID[e.ID]; before == nil {
				newest = e
			} else if e.Revision < before.Revision {
				continue
			}
			byID[e.ID] = e
		}
		if len(byID) >= n {
			return byID[newest.ID]
		}
		if _, err := running.current().shared.Load().buf.Wait(r.t.Context(), head); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestACredentialIsFoundWhereTheSiteSaysItStands(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules(`token robot prefix rb_
		credential header X-Robot
		credential cookie sid session
		credential query access_token`), proxy)
	for i, c := range []struct {
		name   string
		path   string
		header map[string]string
		want   audit.TokenType
		why    audit.Reason
	}{
		{"a header of the site's", project, map[string]string{"X-Robot": robot}, "robot", ""},
		{"a cookie", project, map[string]string{"Cookie": "a=b; sid=3fc1; c=d"}, "session", ""},
		{"a cookie of a known shape", project, map[string]string{"Cookie": "sid=" + robot}, "robot", ""},
		{"a query parameter", project + "?x=1&access_token=" + url.QueryEscape(robot), nil, "robot", ""},
		{"a cookie twice, the same", project, map[string]string{"Cookie": "sid=" + robot + "; sid=" + robot}, "robot", ""},
		{"a cookie twice", project, map[string]string{"Cookie": "sid=" + robot + "; sid=x"}, "robot", audit.ReasonSeveralCredentials},
		{"header and cookie at odds", project, map[string]string{"Authorization": "Bearer " + robot, "Cookie": "sid=x"}, "robot", audit.ReasonSeveralCredentials},
		{"none of them", project, map[string]string{"Cookie": "sidecar=x"}, audit.TokenNone, ""},
	} {
		if resp, _ := r.send("POST", c.path, c.header, ""); resp.StatusCode != 200 {
			t.Fatalf("%s: %d", c.name, resp.StatusCode)
		}
		e := r.last(i + 1)
		t.Logf("%-28s token_type %-8s hash %.12s  reason %s", c.name, e.Actor.TokenType, e.Actor.TokenHash, e.Actor.VerificationReason)
		if e.Actor.TokenType != c.want || e.Actor.VerificationReason != c.why {
			t.Errorf("%s: %+v", c.name, e.Actor)
		}
		if b, err := e.Encode(); err != nil || strings.Contains(string(b), robot) || strings.Contains(string(b), "3fc1") || e.Action.Path != project {
			t.Errorf("%s: %s, %v", c.name, b, err)
		}
	}
	var policy string
	for _, e := range r.events() {
		policy += fmt.Sprint(e.Action.Metadata)
	}
	for _, line := range []string{"token robot prefix rb_", "credential cookie sid session", "credential query access_token"} {
		if !strings.Contains(policy, line) {
			t.Errorf("the log of the policy lacks %q", line)
		}
	}
}

func TestASitesOwnCredentialsReachNoLogOfCaddys(t *testing.T) {
	r := newRig(t, ok)
	log := filepath.Join(r.dir, "caddy.log")
	caddyfile := strings.Replace(withRules("token robot prefix rb_\n\t\ttoken ticket regexp [0-9]{4}(-[0-9a-f]{8}){4}"),
		"level ERROR", "output file "+log+"\n\t\tformat filter {\n\t\t\trequest>headers delete\n\t\t\trequest>uri audit_log\n\t\t\turi audit_log\n\t\t}", 1)
	r.load(caddyfile, "reverse_proxy 127.0.0.1:1")
	const ticket = "2026-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9"
	for _, token := range []string{robot, ticket} {
		if resp, _ := r.send("POST", "/reset/"+token+"?token="+token, bearer(token), ""); resp.StatusCode != 502 {
			t.Fatal(resp.StatusCode)
		}
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "/reset/[redacted]?[redacted]"); n < 2 || strings.Contains(string(b), robot) || strings.Contains(string(b), ticket) {
		t.Errorf("the log shows\n%s", b)
	}
	for _, e := range r.buffered() {
		if b, err := e.Encode(); err != nil || strings.Contains(string(b), robot) || strings.Contains(string(b), ticket) {
			t.Errorf("%s, %v", b, err)
		}
	}
}

// asserting is an API that names the actor in every way that HTTP has, and
// keeps what it was sent.
func asserting(seen *http.Header, trailer *http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		*seen, *trailer = r.Header.Clone(), r.Trailer.Clone()
		h := w.Header()
		h.Set("Link", "</style.css>; rel=preload")
		h.Set("X-Audit-User-Id", "u-early")
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("X-Audit-User-Id", "u-1")
		h.Set("X-Audit-Email", "ada@example.com")
		h.Set("X-Other", "stays")
		h.Add("Trailer", "X-Audit-Email, X-Checksum")
		h.Add("Trailer", "X-Audit-User-Id")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		h.Set("X-Audit-User-Id", "u-late")
		h.Set("X-Checksum", "stays")
		h.Set(http.TrailerPrefix+"X-Audit-Email", "late@example.com")
	}
}

func TestWhatTheAPIAssertsIsBelievedAndSeenByNoClient(t *testing.T) {
	var seen, trailer http.Header
	const block = `answer_header user_id X-Audit-User-Id
		answer_header email x-audit-email
		@probes path /health
		rule @probes none`
	caddyfile := strings.Replace(withRules(block), "trusted_proxies_strict", "trusted_proxies_strict\n\t\tprotocols h1 h2c", 1)
	r := newRig(t, asserting(&seen, &trailer))
	r.load(caddyfile, "reverse_proxy %API% {\n\t\tflush_interval -1\n\t}")
	n := 0
	for _, proto := range []string{"HTTP/1.1", "h2c"} {
		for _, path := range []string{project, "/health"} {
			var protocols http.Protocols
			protocols.SetHTTP1(proto != "h2c")
			protocols.SetUnencryptedHTTP2(proto == "h2c")
			transport := &http.Transport{Protocols: &protocols, DisableKeepAlives: true}
			var early []http.Header
			ctx := httptraceOf(t.Context(), &early)
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.addr+path, io.MultiReader(strings.NewReader("x")))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Audit-User-Id", "root")
			req.Header.Set("x-audit-EMAIL", "root@example.com")
			req.Header.Set("Authorization", "Bearer opaque")
			req.Trailer = http.Header{"X-Audit-User-Id": {"root"}, "X-Sum": {"stays"}}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			transport.CloseIdleConnections()
			if err != nil || string(body) != "body" {
				t.Fatalf("%q, %v", body, err)
			}
			all := fmt.Sprint(resp.Header, resp.Trailer, early)
			if strings.Contains(strings.ToLower(all), "x-audit") {
				t.Errorf("%s %s: the client sees %s", proto, path, all)
			}
			if resp.Header.Get("X-Other") != "stays" || resp.Trailer.Get("X-Checksum") != "stays" || len(early) != 1 || early[0].Get("Link") == "" {
				t.Errorf("%s %s: the client lacks something: %s", proto, path, all)
			}
			if sent := fmt.Sprint(seen, trailer); strings.Contains(strings.ToLower(sent), "x-audit") || trailer.Get("X-Sum") != "stays" {
				t.Errorf("%s %s: the API was sent %s", proto, path, sent)
			}
			if path == "/health" {
				continue
			}
			n++
			if a := r.last(n).Actor; a.UserID != "u-1" || a.Email != "ada@example.com" || a.Verification != audit.VerificationAsserted {
				t.Errorf("%s: %+v", proto, a)
			}
		}
	}
	if s := r.status(); s.Calls.Excluded != 2 {
		t.Errorf("%+v", s.Calls)
	}
}

func httptraceOf(ctx context.Context, early *[]http.Header) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		*early = append(*early, http.Header(h))
		return nil
	}})
}

// A raw HTTP/1.1 client can send what no Go client does.
func TestNoClientForgesWhatTheAPIAsserts(t *testing.T) {
	var mu sync.Mutex
	var sent string
	echo := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		sent = fmt.Sprint(r.Header, r.Trailer)
		for _, h := range []http.Header{r.Header, r.Trailer} {
			maps.Copy(w.Header(), h) // the worst API: it sends back what it was sent
		}
	}
	r := newRig(t, echo)
	r.load(withRules("answer_header user_id X-Audit-User-Id"), proxy)
	for i, head := range []string{
		"X-Audit-User-Id: root\r\n\r\n",
		"x-audit-user-id: root\r\nX-AUDIT-USER-ID: root\r\n\r\n",
		"X_Audit_User_Id: root\r\nX.Audit.User.Id: root\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-Audit-User-Id\r\n\r\n1\r\nx\r\n0\r\nX-Audit-User-Id: root\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-Fine\r\n\r\n1\r\nx\r\n0\r\nX-Fine: 1\r\nx-audit-user-id: root\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Audit-User-Id: root\r\n\r\n",
		"Connection: close, X-Audit-User-Id\r\nX-Audit-User-Id: root\r\n\r\n",
		"Trailer: X-Audit-User-Id\r\nX-Audit-User-Id: root\r\nContent-Length: 0\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST "+project+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer opaque\r\n"+head)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		_ = conn.Close()
		a := r.last(i + 1).Actor
		mu.Lock()
		if a.UserID != "" || a.Verification == audit.VerificationAsserted || strings.Contains(sent, "root") && !strings.Contains(head, ".") {
			t.Errorf("%q: the API was sent %s, and the actor is %+v", head, sent, a)
		}
		mu.Unlock()
		if got := fmt.Sprint(resp.Header, resp.Trailer); strings.Contains(got, "root") && !strings.Contains(head, ".") {
			t.Errorf("%q: the client sees %s", head, got)
		}
	}
}

func TestAnErrorRouteSendsNoAssertionOn(t *testing.T) {
	errors := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Audit-User-Id", "u-1")
		w.WriteHeader(418)
	}))
	defer errors.Close()
	r := newRig(t, ok)
	block := "answer_header user_id X-Audit-User-Id"
	r.load(withRules(block), `header X-Audit-User-Id set-before-the-error
	error 500
	handle_errors {
		audit_log {
			`+block+`
		}
		reverse_proxy `+errors.Listener.Addr().String()+`
	}`)
	resp, _ := r.send("POST", project, bearer("opaque"), "")
	if resp.StatusCode != 418 || resp.Header.Get("X-Audit-User-Id") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	r.calls(2)
	if e := r.last(1); e.Action.Status != 418 || e.Actor.UserID != "" {
		t.Errorf("an error route names the actor: %+v", e.Actor)
	}
}

// teller is a service that says whose a credential is, and an API before it.
type teller struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
	delay time.Duration
	hold  chan struct{}
}

func newTeller(t *testing.T) *teller {
	s := &teller{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		token := r.PostForm.Get("token")
		if token == "" {
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+token)
		delay, hold := s.delay, s.hold
		s.mu.Unlock()
		time.Sleep(delay)
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		switch {
		case strings.Contains(token, "revoked") && r.Method == "GET":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(token, "revoked"):
			_, _ = io.WriteString(w, `{"active":false}`)
		default:
			_, _ = fmt.Fprintf(w, `{"active":true,"sub":"u-%[1]s","id":"u-%[1]s","email":"ada@example.com"}`, token[len(token)-3:])
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *teller) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// settled waits until the newest entry of n calls has a user.
func (r *rig) settled(n int) *audit.Entry {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if e := r.last(n); e.Actor.UserID != "" {
			return e
		}
	}
	r.t.Fatalf("nobody was found: %+v", r.last(n).Actor)
	return nil
}

func TestAServiceSaysWhoseACredentialIs(t *testing.T) {
	t.Setenv("TEST_SECRET", testSecret)
	for _, kind := range []string{"introspect", "profile"} {
		t.Run(kind, func(t *testing.T) {
			s := newTeller(t)
			denied := false
			r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
				if denied {
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			options := ""
			if kind == "introspect" {
				options = "\n\t\t\tclient audit {env.TEST_SECRET}"
			}
			r.load(withRules("token robot prefix rb_\n\t\t"+kind+" "+s.URL+" {\n\t\t\ttypes robot"+options+"\n\t\t}"), proxy)

			// The first call's entry learns it later, the next ones know it at once.
			r.send("POST", project, bearer(robot), "")
			e := r.settled(1)
			if a := e.Actor; a.Verification != audit.VerificationIntrospection || a.UserID != "u-1c9" || a.Email != "ada@example.com" ||
				a.Kind != audit.ActorPerson || a.TokenType != "robot" || a.TokenHash == "" || e.Outcome != audit.OutcomeSuccess || e.Action.Status != 200 {
				t.Errorf("%+v", e)
			}
			if e.Revision != 2 || e.DurationUS == 0 {
				t.Errorf("revision %d after %d µs", e.Revision, e.DurationUS)
			}
			for n := 2; n < 5; n++ {
				r.send("POST", project, bearer(robot), "")
				if e := r.last(n); e.Revision != 1 || e.Actor.UserID != "u-1c9" {
					t.Errorf("revision %d: %+v", e.Revision, e.Actor)
				}
			}
			if q := s.questions(); len(q) != 1 || !strings.HasSuffix(q[0], " "+robot) {
				t.Errorf("asked %v", q)
			}
			// Nobody is asked about what the API refuses, nor about other types.
			denied = true
			r.send("POST", project, bearer(robot+"2"), "")
			denied = false
			r.send("POST", project, bearer("opaque"), "")
			// A credential that is revoked is nobody's, and the next entry says so.
			r.send("POST", project, bearer(robot+"revoked"), "")
			for len(s.questions()) < 2 {
				time.Sleep(5 * time.Millisecond)
			}
			var why audit.Reason
			for n := 8; why == "" && n < 200; n++ {
				r.send("POST", project, bearer(robot+"revoked"), "")
				why = r.last(n).Actor.VerificationReason
			}
			if why != audit.ReasonInactive || len(s.questions()) != 2 {
				t.Errorf("%q, asked %v", why, s.questions())
			}
			if st := r.drained(); !st.Conserved {
				t.Errorf("%+v", st)
			}
			if strings.Contains(r.files(), robot) || strings.Contains(r.files(), testSecret) {
				t.Error("a credential is on the disk")
			}
		})
	}
}

// files are all bytes of the rig's files.
func (r *rig) files() string {
	r.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(r.dir, "audit"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was renamed meanwhile
		}
		all.Write(b)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all.String()
}

func TestAnAnswerWaitsForAServiceNoLongerThanItsSiteAllows(t *testing.T) {
	s := newTeller(t)
	s.hold = make(chan struct{})
	r := newRig(t, ok)
	r.load(withRules("profile "+s.URL+" {\n\t\t\twait 50ms\n\t\t\ttimeout 5s\n\t\t}"), proxy)
	if resp, _ := r.send("POST", project, bearer(robot), ""); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	if e := r.last(1); e.Revision != 1 || e.Actor.UserID != "" {
		t.Errorf("%+v", e.Actor)
	}
	close(s.hold)
	if e := r.settled(1); e.Revision != 2 {
		t.Errorf("revision %d", e.Revision)
	}
	// One that speaks in time is in the first revision.
	s.mu.Lock()
	s.hold = nil
	s.mu.Unlock()
	r.load(withRules("profile "+s.URL+" {\n\t\t\twait 1s\n\t\t\ttimeout 5s\n\t\t}"), proxy)
	r.send("POST", project, bearer(robot), "")
	if e := r.last(2); e.Revision != 1 || e.Actor.UserID != "u-1c9" {
		t.Errorf("revision %d: %+v", e.Revision, e.Actor)
	}
}

func TestAStopDoesNotWaitForAService(t *testing.T) {
	s := newTeller(t)
	s.hold = make(chan struct{})
	r := newRig(t, ok)
	r.load(withRules("profile "+s.URL+" {\n\t\t\ttimeout 30s\n\t\t}"), proxy)
	for n := range 20 {
		r.send("POST", project, bearer(fmt.Sprint(robot, n)), "")
	}
	began := time.Now()
	r.load(rigCaddyfile, proxy)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a reload waited %s for a service", took)
	}
	if st := r.drained(); !st.Conserved || st.Calls.Recorded != 20 {
		t.Errorf("%+v", st)
	}
}

func TestAClientCertificateThatCaddyVerifiedIsNamed(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, nil, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	server, serverKey := certificate(t, ca, caKey, &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}})
	spiffe, _ := url.Parse("spiffe://example.com/ns/x/sa/robot")
	clientCert, clientKey := certificate(t, ca, caKey, &x509.Certificate{
		SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: "robot", Organization: []string{"Example"}}, URIs: []*url.URL{spiffe},
		EmailAddresses: []string{"robot@example.com"}, DNSNames: []string{"a.example.com", "b.example.com", "c.example.com"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", ca.Raw)
	writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", server.Raw)
	der, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", der)
	r := newRig(t, ok)
	caddyfile := strings.Replace(rigCaddyfile, "http://:%PORT% {\n", "https://localhost:%PORT% {\n\ttls "+dir+"/cert.pem "+dir+"/key.pem {\n\t\tclient_auth {\n\t\t\tmode verify_if_given\n\t\t\ttrust_pool file "+dir+"/ca.pem\n\t\t}\n\t}\n", 1)
	caddyfile = strings.Replace(caddyfile, "persist_config off", "persist_config off\n\tauto_https off\n\tskip_install_trust", 1)
	r.load(caddyfile, proxy)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	for i, with := range []bool{true, false} {
		config := &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13}
		if with {
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{clientCert.Raw}, PrivateKey: clientKey}}
		}
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+r.addr+project, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "localhost"
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		e := r.last(i + 1)
		c := e.Actor.Certificate
		if (c != nil) != with || e.Actor.TokenType != audit.TokenNone {
			t.Fatalf("%+v", e.Actor)
		}
		if with && (c.Subject != "CN=robot,O=Example" || c.Issuer != "CN=Test CA" || c.Serial != "abc" || len(c.SHA256) != 64 ||
			len(c.Names) != 4 || c.Names[0] != spiffe.String() || e.Cut["actor.certificate.names"] != 5) {
			t.Errorf("%+v %v", c, e.Cut)
		}
		if with && !strings.Contains(display.Summary(e), "CN=robot,O=Example") {
			t.Errorf("the line lacks the certificate: %s", display.Summary(e))
		}
	}
}

func certificate(t *testing.T, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
