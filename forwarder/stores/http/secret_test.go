package httpstore

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

// planted are credentials in every place that takes one.
var planted = placeholders{
	"{env.USER}": "planted-user", "{env.PASSWORD}": `planted"pa&s<s>`, "{env.PATH_KEY}": "planted/pa th", "{env.QUERY_KEY}": "planted+query&x",
	"{env.TOKEN}": "planted-token", "{env.COOKIE}": "planted=cookie", "{env.SECRET}": secretOf("p"), "{env.OLD}": secretOf("q"),
}

func plantedConfig(url string) Config {
	return Config{
		URL: strings.Replace(url, "://", "://{env.USER}:{env.PASSWORD}@", 1) + "/hook/{env.PATH_KEY}?key={env.QUERY_KEY}",
		Headers: []httpclient.Header{
			{Name: "X-Auth-Token", Value: "{env.TOKEN}"},
			{Name: "Cookie", Value: "session={env.COOKIE}"},
		},
		Secrets: []string{"{env.SECRET}", "{env.OLD}"},
		Resolve: planted.resolve,
	}
}

// shows reports a planted credential in a text, in any form.
func shows(text string) (string, bool) {
	for _, value := range planted {
		forms := []string{value, strings.TrimPrefix(value, "whsec_"), url.QueryEscape(value), url.PathEscape(value), html.EscapeString(value)}
		quoted, _ := json.Marshal(value)
		forms = append(forms, strings.Trim(string(quoted), `"`))
		forms = append(forms, strings.Trim(fmt.Sprintf("%q", value), `"`))
		for _, form := range forms {
			if strings.Contains(text, form) {
				return form, true
			}
		}
	}
	basic := base64.StdEncoding.EncodeToString([]byte(planted["{env.USER}"] + ":" + planted["{env.PASSWORD}"]))
	return basic, strings.Contains(text, basic)
}

// everything is what a receiver that says too much gives back of a request.
func everything(req *http.Request) string {
	said := []string{req.URL.String(), req.URL.Path, req.RequestURI, req.Method, fmt.Sprint(req.Header)}
	for _, values := range req.Header {
		for _, value := range values {
			quoted, _ := json.Marshal(value)
			said = append(said, value, html.EscapeString(value), string(quoted))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(planted)) {
		said = append(said, planted[name])
	}
	return strings.Join(said, " ")
}

func TestWhatAReceiverGivesBackOfACredentialIsConcealed(t *testing.T) {
	r, url := newReceiver(t)
	var logged bytes.Buffer
	c := plantedConfig(url)
	c.Proxy = httpclient.ProxyNone
	s, err := Open(c, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	clean := func(err error) {
		t.Helper()
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
			if form, ok := shows(text); ok {
				t.Errorf("the error shows %q: %s", form, text)
			}
		}
		clienttest.Fit(t, err)
	}
	for _, code := range []int{400, 401, 403, 413, 422, 429, 500, 503} {
		// The bound of what is read falls into each part of it once.
		for before := 0; before < httpclient.MaxAnswer; before += 97 {
			r.answer(func(w http.ResponseWriter, req *http.Request) {
				w.WriteHeader(code)
				io.WriteString(w, strings.Repeat("-", before)+everything(req))
			})
			clean(fails(t, s))
			if code != 400 {
				break // one status is enough for all bounds
			}
		}
	}
	r.answer(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Location", "http://planted-user:x@evil.example.com/planted-token/"+req.URL.Path+"?"+req.URL.RawQuery)
		w.Header().Set("Retry-After", "planted-token")
		w.WriteHeader(307)
	})
	clean(fails(t, s))
	clienttest.Mentions(t, fails(t, s), "evil.example.com")
	if got := r.last(t); got.Header.Get("X-Auth-Token") != "planted-token" {
		t.Errorf("it was not even sent: %v", got.Header)
	}
	if logged.Len() > 0 {
		t.Errorf("logged: %s", &logged)
	}
	shown, err := json.Marshal(s.Describe())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(shown), fmt.Sprintf("%+v", s.Describe()), fmt.Sprintf("%+v", s.c)} {
		if form, ok := shows(text); ok {
			t.Errorf("%q is shown: %s", form, text)
		}
	}
	if want := url + "/hook/{env.PATH_KEY}"; s.Describe().Location != want {
		t.Errorf("location %q, want %q", s.Describe().Location, want)
	}
}

func TestWhatTheNetworkSaysOfACredentialIsConcealed(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"the status line": clienttest.Says("HTTP/1.1 planted-token planted-user\r\n\r\n"),
		"a header":        clienttest.Says("HTTP/1.1 503 x\r\nplanted-token\r\n\r\n"),
		"cut off":         clienttest.Says("HTTP/1.1 503 x\r\nContent-Length: 500\r\n\r\nwe do not know planted-tok"),
		"with a control":  clienttest.Says("HTTP/1.1 503 x\r\nContent-Length: 13\r\n\r\nplanted-token\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, plantedConfig(clienttest.Hostile(t, true, then)))
			err := fails(t, s)
			if form, ok := shows(err.Error()); ok || strings.Contains(err.Error(), "planted-tok") {
				t.Errorf("the error shows %q: %v", form, err)
			}
		})
	}
}

func TestACredentialIsSentWhereItBelongsAndNowhereElse(t *testing.T) {
	r, url := newReceiver(t)
	write(t, open(t, plantedConfig(url)), records(t, 1, 2))
	got := r.last(t)
	got.Header.Del("X-Auth-Token")
	got.Header.Del("Cookie")
	got.Header.Del("Authorization")
	if form, ok := shows(fmt.Sprint(got.Header)); ok {
		t.Errorf("the headers show %q: %v", form, got.Header)
	}
	if form, ok := shows(string(got.plain(t))); ok {
		t.Errorf("the body shows %q", form)
	}
}

func TestACredentialThatIsMissingIsNamedAndOthersAreNotShown(t *testing.T) {
	_, url := newReceiver(t)
	for name := range planted {
		c := plantedConfig(url)
		less := maps.Clone(planted)
		delete(less, name)
		c.Resolve = less.resolve
		err := fails(t, open(t, c))
		clienttest.Mentions(t, err, name)
		if form, ok := shows(err.Error()); ok {
			t.Errorf("the error shows %q: %v", form, err)
		}
	}
}

func TestAValueThatCannotBeAHeaderIsNotShown(t *testing.T) {
	_, url := newReceiver(t)
	p := placeholders{"{env.T}": "planted\ntoken"}
	err := fails(t, open(t, Config{URL: url, Headers: []httpclient.Header{{Name: "X-Token", Value: "{env.T}"}}, Resolve: p.resolve}))
	clienttest.Mentions(t, err, "X-Token")
	if strings.Contains(err.Error(), "planted") {
		t.Errorf("the error shows it: %v", err)
	}
}
