package httpstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

func TestNoAnswerThatIsHostileIsASuccessOrARefusal(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"nothing":                    func(net.Conn) {},
		"a reset":                    clienttest.Reset,
		"a reset in the head":        func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 O"); clienttest.Reset(c) },
		"another protocol":           clienttest.Says("SSH-2.0-OpenSSH_9.2\r\n"),
		"TLS":                        clienttest.Says("\x15\x03\x01\x00\x02\x02\x46"),
		"zeros":                      clienttest.ForEver("", strings.Repeat("\x00", 4096), 0),
		"a head without end":         clienttest.ForEver("HTTP/1.1 200 OK\r\n", "X-More: "+strings.Repeat("x", 1000)+"\r\n", 0),
		"a line without end":         clienttest.ForEver("HTTP/1.1 200 ", strings.Repeat("x", 4096), 0),
		"a status of four digits":    clienttest.Says("HTTP/1.1 2000 OK\r\n\r\n"),
		"a negative status":          clienttest.Says("HTTP/1.1 -20 OK\r\n\r\n"),
		"a status that is no number": clienttest.Says("HTTP/1.1 2x0 OK\r\n\r\n"),
		"two lengths":                clienttest.Says("HTTP/1.1 503 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
		"a negative length":          clienttest.Says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
		"1xx without end":            clienttest.ForEver("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0),
		"101":                        clienttest.Says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
		"503 without end":            clienttest.ForEver("HTTP/1.1 503 No\r\n\r\n", strings.Repeat("no ", 1000), 0),
		"503 cut off":                clienttest.Says("HTTP/1.1 503 No\r\nContent-Length: 1000\r\n\r\nno"),
		"503 with a reset": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nno")
			clienttest.Reset(c)
		},
		"503 with a broken chunk":     clienttest.Says("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nno"),
		"503 that says gzip":          clienttest.Says("HTTP/1.1 503 No\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb"),
		"503 that cannot be printed":  clienttest.Says("HTTP/1.1 503 \x1b[31m\r\nContent-Length: 22\r\n\r\n\x1b]0;t\x07\x00\xff\xfe\u202eno\u2028\u200b\x7f\xc2\x85"),
		"503 with a long name":        clienttest.Says("HTTP/1.1 503 " + strings.Repeat("n", 9000) + "\r\nContent-Length: 0\r\n\r\n"),
		"a redirect to nowhere":       clienttest.Says("HTTP/1.1 307 R\r\nLocation: \x01\r\n\r\n"),
		"a redirect of a long way":    clienttest.Says("HTTP/1.1 308 R\r\nLocation: http://x/" + strings.Repeat("l", 20000) + "\r\n\r\n"),
		"a name in a redirect to see": clienttest.Says("HTTP/1.1 302 R\r\nLocation: http://\u202ex/\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Config{URL: clienttest.Hostile(t, true, then), Timeout: 10 * time.Second})
			err := fails(t, s)
			if clienttest.IsRefused(err) {
				t.Errorf("it is a refusal: %v", err)
			}
			clienttest.Fit(t, err)
		})
	}
}

func TestASuccessIsOneWhateverItsBody(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"nothing":       clienttest.Says("HTTP/1.1 204 No Content\r\n\r\n"),
		"100 before it": clienttest.Says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
		"103 before it": clienttest.Says("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		"cut off":       clienttest.Says("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nok"),
		"a reset": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
			time.Sleep(time.Millisecond)
			clienttest.Reset(c)
		},
		"without end":      clienttest.ForEver("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("ok ", 1000), 0),
		"drop by drop":     clienttest.ForEver("HTTP/1.1 202 Accepted\r\n\r\n", "o", 20*time.Millisecond),
		"of an older time": clienttest.Says("HTTP/1.0 200 OK\r\n\r\nok"),
		"partial failure":  clienttest.Says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"errors\":true}"),
		"long, as said":    clienttest.Says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than was said"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The timeout is one that a wait for the end of the body would meet.
			s := open(t, Config{URL: clienttest.Hostile(t, true, then), Timeout: httpclient.MaxTimeout})
			for n := range 2 {
				write(t, s, records(t, n, n+2))
			}
		})
	}
}

