package attribution

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	secret = "sbp_0123456789abcdef0123456789abcdef01234567"
	hidden = "hidden-in-the-query"
)

func token() (string, error) { return secret + "\n", nil }

// served is a Directory whose service is on a real socket.
func served(t *testing.T, h http.HandlerFunc, change ...func(*Options)) (*Directory, *log, *results) {
	t.Helper()
	server := httptest.NewServer(h)
	l, got := new(log), &results{}
	o := Options{
		Keep: keepByPlan(t), Logger: slog.New(slog.NewTextHandler(l, nil)), Observe: got.observe,
		Rate: 1000,
	}
	o.Projects, o.Organizations = Supabase(server.URL, token)
	for _, c := range change {
		c(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		server.CloseClientConnections()
		server.Close()
	})
	return d, l, got
}

type results struct {
	mu   sync.Mutex
	list []string
}

func (r *results) observe(k Kind, result Result, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, string(k)+" "+string(result))
}

func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.list, ", ")
}

// until waits until a question has ended.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it never ends", what)
		}
	}
}

func TestSupabaseIsAskedAtItsManagementAPI(t *testing.T) {
	for _, c := range []struct{ name, project, organization string }{
		{"all names", `{"id":"abc","organization_id":"o-1","organization_slug":"acme","name":"x"}`, `{"id":"o-1","name":"Acme","plan":"enterprise"}`},
		{"only the slug", `{"organization_slug":"acme"}`, `{"id":"o-1","plan":"enterprise","slug":"acme"}`},
		{"only the id", `{"organization_id":"o-1","organization_slug":null}`, `{"id":"o-1","plan":"enterprise","slug":"acme"}`},
		{"a number", `{"organization_id":17}`, `{"id":17,"plan":"enterprise","slug":"acme"}`},
	} {
		var mu sync.Mutex
		var asked []string
		d, l, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked = append(asked, r.Method+" "+r.URL.Path)
			mu.Unlock()
			if r.Header.Get("Authorization") != "Bearer "+secret || r.Header.Get(NonceHeader) == "" {
				t.Errorf("%s: asked with %v", c.name, r.Header)
			}
			if strings.HasPrefix(r.URL.Path, "/v1/projects/") {
				_, _ = io.WriteString(w, c.project)
				return
			}
			_, _ = io.WriteString(w, c.organization)
		})
		s := await(t.Context(), d, call(project(ref)))
		if s.Retention.Plan != "enterprise" || s.OrganizationID == "" || s.Membership != audit.MembershipProven {
			t.Errorf("%s: %s", c.name, say(s))
		}
		if len(asked) != 2 || asked[0] != "GET /v1/projects/"+ref {
			t.Errorf("%s: asked %v", c.name, asked)
		}
		if l.String() != "" {
			t.Errorf("%s: the log says %s", c.name, l)
		}
	}
}

