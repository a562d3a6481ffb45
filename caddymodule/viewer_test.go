package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// readRig is a rig with a second site that shows what the first one records.
type readRig struct {
	*rig
	viewer string
}

// organizationAPI answers calls, and gives acme to whom it knows.
func organizationAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("Authorization") == "":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/v1/organizations/acme" && r.Method == http.MethodGet && r.Header.Get("Authorization") != "Bearer "+otherPAT:
		fmt.Fprint(w, `{"id":"id-of-acme","slug":"acme","name":"Acme","plan":"team"}`)
	case strings.HasPrefix(r.URL.Path, "/v1/organizations/") && r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprint(w, `{}`)
	}
}

const (
	somePAT  = "sbp_0123456789abcdef0123456789abcdef01234567"
	otherPAT = "sbp_fedcba9876543210fedcba9876543210fedcba98"
)

func newReadRig(t *testing.T, issuer, options string) *readRig {
	t.Helper()
	r := &readRig{rig: newRig(t, organizationAPI), viewer: ports.ForTest(t)}
	_, port, _ := strings.Cut(r.viewer, ":")
	r.load(strings.Replace(rigCaddyfile, "platform supabase", "platform supabase\n"+issuer, 1)+`
http://:`+port+` {
	bind 127.0.0.1
	audit_log_viewer {
`+strings.ReplaceAll(options, "%PLATFORM%", r.api.URL)+`
	}
}
`, proxy)
	return r
}

// read asks the viewer.
func (r *readRig) read(path string, header map[string]string) (*http.Response, string) {
	r.t.Helper()
	return r.do(func() *http.Request {
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.viewer+path, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for name, value := range header {
			req.Header.Set(name, value)
		}
		return req
	})
}

