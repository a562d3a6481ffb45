package caddymodule

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A call that waits for the disk has what it needs of the API, and others can have its
// connection.
func TestACallThatWaitsForItsRecordKeepsNoConnectionToTheAPI(t *testing.T) {
	var reached atomic.Int32
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		_, _ = io.WriteString(w, "the answer")
	})
	disk := newSlowDisk(t)
	r.load(strings.Replace(rigCaddyfile, "max_size 1MiB", "max_size 64MiB\n\t\t\tmax_wait 1m", 1),
		"reverse_proxy %API% {\n transport http {\n max_conns_per_host 1\n }\n }")
	disk.mu.Lock()
	heal := sync.OnceFunc(disk.mu.Unlock)
	t.Cleanup(heal)
	answers := make(chan string, 3)
	for i := range int32(3) {
		go func() {
			_, body := r.send("GET", "/v1/projects", nil, "")
			answers <- body
		}()
		await(t, "a call at the API", func() bool { return reached.Load() == i+1 })
	}
	time.Sleep(20 * time.Millisecond) // an answer that leaves too early would have time to
	if n := len(answers); n != 0 {
		t.Errorf("%d answers left before their record", n)
	}
	heal()
	for range 3 {
		if body := <-answers; body != "the answer" {
			t.Errorf("answered %q", body)
		}
	}
}

// noting is a writer that notes in did when an answer is recorded and when it may leave.
func noting(w http.ResponseWriter, r *http.Request, leave bool, did *[]string) *responseWriter {
	rw := newResponseWriter(w, r, nil, func(h http.Header, status int) {
		*did = append(*did, "record "+http.StatusText(status)+" "+h.Get("X-Value"))
	})
	rw.settle = func(h http.Header) bool {
		*did = append(*did, "settle "+h.Get("X-Value"))
		return leave
	}
	return rw
}

// answer has a handler write headers, change them, and go on with rest, before a client.
// did is what happened in which order.
func answer(t *testing.T, leave bool, rest func(w *responseWriter)) (resp *http.Response, body string, did []string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rw := noting(w, r, leave, &did)
		h := rw.Header()
		h.Set("X-Value", "1")
		h.Set("Trailer", "X-Sum")
		rw.WriteHeader(http.StatusCreated)
		h.Set("X-Value", "2")
		h.Set("X-Late", "yes")
		h.Set("X-Sum", "3")
		rw.WriteHeader(http.StatusTeapot)
		did = append(did, "goes on")
		rest(rw)
		_ = rw.end()
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Error(err)
	}
	return resp, string(b), did
}

// What a handler does to the headers after it has written them has no effect, although
// they leave later; but for trailers. Of an answer that must not leave, none of it does.
func TestHeadersLeaveAsTheyWereWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		rest func(w *responseWriter)
		body string
	}{
		{"with the body", func(w *responseWriter) { _, _ = io.WriteString(w, "body") }, "body"},
		{"at a flush", func(w *responseWriter) { _ = w.FlushError() }, ""},
		{"at the end", func(w *responseWriter) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body, did := answer(t, true, c.rest)
			if want := []string{"record Created 1", "goes on", "settle 1"}; !slices.Equal(did, want) {
				t.Errorf("%q", did)
			}
			if body != c.body || resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Value") != "1" || resp.Header.Get("X-Late") != "" || resp.Header.Get("X-Sum") != "" {
				t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
			}
			if resp.Trailer.Get("X-Sum") != "3" {
				t.Errorf("trailers: %v", resp.Trailer)
			}
			resp, body, _ = answer(t, false, c.rest)
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("X-Value") != "" || resp.Trailer.Get("X-Sum") != "" || !strings.Contains(body, "withheld") {
				t.Errorf("withheld: %d %v %q", resp.StatusCode, resp.Header, body)
			}
		})
	}
}

// An answer that is held is recorded once, when its body is known, and leaves with the
// headers that it was written with; also before a connection is taken over.
func TestAHeldAnswerLeavesAsItWasWritten(t *testing.T) {
	const body = `{"id":"x"}`
	for _, c := range []struct {
		name string
		rest func(w *responseWriter) error
		want []string
		body string
	}{
		{"whole", func(w *responseWriter) error {
			_, err := io.WriteString(w, body[4:])
			return err
		}, []string{"goes on", "born " + body, "record Created 1", "settle 1"}, body},
		{"taken over", func(w *responseWriter) error {
			conn, _, err := w.Hijack()
			if err == nil {
				err = conn.Close()
			}
			return err
		}, []string{"goes on", "born " + body[:4], "record Created 1", "settle 1"}, ""}, // the server drops what it had not sent
	} {
		t.Run(c.name, func(t *testing.T) {
			var did []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rw := noting(w, r, true, &did)
				rw.born = func(b []byte) { did = append(did, "born "+string(b)) }
				h := rw.Header()
				h.Set("X-Value", "1")
				h.Set("Content-Type", "application/json")
				h.Set("Content-Length", strconv.Itoa(len(body)))
				rw.WriteHeader(http.StatusCreated)
				h.Set("X-Value", "2")
				h.Set("X-Late", "yes")
				rw.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(rw, body[:4])
				_ = rw.FlushError()
				did = append(did, "goes on")
				if err := c.rest(rw); err != nil {
					t.Error(err)
				}
				_ = rw.end()
			}))
			defer server.Close()
			resp, err := server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if (err == nil) != (c.body == body) {
				t.Error(err)
			}
			if string(got) != c.body || resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Value") != "1" || resp.Header.Get("X-Late") != "" {
				t.Errorf("%d %v %q", resp.StatusCode, resp.Header, got)
			}
			server.Close() // and the handler has returned
			if !slices.Equal(did, c.want) {
				t.Errorf("%q", did)
			}
		})
	}
}
