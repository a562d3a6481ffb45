package rig

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

func serve(t *testing.T, h http.HandlerFunc) *Conn {
	t.Helper()
	addr, stop, err := Serve(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c, err := Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAConnectionCarriesAnswersOfEverySort(t *testing.T) {
	big := strings.Repeat("x", 70000)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Echo", r.Method+string(body))
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "after hints")
		case "/chunked":
			_, _ = io.WriteString(w, big)
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "end")
		case "/close":
			w.Header().Set("Connection", "close")
		default:
			_, _ = io.WriteString(w, "short")
		}
	})
	for _, want := range []struct {
		method, path, sent, body string
		status                   int
	}{
		{"GET", "/", "", "short", 200},
		{"HEAD", "/", "", "", 200},
		{"POST", "/none", "abc", "", 204},
		{"GET", "/chunked", "", big + "end", 200},
		{"GET", "/hints", "", "after hints", 200},
		{"PATCH", "/", "", "short", 200},
		{"GET", "/close", "", "", 200},
	} {
		a, err := c.Do(Request(want.method, want.path, "h", want.sent, "X: y"), 5*time.Second)
		if err != nil || a.Status != want.status || string(a.Body) != want.body {
			t.Fatalf("%s %s: got %d with %d bytes, %v", want.method, want.path, a.Status, len(a.Body), err)
		}
		if a.Header("echo") != want.method+want.sent || a.Header("absent") != "" {
			t.Errorf("%s %s: got headers %q", want.method, want.path, a.head)
		}
		if a.Close != (want.path == "/close") {
			t.Errorf("%s %s: close is %t", want.method, want.path, a.Close)
		}
	}
}

// An answer that is cut must never count as one that arrived.
func TestACutAnswerIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"in the head":        "HTTP/1.1 200 OK\r\nContent-Le",
		"in the body":        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"in a chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
		"before last chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"with no length":     "HTTP/1.1 200 OK\r\n\r\nwhole?",
		"with no status":     "hello\r\n\r\n",
		"after early hints":  "HTTP/1.1 103 Early Hints\r\n\r\n",
		"before its start":   "",
		"with absurd length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	} {
		l, err := net.Listen("tcp", ports.Host+":0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(nc))
			_, _ = io.WriteString(nc, text)
			_ = nc.Close()
		}()
		c, err := Dial(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if a, err := c.Do(Request("GET", "/", "h", ""), 5*time.Second); err == nil {
			t.Errorf("%s: passed for an answer of %d", name, a.Status)
		}
		c.Close()
		_ = l.Close()
	}
}

// A client that does not look sends its call into a connection that is closed.
func TestARestingConnectionNoticesThatItIsClosed(t *testing.T) {
	addr, stop, err := Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dies" {
			panic(http.ErrAbortHandler)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if _, err := c.Do(Request("GET", "/", addr, ""), 5*time.Second); err != nil || !c.Began() || !c.Rest(10*time.Millisecond) {
			t.Fatalf("an open connection: %v, began: %t", err, c.Began())
		}
	}
	if _, err := c.Do(Request("GET", "/dies", addr, ""), 5*time.Second); err == nil || c.Began() {
		t.Errorf("an answer that did not begin: %v, began: %t", err, c.Began())
	}
	stop()
	if c.Rest(5 * time.Second) {
		t.Error("a closed connection passes for an open one")
	}
}
