package caddymodule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

const testSecret = "a-secret-that-no-log-and-no-error-may-ever-show"

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

// keyServer serves a key set that a test may change, and counts its readers.
type keyServer struct {
	*httptest.Server
	reads atomic.Int64
	set   atomic.Pointer[[]byte]
}

func newKeyServer(t *testing.T, set []byte) *keyServer {
	s := new(keyServer)
	s.set.Store(&set)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.reads.Add(1)
		w.Header().Set("Cache-Control", "public, max-age=600")
		_, _ = w.Write(*s.set.Load())
	}))
	t.Cleanup(s.Close)
	return s
}

func withIssuer(options string) string {
	return withRules("issuer " + jwttest.URL + " {\n audience authenticated\n" + options + "\n}")
}

// keysRead waits until the issuer's keys have come by URL.
func (r *rig) keysRead() {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if running.current().sources[0].Loaded() {
			return
		}
	}
	r.t.Fatal("the keys were not read")
}

// one sends a call that must reach the API, and returns its entry.
func (r *rig) one(header map[string]string) *audit.Entry {
	r.t.Helper()
	before := len(r.buffered())
	if resp, body := r.send("POST", project, header, ""); resp.StatusCode != 200 {
		r.t.Fatalf("the API was not reached: %d %s", resp.StatusCode, body)
	}
	return r.calls(before + 1)[before]
}

func TestAVerifiedTokenNamesItsActor(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("rsa", "ec"))
	r := newRig(t, ok)
	r.load(withIssuer("jwks "+keys.URL), proxy+"\nhandle /metrics {\nmetrics\n}")
	r.keysRead()
	count := func(result string) (n int) {
		_, text := r.send("GET", "/metrics", nil, "")
		_, text, found := strings.Cut(text, `caddy_audit_verifications_total{result="`+result+`"} `)
		if _, err := fmt.Sscan(text, &n); !found || err != nil {
			t.Fatalf("the metrics lack %s: %v", result, err)
		}
		return n
	}
	signature, cached, failed, noKey := count("signature"), count("cached"), count("failed"), count("no_key")
	token := jwttest.Session(map[string]any{"is_anonymous": true})
	for range 3 {
		e := r.one(bearer(token))
		if line := display.Summary(e); !strings.Contains(line, " by jwt ada@example.com from ") {
			t.Errorf("line %s", line)
		}
		a := e.Actor
		if a.Verification != audit.VerificationSignature || a.UserID != "u-1" || a.Email != "ada@example.com" || a.SessionID != "s-1" ||
			a.JWTIssuer != jwttest.URL || a.JWTRole != "authenticated" || a.Kind != audit.ActorAnonymous || a.Claimed != nil || a.VerificationReason != "" || a.IP != "127.0.0.1" {
			t.Errorf("actor %+v", a)
		}
	}
	r.one(bearer(jwttest.Session(map[string]any{"aud": "other"})))
	r.one(bearer(jwttest.Sign(jose.ES256, jwttest.Keys().EC, "new", nil, jwttest.Claims())))
	if s, c := count("signature")-signature, count("cached")-cached; s != 1 || c != 2 {
		t.Errorf("%d checks of the signature and %d from memory, want 1 and 2", s, c)
	}
	if f, n := count("failed")-failed, count("no_key")-noKey; f != 1 || n != 1 {
		t.Errorf("%d failed and %d without a key, want 1 and 1", f, n)
	}
	if a := r.one(bearer("sbp_0123456789abcdef0123456789abcdef01234567")).Actor; a.VerificationReason != "" || a.TokenType != audit.TokenV1 {
		t.Errorf("what is no JWT: %+v", a)
	}
}