func TestAFailureThatTricklesItsReasonIsHeldUpByItNoLongerThanThat(t *testing.T) {
	then := clienttest.ForEver("HTTP/1.1 422 No\r\n\r\n", "not so ", 10*time.Millisecond)
	err := fails(t, open(t, Config{URL: clienttest.Hostile(t, true, then), Timeout: httpclient.MaxTimeout}))
	if !clienttest.IsRefused(err) {
		t.Errorf("the status was clear: %v", err)
	}
	clienttest.Mentions(t, err, "not so not so")
}

// A receiver that answers before it has read cannot have stored what it was sent.
func TestASuccessBeforeTheBodyIsNone(t *testing.T) {
	var asked atomic.Int32
	heard := make(chan struct{})
	url := clienttest.Hostile(t, false, func(c net.Conn) {
		asked.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		select { // the answer must not be lost in the reset
		case <-heard:
		case <-time.After(time.Minute):
		}
	})
	s := open(t, Config{URL: url, Compress: httpclient.CompressNone})
	// More than what lies in the buffers of two sockets.
	err := s.Write(t.Context(), []forwarder.Record{record(t, 1, 16<<20)})
	close(heard)
	clienttest.Mentions(t, err, "before it had the whole body")
	if clienttest.IsRefused(err) {
		t.Error("it is no refusal")
	}
}

func TestAResetInTheBodyIsTriedAgain(t *testing.T) {
	url := clienttest.Hostile(t, false, func(c net.Conn) {
		io.CopyN(io.Discard, c, 1000)
		clienttest.Reset(c)
	})
	s := open(t, Config{URL: url, Compress: httpclient.CompressNone})
	err := s.Write(t.Context(), []forwarder.Record{record(t, 1, 16<<20)})
	if err == nil || clienttest.IsRefused(err) {
		t.Errorf("got %v", err)
	}
}

// A refusal that comes early, as 413 does, is heard though the body was not sent.
func TestARefusalBeforeTheBodyIsHeard(t *testing.T) {
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Body = http.MaxBytesReader(w, req.Body, 1000)
		if _, err := io.ReadAll(req.Body); err != nil {
			http.Error(w, "no more than 1000 bytes", http.StatusRequestEntityTooLarge)
		}
	}))
	err := open(t, Config{URL: url, Compress: httpclient.CompressNone}).Write(t.Context(), records(t, 1, 100))
	clienttest.Mentions(t, err, "413", "no more than 1000 bytes", "max_body")
	if !clienttest.IsRefused(err) {
		t.Errorf("it is a refusal: %v", err)
	}
}

// A connection that was kept and is closed when it is used again is the everyday
// fault; nobody is told of it.
func TestAConnectionThatWasClosedMeanwhileIsNoFailure(t *testing.T) {
	r := new(receiver)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if len(r.requests()) == 1 {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			r.mu.Lock()
			r.all = append(r.all, received{Request: req})
			r.mu.Unlock()
			c.Close()
			return
		}
		r.ServeHTTP(w, req)
	}))
	s := open(t, Config{URL: url})
	for n := range 3 {
		write(t, s, records(t, n, n+1))
	}
	if n := len(r.requests()); n != 4 {
		t.Errorf("%d requests for three batches and a closed connection", n)
	}
}

func TestNoErrorOfTheNetworkIsKept(t *testing.T) {
	err := fails(t, open(t, Config{URL: clienttest.Hostile(t, true, clienttest.Reset)}))
	var network *net.OpError
	if errors.As(err, &network) || errors.Unwrap(err) != nil {
		t.Errorf("an error that may show what it likes: %v", err)
	}
	if _, ok := err.(fmt.Formatter); ok {
		t.Error("it has another form")
	}
}
