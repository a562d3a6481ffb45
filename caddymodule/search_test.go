package caddymodule

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

// searched runs the command as a person would.
func searched(t *testing.T, stdin string, args ...string) (out, messages string, err error) {
	t.Helper()
	var o, m strings.Builder
	cmd := auditCommand(append([]string{"search"}, args...)...)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&o)
	cmd.SetErr(&m)
	cmd.SilenceErrors = true
	err = cmd.ExecuteContext(t.Context())
	return o.String(), m.String(), err
}

func TestALeakedCredentialsTrailIsFoundWhereverItsEntriesAre(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("ec"))
	r := newRig(t, ok)
	// A directory where the store's file should be: entries stay in the buffer.
	db := filepath.Join(r.dir, "audit", "audit.db")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	logFile := filepath.Join(r.dir, "caddy.log")
	config := strings.Replace(withIssuer("jwks "+keys.URL), "level ERROR", "output file "+logFile+"\n\t\tlevel DEBUG\n\t\tformat filter {\n\t\t\trequest>headers delete\n\t\t}", 1)
	r.load(config, proxy)
	r.keysRead()

	first, refreshed := jwttest.Session(), jwttest.Session(map[string]any{"exp": 99999999999, "email": nil})
	other := jwttest.Session(map[string]any{"session_id": "s-2", "sub": "u-2"})
	pat, opaque, password := "sbp_"+strings.Repeat("a1b2c3d4", 5), "an-opaque-token-of-nobody", "correct-horse-battery-staple"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ada:"+password))
	calls := 0
	call := func(header map[string]string, times int) {
		for range times {
			r.send("POST", project+"/pause", header, "")
			calls++
		}
	}
	call(bearer(first), 3)
	call(bearer(refreshed), 2)
	call(bearer(other), 1)
	call(bearer(pat), 4)
	call(map[string]string{"Apikey": opaque}, 2)
	call(map[string]string{"Authorization": basic}, 1)
	call(nil, 1)

	file := filepath.Join(r.dir, "Caddyfile")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(r.expand(text, proxy)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure(config)
	secrets := []string{first, refreshed, other, pat, opaque, password, basic[6:]}
	var shown strings.Builder
	check := func(state, note string) {
		t.Helper()
		for _, c := range []struct {
			stdin string
			args  string
			lines int
			last  string
		}{
			{first, "--token-stdin", 5, "5 entries: 3 by the token, 2 more by its session"},
			{"Authorization: Bearer " + other + "\n", "--token-stdin", 1, "1 entry: 1 by the token"},
			{first, "--token-stdin --user u-2", 0, "nothing found for the token with hash " + hashOf(first)[:8] + "…, user u-2"},
			{pat, "--token-stdin", 4, "4 entries: 4 by the token"},
			{pat, "--token-stdin --json", 4, "4 entries: 4 by the token"},
			{"", "--token-hash " + hashOf(pat), 4, "4 entries"},
			{"apikey: " + opaque, "--token-stdin", 2, "2 entries: 2 by the token"},
			{basic, "--token-stdin", 1, "1 entry: 1 by the token"},
			{"another-token", "--token-stdin", 0, "nothing found for the token with hash hmac:"},
			{"", "--session s-1", 5, "5 entries"},
			{"", "--user u-2 --session s-1", 0, "nothing found for session s-1, user u-2"},
			{"", "--user u-2 --session s-2 --ip 127.0.0.1", 1, "1 entry"},
			{"", "--ip 127.0.0.1", calls, fmt.Sprint(calls, " entries")},
			{"", "--ip 127.0.0.1 --to 2020-01-01T00:00:00Z", 0, "nothing found for address 127.0.0.1, to 2020-01-01T00:00:00Z"},
		} {
			out, messages, err := searched(t, c.stdin, append([]string{"--config", file}, strings.Fields(c.args)...)...)
			shown.WriteString(out + messages)
			lines := strings.Split(strings.TrimSpace(messages), "\n")
			if last := lines[len(lines)-1]; err != nil || strings.Count(out, "\n") != c.lines || !strings.HasPrefix(last, c.last) || !strings.Contains(messages, note) {
				t.Errorf("%s: %s: %v, want %d lines and %q:\n%s%s", state, c.args, err, c.lines, c.last, out, messages)
			}
			if marked := strings.Count(out, "  by its session\n"); strings.Contains(c.last, "more") && marked != 2 {
				t.Errorf("%s: %d entries are marked:\n%s", state, marked, out)
			}
			if strings.Contains(c.args, "--json") {
				for line := range strings.Lines(out) {
					if e, err := audit.Decode([]byte(line)); err != nil || e.Actor.TokenHash != hashOf(pat) || e.Origin == nil {
						t.Errorf("%s: line %s: %v", state, line, err)
					}
				}
			}
		}
	}
	check("only in the buffer", "only the buffer was searched, since no store can be read: ")
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	r.drained()
	check("in both", "")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	b := openWhenFree(t, filepath.Join(r.dir, "audit", "buffer"))
	if err := errors.Join(b.Append([]byte(`{"id":"waits"}`)), b.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	configure(strings.Replace(config, "admin.sock", "nobody.sock", 1))
	check("offline", "not searched: 1 entry in the buffer")
	if err := os.Remove(filepath.Join(r.dir, "audit", "buffer", "token.key")); err != nil {
		t.Fatal(err)
	}
	if _, messages, err := searched(t, pat, "--config", file, "--token-stdin"); err != nil || !strings.Contains(messages, "token.key") || !strings.Contains(messages, "4 entries") {
		t.Errorf("without the key: %v, %s", err, messages)
	}
	if _, _, err := searched(t, `Digest a="x"`, "--config", file, "--token-stdin"); err == nil || !strings.Contains(err.Error(), "token.key") {
		t.Errorf("without the key: %v", err)
	}
	logged, err := os.ReadFile(logFile)
	if err != nil || !strings.Contains(string(logged), operator.SearchPath) {
		t.Errorf("the log does not show the searches: %v", err)
	}
	for _, s := range secrets {
		for i := 10; i+12 <= len(s); i++ {
			if strings.Contains(string(logged), s[i:i+12]) || strings.Contains(shown.String(), s[i:i+12]) {
				t.Fatalf("the log or the screen shows %q", s[i:i+12])
			}
		}
	}
}

func hashOf(token string) string { return new(audit.TokenKey).Hash(token, true) }

func TestASearchThatCannotBeMadeSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte("{\n admin 0.0.0.0:2019\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "a-secret-that-nobody-may-see"
	for _, c := range []struct{ stdin, args, want string }{
		{"", "", "give a token, a session, a user or an address"},
		{"", "--organization acme", "give a token, a session, a user or an address"},
		{"", "--token-stdin", "there is none"},
		{" \n", "--token-stdin", "there is none"},
		{secret + "\n" + secret, "--token-stdin", "several lines"},
		{strings.Repeat(secret, 4000), "--token-stdin", "more than 65536 bytes"},
		{secret, "--token-stdin --token-hash " + secret, "token-hash token-stdin"},
		{secret, "--token-stdin", "neither a unix socket nor a loopback address"},
		{secret, "--token-stdin --address :2019", "neither a unix socket nor a loopback address"},
		{secret, "--token-stdin --address example.com:2019", "neither a unix socket nor a loopback address"},
		{"", "--token-hash " + secret, "it is not 64 hex digits"},
		{"", "--token-hash hmac:abcd", "it is not 64 hex digits"},
		{"", "--ip " + secret, "it is none"},
		{"", "--user u --from yesterday", "is not a time"},
		{"", secret, "search takes no argument"},
		{"", "--token-stdin=" + secret, "--token-stdin takes no value"},
	} {
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--address") {
			args = append(args, "--config", file)
		}
		_, _, err := searched(t, c.stdin, args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

func TestTheSearchRouteTakesOneStrictObject(t *testing.T) {
	r := start(t, proxy, ok)
	for body, want := range map[string]string{
		"": "400", "{}": "searching for nothing", "[]": "400", `{"sesion":"x"}`: "400", `{"session":"x"} {}`: "400", `{"session":7}`: "400",
		`{"credential":"` + strings.Repeat("x", operator.MaxCredential+1) + `"}`: "is the most", `{"session":"` + strings.Repeat("x", maxSearch) + `"}`: "400",
		`{"credential":"x","token_hash":"y"}`: "one of them", `{"credential":"SECRET","from":"x"}`: "400", `{"SECRET":"x"}`: "400",
	} {
		_, err := r.ask(t.Context(), http.MethodPost, operator.SearchPath, body)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%.40s: %v", body, err)
		}
	}
}