// Whatever a service does, nothing false is stamped, nothing is held up and nothing of
// the credential is told.
func TestAServiceThatMisbehavesSaysNothing(t *testing.T) {
	var metadata atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		metadata.Add(1)
		_, _ = io.WriteString(w, `{"organization_id":"root","plan":"enterprise"}`)
	}))
	defer target.Close()
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for _, c := range []struct {
		name, log string
		result    Result
		h         http.HandlerFunc
	}{
		{"404", "", ResultAbsent, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }},
		{"500", "it answered 500", ResultFailed, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
		{"401", "check the token", ResultFailed, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }},
		{"204", "it answered 204", ResultFailed, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
		{"HTML", "a JSON object", ResultFailed, write("<html><body>" + secret)},
		{"nothing", "a JSON object", ResultFailed, write("")},
		{"null", "a JSON object", ResultFailed, write("null")},
		{"a list", "a JSON object", ResultFailed, write(`[{"organization_id":"o-1"}]`)},
		{"half of it", "a JSON object", ResultFailed, write(`{"organization_id":"o-1"`)},
		{"two", "a JSON object", ResultFailed, write(`{"organization_id":"o-1"}{}`)},
		{"empty", "no organization", ResultFailed, write(`{}`)},
		{"a boolean", "neither text", ResultFailed, write(`{"organization_id":true}`)},
		{"an object", "neither text", ResultFailed, write(`{"organization_id":{"a":1}}`)},
		{"a fraction", "neither text", ResultFailed, write(`{"organization_id":1.5}`)},
		{"a long id", "too long", ResultFailed, write(`{"organization_id":"` + strings.Repeat("x", 200) + `"}`)},
		{"a line end", "no plain text", ResultFailed, write(`{"organization_id":"a\nb"}`)},
		{"deep", "a JSON object", ResultFailed, write(strings.Repeat("[", 1<<19))},
		{"10 MiB", "1 MiB", ResultFailed, func(w http.ResponseWriter, _ *http.Request) {
			for range 10 {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<20)); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, `{"organization_id":"o-1"}`)
		}},
		{"redirect", "not followed", ResultFailed, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
		}},
		{"redirect elsewhere", "not followed", ResultFailed, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL+"?x="+hidden, http.StatusTemporaryRedirect)
		}},
		{"hangs", "in time", ResultFailed, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"drips", "in time", ResultFailed, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}},
		{"hangs up", "closed the connection", ResultFailed, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		}},
		{"no HTTP", "", ResultFailed, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "SSH-2.0-"+secret+"\r\n\r\n")
				conn.Close()
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, l, got := served(t, c.h, func(o *Options) {
				o.Projects.URL += "?key=" + hidden
				if c.log == "in time" {
					o.Timeout = 300 * time.Millisecond
				}
			})
			e := call(project(ref))
			d.Stamp(e)
			until(t, c.name, func() bool { return got.String() != "" })
			s := d.Stamp(e)
			if got.String() != "project "+string(c.result) || s.OrganizationID != "" || s.OrganizationSlug != "" {
				t.Errorf("%s, stamped %s", got, say(s))
			}
			if s.Pending != (c.result == ResultFailed) {
				t.Errorf("pending %t", s.Pending)
			}
			text := l.String()
			if !strings.Contains(text, c.log) || c.result == ResultAbsent && text != "" {
				t.Errorf("the log says %q, not %q", text, c.log)
			}
			for _, private := range []string{secret[4:], hidden, "169.254", ref} {
				if strings.Contains(text, private) {
					t.Errorf("the log shows %s: %s", private, text)
				}
			}
		})
	}
	if metadata.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestARotatedTokenIsFound(t *testing.T) {
	var now atomic.Value
	now.Store("old-" + secret)
	d, l, got := served(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer new-"+secret {
			w.WriteHeader(401)
			return
		}
		_, _ = io.WriteString(w, `{"organization_id":"o-1","plan":"free","id":"o-1"}`)
	}, func(o *Options) {
		read := func() (string, error) {
			if v := now.Load().(string); v != "" {
				return v, nil
			}
			return "", errors.New("there is no " + secret)
		}
		o.Projects.Token, o.Organizations.Token = read, read
	})
	e := call(project(ref))
	d.Stamp(e)
	until(t, "a wrong token", func() bool { return got.String() == "project failed" })
	now.Store("")
	until(t, "none", func() bool { d.Stamp(e); return strings.Count(got.String(), "failed") == 2 })
	now.Store("new-" + secret)
	if s := await(t.Context(), d, e); s.Retention.Plan != "free" {
		t.Error(say(s))
	}
	if strings.Contains(l.String(), secret[4:]) {
		t.Errorf("the log says %s", l)
	}
}

func TestALookupThatLeadsThroughUsIsSaidOnceAndStopped(t *testing.T) {
	var d *Directory
	var asked atomic.Int64
	d, l, got := served(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if d.IsOwn(r.Header.Get(NonceHeader)) {
			w.WriteHeader(http.StatusLoopDetected)
		}
	})
	d.Stamp(call(project(ref)))
	until(t, "the loop", func() bool { return got.String() != "" })
	for range 100 {
		if s := d.Stamp(call(project(ref[1:] + "z"))); !s.Pending {
			t.Error("it is final")
		}
	}
	if asked.Load() != 1 || l.count("leads through this sidecar") != 1 || l.count("level=") != 1 {
		t.Errorf("%d questions, the log says %s", asked.Load(), l)
	}
	for _, other := range []string{"", "x", d.nonce[1:], d.nonce + "x", strings.ToLower(d.nonce)} {
		if d.IsOwn(other) {
			t.Errorf("%q is taken for our own", other)
		}
	}
}