func TestKeysFromAFileAndASecretFromItsPlaceholder(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "secret")
	for name, b := range map[string][]byte{file: jwttest.Keys().Set("ec"), secret: []byte(testSecret + "\n")} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TEST_JWT_SECRET", testSecret)
	es, hs := jwttest.Session(), jwttest.Sign(jose.HS256, []byte(testSecret), "", nil, jwttest.Claims())
	r := newRig(t, ok)
	for _, c := range []struct {
		options string
		es, hs  audit.Reason
	}{
		{"jwks file " + file, "", audit.ReasonAlgorithm},
		{"secret {env.TEST_JWT_SECRET}", audit.ReasonUnknownKey, ""},
		{"secret {file." + secret + "}", audit.ReasonUnknownKey, ""},
		{"secret {env.TEST_JWT_SECRET}\njwks file " + file, "", ""},
	} {
		r.load(withIssuer(c.options), proxy)
		for token, want := range map[string]audit.Reason{es: c.es, hs: c.hs} {
			if a := r.one(bearer(token)).Actor; a.VerificationReason != want || (a.UserID == "u-1") != (want == "") {
				t.Errorf("%s: %+v, want %q", c.options, a, want)
			}
		}
	}
}

func TestSeveralIssuersAndOtherClaims(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("ec"))
	t.Setenv("TEST_JWT_SECRET", testSecret)
	r := newRig(t, ok)
	r.load(withRules("issuer "+jwttest.URL+" {\njwks "+keys.URL+"\nclaim user_id app_metadata.uid\n}\nissuer other {\nsecret {env.TEST_JWT_SECRET}\n}"), proxy)
	r.keysRead()
	a := r.one(bearer(jwttest.Session(map[string]any{"app_metadata": map[string]any{"uid": "u-9"}}))).Actor
	if a.UserID != "u-9" || a.JWTSubject != "u-1" {
		t.Errorf("actor %+v", a)
	}
	a = r.one(bearer(jwttest.Sign(jose.HS256, []byte(testSecret), "", nil, jwttest.Claims(map[string]any{"iss": "other", "aud": nil})))).Actor
	if a.UserID != "u-1" || a.JWTIssuer != "other" {
		t.Errorf("actor %+v", a)
	}
	// One issuer's key makes no other issuer's tokens.
	a = r.one(bearer(jwttest.Sign(jose.HS256, []byte(testSecret), "", nil, jwttest.Claims()))).Actor
	if a.UserID != "" || a.VerificationReason != audit.ReasonAlgorithm {
		t.Errorf("actor %+v", a)
	}
}

