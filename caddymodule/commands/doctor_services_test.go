package commands_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// hostile answers as no service should.
func hostile(t *testing.T) *httptest.Server {
	t.Helper()
	quit := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		for range 1 << 12 {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return // it was cut off
			}
		}
		t.Error("a quarter of a gigabyte was read")
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-quit:
		}
	})
	mux.Handle("/away", http.RedirectHandler("/followed", http.StatusFound))
	mux.HandleFunc("/followed", func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Sign in</html>") })
	mux.HandleFunc("/error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[31mno", 500) })
	mux.HandleFunc("/401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	mux.HandleFunc("/404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[{"kty":"oct","k":"AAAA"}]}`) })
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"1"}]}`)
	})
	mux.HandleFunc("/some", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"1"}]}`)
	})
	mux.HandleFunc("/inactive", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"active":false}`) })
	mux.HandleFunc("/active", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"active":true,"sub":"anybody"}`) })
	mux.HandleFunc("/anybody", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"1","slug":"x","plan":"free"}`) })
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		close(quit)
		server.Close()
	})
	return server
}

// patience is how long an answer is waited for: only one that does not come is not for long.
func patience(path string) string {
	if path == "/slow" {
		return "200ms"
	}
	return "30s"
}

func TestServicesThatDoNotAnswerAsTheyShouldAreFound(t *testing.T) {
	at := hostile(t).URL
	issuer := func(path string) string {
		return "issuer https://auth.example.com {\n\t\t\tjwks " + at + path + "\n\t\t}"
	}
	ask := func(kind, path string) string {
		return kind + " " + at + path + " {\n\t\t\ttimeout " + patience(path) + "\n\t\t}"
	}
	for name, c := range map[string]struct {
		site  string
		state doctor.State
		has   string
	}{
		"keys":                        {issuer("/keys"), doctor.StateOK, "1 key(s)"},
		"keys, and others":            {issuer("/some"), doctor.StateWarning, "and 1 that cannot verify"},
		"no key that is one":          {issuer("/none"), doctor.StateWrong, "none of its 1 keys"},
		"keys that are huge":          {issuer("/huge"), doctor.StateWrong, "more than 1 MiB"},
		"keys that are slow":          {issuer("/slow"), doctor.StateWrong, "did not answer in time"},
		"keys elsewhere":              {issuer("/away"), doctor.StateWrong, "redirect"},
		"keys that are a page":        {issuer("/html"), doctor.StateWrong, "cannot be read"},
		"an introspection":            {ask("introspect", "/inactive"), doctor.StateOK, "knows nobody"},
		"one for anybody":             {ask("introspect", "/active"), doctor.StateWrong, "takes a credential that nobody has"},
		"one that does not know us":   {ask("introspect", "/401"), doctor.StateWrong, "check client"},
		"one that is a page":          {ask("introspect", "/html"), doctor.StateWrong, "its answer is none"},
		"one that is huge":            {ask("introspect", "/huge"), doctor.StateWrong, "more than 64 KiB"},
		"one that is slow":            {ask("introspect", "/slow"), doctor.StateWrong, "did not answer in time"},
		"one that is elsewhere":       {ask("introspect", "/away"), doctor.StateWrong, "redirect"},
		"a profile":                   {ask("profile", "/401"), doctor.StateOK, "knows nobody"},
		"a profile for anybody":       {ask("profile", "/anybody"), doctor.StateWrong, "knows somebody"},
		"a profile with an error":     {ask("profile", "/error"), doctor.StateWrong, "it answered 500"},
		"nothing that names a caller": {"", doctor.StateWarning, "nothing says who a caller is"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newPatient(t, "answer_header user_id X-User", "", "%SITE%", c.site).examined()
			r.want(t, "services", c.state, c.has)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		r, _ := newPatient(t, "%SITE%", "issuer https://auth.example.com {\n\t\t\tjwks http://"+ports.ForTest(t)+"/\n\t\t}").examined()
		r.want(t, "services", doctor.StateWrong, "refused")
	})
}

func TestMembersAndOrganizationsThatCannotBeAskedAreFound(t *testing.T) {
	at := hostile(t).URL
	for path, c := range map[string]struct {
		members, organizations doctor.State
		has, hasToo            string
	}{
		"/401":     {doctor.StateOK, doctor.StateWrong, "turns away", "check the token"},
		"/404":     {doctor.StateOK, doctor.StateOK, "turns away", "answers"},
		"/anybody": {doctor.StateWrong, doctor.StateOK, "without any credential", "answers"},
		"/error":   {doctor.StateWrong, doctor.StateWrong, "it answered 500", "it answered 500"},
		"/slow":    {doctor.StateWrong, doctor.StateWrong, "in time", "in time"},
		"/huge":    {doctor.StateWrong, doctor.StateWrong, "more than 1 MiB", "more than 1 MiB"},
		"/away":    {doctor.StateWrong, doctor.StateWrong, "redirect", "redirect"},
		"/html":    {doctor.StateWrong, doctor.StateWrong, "no JSON object", "JSON object"},
	} {
		t.Run(path, func(t *testing.T) {
			// The name stands in the path, whatever the answer shall be.
			stub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.URL.Path = path
				forward(t, at, w, r)
			}))
			defer stub.Close()
			timeout := "1m"
			if path == "/slow" {
				timeout = "1s"
			}
			r, _ := newPatient(t,
				"http://:18080", "http://:8081 {\n\tbind 127.0.0.1\n\taudit_log_viewer {\n\t\tmembers ask "+stub.URL+"/o/{slug} {\n\t\t\ttimeout "+patience(path)+"\n\t\t}\n\t}\n}\nhttp://:18080",
				"%GLOBAL%", "organizations {\n\t\t\torganization "+stub.URL+"/o/{slug} {\n\t\t\t\tplan plan\n\t\t\t}\n\t\t}").examined("--timeout", timeout)
			find := func(kind string) *doctor.Diagnosis { return r.one("services", kind) }
			if f := find("members ask"); f == nil || f.State != c.members || !strings.Contains(f.Seen, c.has) {
				t.Errorf("members: %+v", f)
			}
			if f := find("organizations organization"); f == nil || f.State != c.organizations || !strings.Contains(f.Seen, c.hasToo) {
				t.Errorf("organizations: %+v", f)
			}
		})
	}
}

func forward(t *testing.T, to string, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, to+r.URL.Path, nil)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return // who asked has left
	}
	defer resp.Body.Close()
	if l := resp.Header.Get("Location"); l != "" {
		w.Header().Set("Location", "/followed")
	}
	w.WriteHeader(resp.StatusCode)
	block := make([]byte, 1<<16)
	for {
		n, err := resp.Body.Read(block)
		if _, wErr := w.Write(block[:n]); err != nil || wErr != nil {
			return
		}
	}
}
