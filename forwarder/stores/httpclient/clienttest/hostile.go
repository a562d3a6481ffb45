package clienttest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// Hostile is a receiver that a real server cannot be: after it has read a request, or
// before, a connection is the test's to misuse. It closes it in the end.
func Hostile(t testing.TB, readBody bool, then func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				if readBody {
					_, _ = io.Copy(io.Discard, req.Body) // a client that goes away is no fault
				}
				then(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return "http://" + l.Addr().String()
}

// Reset ends a connection by a reset.
func Reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0) // the close does what it can
	c.Close()
}

// Says writes an answer, whatever it is.
func Says(answer string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, answer) } // it may have gone
}

// ForEver writes until the other side has gone.
func ForEver(head, more string, pause time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, more)
			time.Sleep(pause)
		}
	}
}

// Fit checks that an error can be logged and shown.
func Fit(t testing.TB, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 2*httpclient.MaxText || !utf8.ValidString(text) ||
		strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		t.Errorf("an error of %d bytes that is not fit for a log: %q", len(text), text)
	}
}