func TestAServiceThatWantsAPauseHasOne(t *testing.T) {
	var asked atomic.Int64
	d, _, got := served(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	d.Stamp(call(project(ref)))
	until(t, "429", func() bool { return got.String() != "" })
	for n := range 20 {
		d.Stamp(call(project(strings.Repeat(string(rune('a'+n)), 20))))
	}
	if asked.Load() != 1 {
		t.Errorf("%d questions", asked.Load())
	}
	if left := time.Until(d.health[KindProject].pausedUntil); left > maxRetryAfter {
		t.Errorf("the pause is %s", left)
	}
}

func TestNamesAreEscapedAndPathsFollowed(t *testing.T) {
	var path atomic.Value
	d, _, _ := served(t, func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.URL.EscapedPath() + "?" + r.URL.RawQuery)
		_, _ = io.WriteString(w, `{"data":{"org.id":"o-7","tier":{"name":"team"}}}`)
	}, func(o *Options) {
		o.Projects = nil
		base, _, _ := strings.Cut(o.Organizations.URL, "/v1/")
		o.Organizations = &Lookup{
			URL: base + "/orgs/{name}/info?v=2", ID: `data.org\.id`, Plan: "data.tier.name",
			Pattern: func(string) bool { return true },
		}
	})
	s := await(t.Context(), d, call(organization("x%2f..%2fadmin/../?a#b")))
	if got := path.Load(); got != "/orgs/x%252f..%252fadmin%2F..%2F%3Fa%23b/info?v=2" {
		t.Errorf("asked %s", got)
	}
	if s.OrganizationID != "o-7" || s.Retention.Plan != "team" {
		t.Error(say(s))
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	good := func(change func(l *Lookup)) *Lookup {
		l := &Lookup{URL: "https://api.example.com/v1/organizations/{slug}", ID: "id", Plan: "plan"}
		change(l)
		return l
	}
	for want, o := range map[string]Options{
		"one parameter":  {Organizations: good(func(l *Lookup) { l.URL = "https://api.example.com/" + hidden })},
		"one parameter,": {Organizations: good(func(l *Lookup) { l.URL += "/{x}" })},
		"https URL":      {Organizations: good(func(l *Lookup) { l.URL = "file:///{slug}" })},
		"user name":      {Organizations: good(func(l *Lookup) { l.URL = "https://u:" + hidden + "@api.example.com/{slug}" })},
		"in the path":    {Organizations: good(func(l *Lookup) { l.URL = "https://api.example.com/x?of={slug}" })},
		"the path.":      {Organizations: good(func(l *Lookup) { l.URL = "https://{slug}.example.com/x" })},
		"is not a path":  {Organizations: good(func(l *Lookup) { l.Plan = "a..b" })},
		"says nothing":   {Organizations: good(func(l *Lookup) { l.ID, l.Plan = "", "" })},
		"plan is an":     {Projects: good(func(*Lookup) {})},
		"2s at most":     {Timeout: 3 * time.Second},
		"below zero":     {TTL: -1},
		"per second":     {Rate: 1e9},
		"plain text":     {Static: map[string]string{"acme": ""}},
	} {
		d, err := New(o)
		if err == nil {
			t.Errorf("%s: no error", want)
			d.Close()
			continue
		}
		if !strings.Contains(err.Error(), strings.TrimRight(want, ".,")) || strings.Contains(err.Error(), hidden) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	l := &Lookup{URL: "https://u:" + hidden + "@api.example.com/x/{slug}?key=" + hidden, Token: token}
	if text := fmt.Sprintf("%v %+v %#v %s", l, l, l, l); strings.Contains(text, hidden) || strings.Contains(text, secret) {
		t.Error(text)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"organization_id":"o-1","organization_slug":"acme"}`, `{"id":17,"plan":"free"}`, `{"id":"a"}`, `[]`, `{"organization_id":{}}`, "<html>"} {
		f.Add([]byte(s))
	}
	projects, organizations := Supabase("https://api.example.com", nil)
	p, err := projects.prepared()
	if err != nil {
		f.Fatal(err)
	}
	o, err := organizations.prepared()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, l := range []*Lookup{p, o} {
			a, err := l.read(body)
			if err != nil && a != (answer{}) {
				t.Errorf("%v beside %v", a, err)
			}
			for _, s := range []string{a.id, a.slug, a.plan} {
				if !isValue(s) {
					t.Errorf("%q is taken", s)
				}
			}
		}
	})
}