func TestNoAttackOnATokenIsBelievedAndEachReachesTheAPI(t *testing.T) {
	began := time.Now()
	keys := newKeyServer(t, jwttest.Keys().Set("rsa", "ec"))
	r := newRig(t, ok)
	r.load(withIssuer("jwks "+keys.URL), proxy)
	r.keysRead()
	b64 := base64.RawURLEncoding.EncodeToString
	der, err := x509.MarshalPKIXPublicKey(jwttest.Keys().RSA.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: jwttest.Keys().RSA.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := encrypter.Encrypt([]byte(jwttest.Claims()))
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	duplicate := strings.Replace(jwttest.Claims(), `"sub":`, `"sub":"admin","sub":`, 1)
	good := jwttest.Session()
	for _, c := range []struct {
		name, token string
		want        audit.Reason
	}{
		{"alg none", b64([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + b64([]byte(jwttest.Claims())) + ".", audit.ReasonAlgorithm},
		{"HS256 by the RSA public key", jwttest.Sign(jose.HS256, public, "rsa", nil, jwttest.Claims()), audit.ReasonAlgorithm},
		{"another's key", jwttest.Sign(jose.ES256, stranger, "ec", nil, jwttest.Claims()), audit.ReasonBadSignature},
		{"another's key in jwk", jwttest.Sign(jose.ES256, stranger, "ec", map[string]any{"jwk": jose.JSONWebKey{Key: stranger.Public()}}, jwttest.Claims()), audit.ReasonBadSignature},
		{"jku", jwttest.Sign(jose.ES256, stranger, "", map[string]any{"jku": keys.URL}, jwttest.Claims()), audit.ReasonBadSignature},
		{"crit", jwttest.Sign(jose.ES256, jwttest.Keys().EC, "ec", map[string]any{"crit": []string{"exp"}, "exp": 1}, jwttest.Claims()), audit.ReasonCriticalHeader},
		{"expired", jwttest.Session(map[string]any{"exp": now - 3600}), audit.ReasonExpired},
		{"not yet valid", jwttest.Session(map[string]any{"nbf": now + 3600}), audit.ReasonNotYetValid},
		{"no expiry", jwttest.Session(map[string]any{"exp": nil}), audit.ReasonNoExpiry},
		{"wrong issuer", jwttest.Session(map[string]any{"iss": "https://evil.example.com"}), audit.ReasonWrongIssuer},
		{"wrong audience", jwttest.Session(map[string]any{"aud": "other"}), audit.ReasonWrongAudience},
		{"kid with a path", jwttest.Sign(jose.ES256, stranger, "../../dev/null", nil, jwttest.Claims()), audit.ReasonUnknownKey},
		{"kid with SQL", jwttest.Sign(jose.ES256, stranger, "x' UNION SELECT 'k'--", nil, jwttest.Claims()), audit.ReasonUnknownKey},
		{"nested JWT", jwttest.Sign(jose.ES256, jwttest.Keys().EC, "ec", map[string]any{"cty": "JWT"}, good), audit.ReasonNested},
		{"JWE", encrypted, audit.ReasonEncrypted},
		{"1 MiB token", jwttest.Session(map[string]any{"x": strings.Repeat("x", 3<<18)}), audit.ReasonTooLarge},
		{"duplicate claims", jwttest.Sign(jose.ES256, jwttest.Keys().EC, "ec", nil, duplicate), audit.ReasonDuplicateName},
		{"sub is a number", jwttest.Session(map[string]any{"sub": 7}), audit.ReasonBadClaim},
		{"two Authorization headers", good, audit.ReasonSeveralCredentials},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(r.buffered())
			req := r.request("POST", project, bearer(c.token), "")
			if c.want == audit.ReasonSeveralCredentials {
				req.Header.Add("Authorization", "Bearer "+jwttest.Session(map[string]any{"sub": "u-2"}))
			}
			resp, err := oneCall.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			e := r.calls(before + 1)[before]
			t.Logf("%-28s API %d  token_type %-7s  hash %-5v  verification %s  reason %s",
				c.name, resp.StatusCode, e.Actor.TokenType, e.Actor.TokenHash != "", e.Actor.Verification, e.Actor.VerificationReason)
			if resp.StatusCode != 200 || e.Outcome != audit.OutcomeSuccess {
				t.Errorf("the call did not reach the API: %d", resp.StatusCode)
			}
			a := e.Actor
			if a.Verification != audit.VerificationNone || a.VerificationReason != c.want || a.TokenHash == "" {
				t.Errorf("%+v, want %q", a, c.want)
			}
			if a.UserID != "" || a.Email != "" || a.SessionID != "" || a.JWTSubject != "" || a.JWTRole != "" {
				t.Errorf("unverified facts: %+v", a)
			}
		})
	}
	// Neither jku nor an unknown key makes them be read before a minute is over.
	if n := keys.reads.Load(); n > 1+int64(time.Since(began)/time.Minute) {
		t.Errorf("the keys were read %d times", n)
	}
}

// Whatever the server of the keys does, calls reach the API at once, and are
// recorded as not verified, or with the last keys.
func TestNoKeyServerSlowsOrRefusesACall(t *testing.T) {
	var metadata atomic.Int64 // stands for http://169.254.169.254
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		metadata.Add(1)
		_, _ = w.Write(jwttest.Keys().Set("ec"))
	}))
	defer target.Close()
	good := jwttest.Session()
	for _, c := range []struct {
		name, wantError string
		answer          http.HandlerFunc
	}{
		{"hangs", "deadline", func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }},
		{"hangs in its body", "deadline", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[`)
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
		}},
		{"redirects to the metadata address", "redirect", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, target.URL+"/latest/meta-data/", http.StatusFound)
		}},
		{"returns HTML", "no JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>Sign in</html>") }},
		{"returns 50 MiB", "1 MiB", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[],"x":"`)
			chunk := strings.Repeat("x", 1<<20)
			for range 50 {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}},
		{"returns 500", "500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			defer server.CloseClientConnections()
			r := newRig(t, ok)
			r.load(withIssuer("jwks "+server.URL+"/keys"), proxy)
			began := time.Now()
			a := r.one(bearer(good)).Actor
			t.Logf("%-34s API 200  token_type %s  verification %s  reason %s  after %v", c.name, a.TokenType, a.Verification, a.VerificationReason, time.Since(began).Round(time.Millisecond))
			if a.VerificationReason != audit.ReasonNoKeys || a.UserID != "" || a.Claimed == nil {
				t.Errorf("actor %+v", a)
			}
			err := running.current().sources[0].Read(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.wantError) || strings.Contains(err.Error(), server.URL) {
				t.Errorf("error %v, want %q", err, c.wantError)
			}
			if a := r.one(bearer(good)).Actor; a.VerificationReason != audit.ReasonNoKeys {
				t.Errorf("actor %+v", a)
			}
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if metadata.Load() != 0 {
		t.Errorf("the metadata address was asked %d times", metadata.Load())
	}
}