func (r *readRig) entries(path string, header map[string]string) (entries []*audit.Entry) {
	r.t.Helper()
	resp, text := r.read(path, header)
	var answer struct {
		Result []*audit.Entry `json:"result"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != 200 {
		r.t.Fatalf("%s: %s, %v, %s", path, resp.Status, err, text)
	}
	return answer.Result
}

const acmeAudit = "/platform/organizations/acme/audit"

func TestAMemberReadsWhatTheSidecarRecorded(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("rsa", "ec"))
	r := newReadRig(t, "issuer "+jwttest.URL+" {\n audience authenticated\njwks "+keys.URL+"\n}",
		"members ask %PLATFORM%/v1/organizations/{slug}\ncookie session\noperators user_id u-9")
	r.keysRead()
	member := bearer(jwttest.Session())
	if resp, text := r.send("PATCH", "/v1/organizations/acme", member, ""); resp.StatusCode != 200 {
		t.Fatal(resp.Status, text)
	}
	r.drained()
	for name, header := range map[string]map[string]string{
		"a verified session": member, "the session in a cookie": {"Cookie": "session=" + jwttest.Session()}, "a token that the API accepts": bearer(somePAT),
	} {
		entries := r.entries(acmeAudit, header)
		if len(entries) != 1 || entries[0].Actor.Email != "ada@example.com" || entries[0].Origin != nil {
			t.Fatalf("%s: %+v", name, entries)
		}
	}
	for name, c := range map[string]struct {
		path   string
		header map[string]string
		status int
	}{
		"nobody": {acmeAudit, nil, 401}, "somebody else": {acmeAudit, bearer(otherPAT), 403},
		"another organization": {"/platform/organizations/other/audit", member, 403},
		"an expired session":   {acmeAudit, bearer(jwttest.Session(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), 401},
		"another issuer's":     {acmeAudit, bearer(jwttest.Session(map[string]any{"iss": "https://evil.example"})), 401},
		"a token in the URL":   {acmeAudit + "?access_token=" + somePAT, nil, 401},
	} {
		if resp, text := r.read(c.path, c.header); resp.StatusCode != c.status || strings.Contains(text, "result") {
			t.Errorf("%s: %s %s, want %d", name, resp.Status, text, c.status)
		}
	}

	// An export is an entry by itself, once it is delivered, and the operator's look too.
	resp, text := r.read(acmeAudit+"/export?format=csv", member)
	if resp.StatusCode != 200 || strings.Count(text, "\r\n") != 2 {
		t.Fatalf("%s %q", resp.Status, text)
	}
	operator := bearer(jwttest.Session(map[string]any{"sub": "u-9", "email": "op@example.com"}))
	if entries := r.entries(acmeAudit, operator); len(entries) == 0 || entries[0].Origin == nil {
		t.Fatalf("an operator reads %+v", entries)
	}
	r.drained()
	entries := r.entries(acmeAudit, member)
	codes := map[string]*audit.Entry{}
	for _, e := range entries {
		codes[e.Action.Code] = e
	}
	export, read := codes[audit.EventExported], codes[audit.EventRead]
	if len(entries) != 3 || export == nil || read == nil {
		t.Fatalf("%v", codes)
	}
	if export.Outcome != audit.OutcomeSuccess || export.Actor.Email != "ada@example.com" || export.Action.Metadata["sha256"] == nil || export.OrganizationID != "id-of-acme" {
		t.Errorf("the export is %+v", export)
	}
	if b, _ := json.Marshal(read); strings.Contains(string(b), "op@example.com") || strings.Contains(string(b), "u-9") {
		t.Errorf("members are told who of the operator looked: %s", b)
	}
}

func TestAClaimLetsInWithoutAskingAnybody(t *testing.T) {
	keys := newKeyServer(t, jwttest.Keys().Set("rsa", "ec"))
	r := newReadRig(t, "issuer "+jwttest.URL+" {\n audience authenticated\njwks "+keys.URL+"\nclaim organization_slug org\nclaim organization_id org_id\n}", "members claim")
	r.keysRead()
	member := bearer(jwttest.Session(map[string]any{"org": "acme", "org_id": "id-of-acme"}))
	r.send("PATCH", "/v1/organizations/acme", member, "")
	r.drained()
	if entries := r.entries(acmeAudit, member); len(entries) != 1 {
		t.Errorf("%+v", entries)
	}
	for name, header := range map[string]map[string]string{
		"of another organization": bearer(jwttest.Session(map[string]any{"org": "other", "org_id": "x"})), "of none": bearer(jwttest.Session()), "opaque": bearer(somePAT),
	} {
		if resp, _ := r.read(acmeAudit, header); resp.StatusCode != 403 && resp.StatusCode != 401 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}

func TestReadersGoOnAfterAReload(t *testing.T) {
	r := newReadRig(t, "", "members ask %PLATFORM%/v1/organizations/{slug}")
	r.send("PATCH", "/v1/organizations/acme", bearer(somePAT), "")
	r.send("PATCH", "/v1/organizations/acme", bearer(somePAT), "")
	r.drained()
	_, text := r.read(acmeAudit+"?limit=1", bearer(somePAT))
	_, cursor, _ := strings.Cut(text, `"next_cursor":"`)
	cursor, _, _ = strings.Cut(cursor, `"`)
	_, port, _ := strings.Cut(r.viewer, ":")
	r.load(strings.Replace(rigCaddyfile, "level ERROR", "level WARN", 1)+`
http://:`+port+` {
	bind 127.0.0.1
	audit_log_viewer {
		members ask `+r.api.URL+`/v1/organizations/{slug}
		timeout 5s
	}
}
`, proxy)
	if entries := r.entries(acmeAudit+"?limit=1&cursor="+cursor, bearer(somePAT)); len(entries) != 1 {
		t.Errorf("the second page after a reload: %+v", entries)
	}
}

func TestAViewerThatCannotWorkIsRefusedWhenItIsLoaded(t *testing.T) {
	for options, want := range map[string]string{
		"":                                 "it lets nobody in",
		"members ask ftp://x/{slug}":       "an http or https URL",
		"members ask https://x.example/v1": "{slug} stands once",
		"members claim\nupgrade_url javascript:alert(1)":        "https URLs",
		"members ask https://x.example/{slug} {\nrole owner\n}": "role_at",
	} {
		r := newRig(t, ok)
		_, port, _ := strings.Cut(ports.ForTest(t), ":")
		site := "\nhttp://:" + port + " {\n bind 127.0.0.1\n audit_log_viewer {\n" + options + "\n}\n}\n"
		err := caddy.Load(adapt(t, r.expand(rigCaddyfile+site, proxy)), true)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%q: %v, want %q", options, err, want)
		}
	}
}
