package httpclient

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzAnswer has a receiver say anything: the error is fit for a log and shows no
// secret, and only a status makes it a refusal.
func FuzzAnswer(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 17\r\nContent-Length: 4\r\n\r\nbusy",
		"HTTP/1.1 422 No\r\n\r\nplanted-token",
		"HTTP/1.1 422 No\r\n\r\nplanted-\x00token planted%2Dtoken cGxhbnRlZC10b2tlbg==",
		"HTTP/1.1 307 R\r\nLocation: http://planted-token@evil/planted-token\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"HTTP/1.1 429 T\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nDate: Wed, 21 Oct 2015 07:27:00 GMT\r\n\r\n",
		"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nplant\r\n8\r\ned-token\r\n0\r\n\r\n",
	} {
		f.Add([]byte(answer))
	}
	const secret = "planted-token"
	s := &Client{Now: func() time.Time { return testTime }}
	var known Secrets
	known.Add(secret)
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			if text := known.Clean(err.Error()); strings.Contains(text, secret) {
				t.Errorf("the text shows the secret: %q", text)
			}
			return
		}
		defer answer.Body.Close()
		if answer.Request == nil {
			answer.Request, _ = http.NewRequest(http.MethodPost, "https://siem.example.com/in", http.NoBody)
		}
		e := s.judge(answer, known)
		fit(t, e)
		if strings.Contains(e.Error(), secret) {
			t.Errorf("the error shows the secret: %q", e)
		}
		if d := e.retryAfter; d < 0 || d > MaxRetryAfter {
			t.Errorf("retry after %s", d)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "0", "17", "-1", "1e9", "18446744073709551616", "Wed, 21 Oct 2015 07:28:00 GMT", "Wednesday, 21-Oct-15 07:28:00 GMT", "Wed Oct 21 07:28:00 2015"} {
		f.Add(value, "Wed, 21 Oct 2015 07:27:00 GMT")
	}
	now := testTime
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if d := RetryAfter(h, now); d < 0 || d > MaxRetryAfter {
			t.Errorf("%q at %q: %s", value, date, d)
		}
	})
}

// FuzzTarget reads any URL: what is shown of it is no user, no password and no query.
func FuzzTarget(f *testing.F) {
	for _, url := range []string{
		"https://siem.example.com/in?x=1", "https://{env.U}:{env.P}@h/p{file./a/b?c#d}?q={env.Q}", "http://[::1]:80/", "https://h:443", "https://@h/", "https://a@b@c/",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		target, err := parseTarget(url)
		if err != nil {
			return
		}
		again, err := parseTarget(target.Location())
		if err != nil || again.Location() != target.Location() {
			t.Errorf("%q is shown as %q, which is read as %q, %v", url, target.Location(), again.Location(), err)
		}
		if again.user != "" || again.password != "" || again.query != "" {
			t.Errorf("%q is shown as %q", url, target.Location())
		}
		resolved, err := target.resolve(func(string) (string, error) { return "x/?#@\n%", nil })
		if err != nil {
			return
		}
		if host := strings.ToLower(resolved.Host); host != target.host {
			t.Errorf("%q goes to %q and says %q", url, host, target.host)
		}
		if resolved.Fragment != "" || strings.ContainsAny(resolved.String(), "\r\n") {
			t.Errorf("%q becomes %q", url, resolved)
		}
	})
}

// FuzzClean has a secret in any surroundings.
func FuzzClean(f *testing.F) {
	f.Add("we do not know ", "planted-token", "\x00!")
	f.Add("", "a", "")
	f.Add("x", "[concealed]", "concealed")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if len(secret) < 4 || strings.Contains(concealed, secret) || strings.Contains(secret, "concealed") {
			return // what the mark itself is made of
		}
		var known Secrets
		known.Add(secret)
		text := known.readText(nil, io.MultiReader(strings.NewReader(before), strings.NewReader(secret), strings.NewReader(after)), nil)
		if strings.Contains(text, secret) {
			t.Errorf("the text shows the secret: %q", text)
		}
		if len(text) > MaxText+len("…") {
			t.Errorf("%d bytes", len(text))
		}
	})
}