func TestADroppedKeyVerifiesNothingAnyMoreAndADeadServerChangesNothing(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("rsa", "ec"))
	r := newRig(t, ok)
	r.load(withIssuer("jwks "+keys.URL), proxy)
	r.keysRead()
	es, rs := jwttest.Session(), jwttest.Sign(jose.RS256, jwttest.Keys().RSA, "rsa", nil, jwttest.Claims())
	check := func(when string, es, rs map[string]string, wantES, wantRS audit.Reason) {
		t.Helper()
		for _, c := range []struct {
			header map[string]string
			want   audit.Reason
		}{{es, wantES}, {rs, wantRS}} {
			a := r.one(c.header).Actor
			t.Logf("%-28s verification %-9s reason %s", when, a.Verification, a.VerificationReason)
			if a.VerificationReason != c.want || (a.UserID == "u-1") != (c.want == "") {
				t.Errorf("%s: %+v, want %q", when, a, c.want)
			}
		}
	}
	check("both keys", bearer(es), bearer(rs), "", "")
	source := running.current().sources[0]
	dropped := jwttest.Keys().Set("rsa")
	keys.set.Store(&dropped)
	if err := source.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("the EC key dropped", bearer(es), bearer(rs), audit.ReasonUnknownKey, "")
	html := []byte("<html>")
	keys.set.Store(&html)
	if err := source.Read(t.Context()); err == nil {
		t.Fatal("HTML is a key set")
	}
	check("HTML instead of keys", bearer(es), bearer(rs), audit.ReasonUnknownKey, "")
	keys.Close()
	if err := source.Read(t.Context()); err == nil {
		t.Fatal("a dead server gave keys")
	}
	check("the server dead", bearer(es), bearer(rs), audit.ReasonUnknownKey, "")
}

func TestAReloadKeepsTheKeysAndAStopEndsTheirReading(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("ec"))
	r := newRig(t, ok)
	r.load(withIssuer("jwks "+keys.URL), proxy)
	r.keysRead()
	for _, option := range []string{"claim user_id email", "claim user_id sub", ""} {
		r.load(withIssuer("jwks "+keys.URL+"\n"+option), proxy)
		if a := r.one(bearer(jwttest.Session())).Actor; a.Verification != audit.VerificationSignature {
			t.Errorf("after a reload: %+v", a)
		}
	}
	if n := keys.reads.Load(); n != 1 || !keysAreRead() {
		t.Errorf("the keys were read %d times, and are they still? %v", n, keysAreRead())
	}
	r.load(rigCaddyfile, proxy)
	r.noKeysAreRead()
	r.load(withIssuer("jwks "+keys.URL), proxy)
	r.keysRead()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	r.noKeysAreRead()
}

// keysAreRead finds the reading of any key set among the goroutines.
func keysAreRead() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "identity.(*keySet).run(")
}

// noKeysAreRead gives a goroutine that has ended the moment to go.
func (r *rig) noKeysAreRead() {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if !keysAreRead() {
			return
		}
	}
	r.t.Error("a key set is read and no issuer is configured")
}

func TestValidateReadsNoKeysFromTheNetwork(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("ec"))
	r := newRig(t, ok)
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON(adapt(t, r.expand(withIssuer("jwks "+keys.URL), proxy)), &config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&config); err != nil {
		t.Fatal(err)
	}
	if n := keys.reads.Load(); n != 0 {
		t.Errorf("the keys were read %d times", n)
	}
}

