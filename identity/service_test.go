package identity

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// served is a service on a real socket.
func served(t *testing.T, introspects bool, h http.HandlerFunc) *Service {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // only then does a server notice that its client leaves
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(w, r)
	}))
	t.Cleanup(func() {
		serviceFetcher.Close()
		server.CloseClientConnections()
		server.Close()
	})
	s := &Service{URL: server.URL + "/ask?of=us", Introspects: introspects, Timeout: 300 * time.Millisecond}
	var err error
	if introspects {
		s.Account, err = audit.NewIntrospection(nil, nil)
	} else {
		s.Account, err = audit.NewProfile(nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnIntrospectionIsAskedAsRFC7662Says(t *testing.T) {
	var got *http.Request
	s := served(t, true, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = r
		_, _ = io.WriteString(w, `{"active":true,"sub":"u-1"}`)
	})
	s.ClientID, s.ClientSecret = "audit log", "s3cret/+"
	q := question("tok&en=1")
	body, why, err := s.ask(t.Context(), &q)
	if err != nil || why != "" || !strings.Contains(string(body), "u-1") {
		t.Fatal(string(body), why, err)
	}
	if got.Method != "POST" || got.PostForm.Get("token") != "tok&en=1" || got.URL.Query().Get("of") != "us" || strings.Contains(got.URL.RawQuery, "tok") {
		t.Errorf("%s %s %v", got.Method, got.URL, got.PostForm)
	}
	// As RFC 6749 has it, both are form-encoded within Basic.
	if user, password, _ := got.BasicAuth(); user != "audit+log" || password != "s3cret%2F%2B" {
		t.Errorf("asked as %q with %q", user, password)
	}
	s.ClientID = ""
	if _, _, err := s.ask(t.Context(), &q); err != nil || got.Header.Get("Authorization") != "Bearer s3cret/+" {
		t.Errorf("asked with %q, %v", got.Header.Get("Authorization"), err)
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(text, "s3cret") || strings.Contains(text, "of=us") {
		t.Errorf("the service prints as %s", text)
	}
	password := audit.Question{Type: audit.TokenBasic, Header: "Authorization", Value: "Basic eA=="}
	if s.serves(&password) {
		t.Error("it is asked about a password")
	}
}

func TestAProfileIsAskedAsTheCallerAsked(t *testing.T) {
	var got *http.Request
	s := served(t, false, func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, `{"id":"u-1"}`)
	})
	for _, q := range []audit.Question{
		{Header: "Authorization", Value: "Basic eDp5"},
		{Header: "Apikey", Value: "k"},
		{Header: "X-Token", Value: "k", Place: &audit.Place{Kind: audit.PlaceHeader, Name: "X-Token"}},
		{Value: "k", Place: &audit.Place{Kind: audit.PlaceCookie, Name: "sid"}},
		{Value: "k&x", Place: &audit.Place{Kind: audit.PlaceQuery, Name: "key"}},
	} {
		if _, _, err := s.ask(t.Context(), &q); err != nil {
			t.Fatal(err)
		}
		switch {
		case q.Header != "":
			if got.Header.Get(q.Header) != q.Value {
				t.Errorf("%s: %v", q.Header, got.Header)
			}
		case q.Place.Kind == audit.PlaceCookie:
			if c, err := got.Cookie("sid"); err != nil || c.Value != "k" {
				t.Errorf("cookie %v, %v", c, err)
			}
		default:
			if got.URL.Query().Get("key") != "k&x" || got.URL.Query().Get("of") != "us" {
				t.Errorf("query %s", got.URL.RawQuery)
			}
		}
	}
}

// Whatever a service does, it says nothing about who somebody is, in time.
func TestAServiceThatMisbehavesSaysNothing(t *testing.T) {
	var metadata atomic.Int64 // stands for http://169.254.169.254
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		metadata.Add(1)
		_, _ = io.WriteString(w, `{"active":true,"sub":"root","id":"root"}`)
	}))
	defer target.Close()
	for _, c := range []struct {
		name string
		want string
		why  audit.Reason
		h    http.HandlerFunc
	}{
		{"hangs", "deadline", "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"hangs in its body", "deadline", "", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"id":"u`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		{"redirects", "redirect", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) }},
		{"is 50 MiB", "64 KiB", "", func(w http.ResponseWriter, _ *http.Request) {
			chunk := strings.Repeat("x", 1<<20)
			for range 50 {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}},
		{"500", "500", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
		{"404", "404", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }},
		{"204", "204", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
		{"401", "", audit.ReasonInactive, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }},
	} {
		for _, introspects := range []bool{true, false} {
			s := served(t, introspects, c.h)
			l := New([]*Service{s}, Options{})
			q := question("secret-token")
			a, result := l.answer(s, &q)
			_, why, err := func() ([]byte, audit.Reason, error) {
				if c.want == "deadline" {
					return nil, "", fmt.Errorf("deadline")
				}
				return s.ask(t.Context(), &q)
			}()
			t.Logf("%-20s introspects %-5v  %-8s %s", c.name, introspects, result, a.why)
			if a.id != nil {
				t.Errorf("%s: somebody was found", c.name)
			}
			if c.why != "" && !introspects {
				if why != c.why || result != ResultInactive {
					t.Errorf("%s: %q", c.name, why)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-token") || strings.Contains(err.Error(), "of=us") {
				t.Errorf("%s: error %v, want %q", c.name, err, c.want)
			}
			l.Close()
		}
	}
	if metadata.Load() != 0 {
		t.Error("the redirect was followed")
	}
}
