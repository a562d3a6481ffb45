package httpstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

func TestAStatusSaysWhetherABatchIsTakenTriedAgainOrRefused(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	for _, c := range []struct {
		statuses []int
		want     string
	}{
		{[]int{200, 201, 202, 204, 206, 299}, "taken"},
		{[]int{400, 413, 422}, "refused"},
		{[]int{
			300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 414, 415, 417, 418,
			421, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 507, 511, 599, 999,
		}, "tried again"},
	} {
		for _, code := range c.statuses {
			r.answer(status(code))
			got := "taken"
			if err := s.Write(t.Context(), records(t, 1, 2)); clienttest.IsRefused(err) {
				got = "refused"
			} else if err != nil {
				got = "tried again"
				clienttest.Mentions(t, err, fmt.Sprint(code), "entries 1 to 2", url)
			}
			if got != c.want {
				t.Errorf("status %d: %s, want %s", code, got, c.want)
			}
		}
	}
}

func TestTheConfigurationSaysWhatAStatusMeans(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url, Success: Statuses{{202, 202}, {409, 409}}, Refused: Statuses{{403, 403}}})
	for code, want := range map[int]string{200: "tried again", 202: "taken", 409: "taken", 403: "refused", 400: "tried again"} {
		r.answer(status(code))
		got := "taken"
		if err := s.Write(t.Context(), records(t, 1, 2)); clienttest.IsRefused(err) {
			got = "refused"
		} else if err != nil {
			got = "tried again"
		}
		if got != want {
			t.Errorf("status %d: %s, want %s", code, got, want)
		}
	}
}

func TestAStatusThatAPersonCanCureSaysHow(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	for code, cure := range map[int]string{
		401: "credential", 403: "credential", 404: "path", 405: "method", 413: "max_body", 415: "compress none", 409: "success",
	} {
		r.answer(status(code))
		clienttest.Mentions(t, fails(t, s), cure)
	}
}

func TestABatchWhosePartFailsFailsAndIsSentAgainWhole(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url, MaxBody: httpclient.MinBody})
	batch := records(t, 1, 400)
	var n atomic.Int32
	r.answer(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 2 {
			w.WriteHeader(503)
		}
	})
	if err := s.Write(t.Context(), batch); err == nil {
		t.Fatal("half of a batch is no batch")
	}
	write(t, s, batch)
	seen := map[string]bool{}
	for _, request := range r.requests() {
		for _, doc := range array(t, request.plain(t)) {
			seen[doc] = true
		}
	}
	if len(seen) != len(batch) {
		t.Errorf("%d of %d entries arrived", len(seen), len(batch))
	}
	// The part that was repeated is known by its id.
	all := r.requests()
	if all[0].Header.Get(headerID) != all[2].Header.Get(headerID) {
		t.Error("a repeated request has another id")
	}
}

func TestAReceiverSaysWhenToComeAgain(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	s.client.Now = func() time.Time { return at.Add(time.Hour) } // a clock that is wrong
	for _, c := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"17", 17 * time.Second},
		{" 120 ", 2 * time.Minute},
		{"99999999999999999999999999", httpclient.MaxRetryAfter},
		{"-5", 0},
		{"1.5", 0},
		{"soon", 0},
		{at.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{at.Add(90 * time.Second).Format(time.RFC850), 90 * time.Second},
		{at.Add(90 * time.Second).Format(time.ANSIC), 90 * time.Second},
		{at.Add(-time.Minute).Format(http.TimeFormat), 0},
		{at.AddDate(500, 0, 0).Format(http.TimeFormat), httpclient.MaxRetryAfter},
	} {
		for _, code := range []int{429, 503} {
			r.answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", at.Format(http.TimeFormat))
				w.Header().Set("Retry-After", c.value)
				w.WriteHeader(code)
			})
			if got := clienttest.Asked(fails(t, s)); got != c.want {
				t.Errorf("%d with %q: %s, want %s", code, c.value, got, c.want)
			}
		}
	}
}

func TestARedirectIsSaidAndNotFollowed(t *testing.T) {
	var followed atomic.Int32
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	for _, to := range []string{
		elsewhere + "/other", "/", url, // the last two are a loop
		"http://169.254.169.254/latest/meta-data/iam", "//169.254.169.254/", "https://user:pass@" + strings.TrimPrefix(elsewhere, "http://") + "/?key=planted",
		"gopher://[::1", "",
	} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			before := len(r.requests())
			r.answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Location"] = []string{to}
				w.WriteHeader(code)
			})
			err := fails(t, s)
			clienttest.Mentions(t, err, fmt.Sprint(code), "not followed", "name the address")
			if strings.Contains(err.Error(), "planted") || strings.Contains(err.Error(), "pass") {
				t.Errorf("the error shows what may be a credential: %v", err)
			}
			if n := len(r.requests()) - before; n != 1 {
				t.Errorf("%d requests for one", n)
			}
			if clienttest.IsRefused(err) {
				t.Error("a redirect is no refusal")
			}
		}
	}
	if followed.Load() != 0 {
		t.Errorf("%d were followed", followed.Load())
	}
}