func TestWhoAddsAnIssuerIsInTheLogAndTheSecretIsNot(t *testing.T) {
	t.Setenv("TEST_JWT_SECRET", testSecret)
	r := newRig(t, ok)
	r.load(rigCaddyfile, proxy)
	r.load(withIssuer("secret {env.TEST_JWT_SECRET}\nclaim user_id email"), proxy)
	r.one(bearer(jwttest.Sign(jose.HS256, []byte(testSecret), "", nil, jwttest.Claims())))
	var text string
	for _, e := range r.everything() {
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	if want := "issuer " + jwttest.URL + " audience authenticated secret {env.TEST_JWT_SECRET} claim user_id email"; !strings.Contains(text, want) {
		t.Errorf("the log lacks %q", want)
	}
	i := running.current().handlers[0].Issuers[0]
	text += fmt.Sprintf("%v %+v %#v", i, i.identity.Fixed, i.identity.Fixed)
	if strings.Contains(text, testSecret) {
		t.Error("the secret is shown")
	}
}

// What only the machine can say is found by validate, with the line and the
// cure, and without the secret.
func TestAnIssuerThatCannotWorkIsRefusedWithItsCure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHORT_SECRET", "hunter2")
	t.Setenv("LITERAL", testSecret)
	for name, c := range map[string]struct {
		options string
		want    []string
	}{
		"a secret that is not there":     {"secret {env.NOT_THERE}", []string{"secret {env.NOT_THERE}", "no value"}},
		"a secret file that is missing":  {"secret {file./not/there}", []string{"secret {file./not/there}"}},
		"a short secret":                 {"secret {env.SHORT_SECRET}", []string{"7 bytes", "at least 32"}},
		"a file that is missing":         {"jwks file /not/there.json", []string{"jwks file", "/not/there.json", "choose"}},
		"a file that is no key set":      {"jwks file " + file, []string{"jwks file", file, "no JSON"}},
		"a URL from an empty variable":   {"jwks {env.NOT_THERE}", []string{"NOT_THERE"}},
		"a URL that a variable has made": {"jwks {env.LITERAL}", []string{"jwks", "https"}},
	} {
		t.Run(name, func(t *testing.T) {
			var config caddy.Config
			text := ":0 {\n\taudit_log {\n\t\tissuer https://auth.example.com {\n" + c.options + "\n}\n}\n}\n"
			if err := caddy.StrictUnmarshalJSON(adapt(t, text), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(&config)
			if err == nil {
				t.Fatal("it is valid")
			}
			for _, want := range append(c.want, "Caddyfile:2", "issuer https://auth.example.com") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q shows the secret", err)
			}
		})
	}
}

func TestASecretInTheConfigurationIsRefusedAndNotRepeated(t *testing.T) {
	t.Setenv("LITERAL", testSecret)
	for _, secret := range []string{testSecret, "{$LITERAL}", "x{env.A}", "{env.A}{env.B}", "{http.request.header.A}", "Bearer " + testSecret} {
		text := adaptText([]byte(":0 {\n\taudit_log {\n\t\tissuer x {\n\t\t\tsecret " + secret + "\n\t\t}\n\t}\n}\n"))
		if !strings.Contains(text, "{env.JWT_SECRET}") || !strings.Contains(text, "Caddyfile:") || strings.Contains(text, testSecret) {
			t.Errorf("%s", text)
		}
	}
	var config caddy.Config
	json := `{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"audit_log","issuers":[{"url":"x","secret":"` + testSecret + `"}]}]}]}}}}}`
	if err := caddy.StrictUnmarshalJSON([]byte(json), &config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&config); err == nil || !strings.Contains(err.Error(), "{env.JWT_SECRET}") || strings.Contains(err.Error(), testSecret) {
		t.Errorf("error %v", err)
	}
}

func TestKeysOverHTTPAreWarnedAbout(t *testing.T) {
	for url, want := range map[string]bool{
		"http://auth:9999/keys": true, "http://10.0.0.1/keys": true, "https://auth/keys": false,
		"http://127.0.0.1:9/keys": false, "http://[::1]/keys": false, "http://localhost/keys": false,
	} {
		if got := (&Issuer{JWKSURL: url}).inClear(); got != want {
			t.Errorf("%s: %v", url, got)
		}
	}
}