func TestNoCookieIsKept(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	r.answer(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "tracked"})
	})
	write(t, s, records(t, 1, 1))
	write(t, s, records(t, 2, 2))
	if got := r.last(t).Header.Get("Cookie"); got != "" {
		t.Errorf("cookie %q", got)
	}
}

func TestHeadersMethodAndUserAreSentAsConfigured(t *testing.T) {
	r, url := newReceiver(t)
	p := placeholders{"{env.T}": "token-1\r\n", "{env.U}": "who", "{env.P}": "p@ss/word", "{file.a/b}": "a/b c", "{env.K}": "k&k=1"}
	c := Config{
		Method: "PUT", Resolve: p.resolve,
		URL: strings.Replace(url, "http://", "http://{env.U}:{env.P}@", 1) + "/in/{file.a/b}?key={env.K}&x=%31",
		Headers: []httpclient.Header{
			{Name: "X-Index", Value: "main"},
			{Name: "X-Tag", Value: "one"},
			{Name: "x-tag", Value: "two"},
			{Name: "User-Agent", Value: "ours"},
			{Name: "X-Api-Key", Value: "{env.T}"},
		},
	}
	s := open(t, c)
	write(t, s, records(t, 1, 1))
	got := r.last(t)
	user, password, _ := got.BasicAuth()
	want := []string{"PUT", "/in/a/b c", "key=k%26k%3D1&x=%31", "main", "one two", "ours", "token-1", "who", "p@ss/word"}
	have := []string{
		got.Method, got.URL.Path, got.URL.RawQuery, got.Header.Get("X-Index"), strings.Join(got.Header["X-Tag"], " "),
		got.Header.Get("User-Agent"), got.Header.Get("X-Api-Key"), user, password,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if want := url + "/in/{file.a/b}"; s.Describe().Location != want {
		t.Errorf("location %q, want %q", s.Describe().Location, want)
	}

	p["{env.T}"] = "token-2" // renewed, with no reload
	c.Headers = append(c.Headers, httpclient.Header{Name: "Authorization", Value: "Bearer {env.T}"})
	write(t, open(t, c), records(t, 1, 1))
	if got := r.last(t).Header["Authorization"]; !cmp.Equal(got, []string{"Bearer token-2"}) {
		t.Errorf("authorization %q", got)
	}
	write(t, s, records(t, 1, 1))
	if got := r.last(t).Header.Get("X-Api-Key"); got != "token-2" {
		t.Errorf("key %q", got)
	}
}

func TestAConnectionIsUsedAgain(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	for n := range 5 {
		r.answer(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("ok ", 100*n)) })
		write(t, s, records(t, 1, 10))
	}
	r.answer(status(503))
	fails(t, s)
	r.answer(nil)
	write(t, s, records(t, 1, 10))
	from := map[string]bool{}
	for _, request := range r.requests() {
		from[request.RemoteAddr] = true
	}
	if len(from) != 1 {
		t.Errorf("%d connections", len(from))
	}
}

func TestCloseEndsAWrite(t *testing.T) {
	arrived, done := make(chan struct{}), make(chan struct{})
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		close(arrived)
		select {
		case <-req.Context().Done():
		case <-done:
		}
	}))
	defer close(done)
	s := open(t, Config{URL: url})
	failed := make(chan error)
	go func() { failed <- s.Write(context.Background(), records(t, 1, 1)) }()
	<-arrived
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	clienttest.Mentions(t, <-failed, "closed")
	clienttest.Mentions(t, s.Write(t.Context(), records(t, 1, 1)), "closed")
}

func TestAHungReceiverEndsAtItsTimeoutAndAtTheContext(t *testing.T) {
	done := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		select {
		case <-req.Context().Done():
		case <-done:
		}
	}))
	defer close(done)
	err := fails(t, open(t, Config{URL: url, Timeout: 50 * time.Millisecond}))
	clienttest.Mentions(t, err, "did not answer within 50ms", "timeout")
	if clienttest.IsRefused(err) {
		t.Error("a timeout is no refusal")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = open(t, Config{URL: url}).Write(ctx, records(t, 1, 1))
	if !errors.Is(err, context.DeadlineExceeded) || clienttest.IsRefused(err) {
		t.Errorf("got %v", err)
	}
	clienttest.Mentions(t, err, "broken off")
}

func TestAReceiverThatIsNotThereIsTriedAgain(t *testing.T) {
	url := serve(t, http.NotFoundHandler())
	s := open(t, Config{URL: strings.Replace(url, "127.0.0.1", "127.0.0.2", 1)})
	err := fails(t, s)
	clienttest.Mentions(t, err, "connect", "check the host")
	if clienttest.IsRefused(err) {
		t.Error("it is no refusal")
	}
}

// The forwarder's own loop, with a receiver that does everything wrong at first.
func TestTheForwarderDeliversThroughEveryFault(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	var n atomic.Int32
	r.answer(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1:
			w.WriteHeader(503)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			w.WriteHeader(401)
		}
	})
	src, err := clienttest.NewSource(testInstance, records(t, 1, 5))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- forwarder.New("siem", src, s, forwarder.Options{}).Run(ctx) }()
	<-src.Done()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(r.requests()) < 4 {
		t.Errorf("%d requests", len(r.requests()))
	}
}
