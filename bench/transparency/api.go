package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// callField says which item a call belongs to. It is the same for both
// servers.
const callField = "X-Call"

// api is the API behind one server. It speaks HTTP/1.1 by hand, so that it
// sees every byte that is forwarded and can answer what no library would.
type api struct {
	addr string
	ln   net.Listener
	mu   sync.Mutex
	runs map[string]*run
}

// run is what the API is to do and has seen in one run of an item.
type run struct {
	answer func(*exchange)
	// go on: from the client's side of the item to the API's, and back.
	toAPI, toClient chan struct{}

	mu        sync.Mutex
	exchanges []*exchange
	pending   sync.WaitGroup
}

func newRun(answer func(*exchange)) *run {
	return &run{answer: answer, toAPI: make(chan struct{}, 64), toClient: make(chan struct{}, 64)}
}

func newAPI() (*api, error) {
	free, err := ports.Free(1)
	if err != nil {
		return nil, err
	}
	a := &api{addr: ports.Address(free[0]), runs: map[string]*run{}}
	if a.ln, err = ports.ListenAgain(a.addr); err != nil {
		return nil, fmt.Errorf("starting the stub API: %w", err)
	}
	go func() {
		for {
			nc, err := a.ln.Accept()
			if err != nil {
				return // closed
			}
			go a.serve(nc)
		}
	}()
	return a, nil
}

func (a *api) expect(id string, r *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs[id] = r
}

func (a *api) serve(nc net.Conn) {
	defer nc.Close()
	br := bufio.NewReaderSize(nc, 64<<10)
	for {
		fields, err := lines(br)
		if err != nil || len(fields) == 0 {
			return
		}
		if len(fields) == 1 && fields[0] == "0" {
			// The end of an empty body of the call before, which nobody has read: a
			// proxy that does not see at once that a body is empty sends it in chunks.
			continue
		}
		x := &exchange{conn: nc, br: br, fields: fields}
		a.mu.Lock()
		x.run = a.runs[field(fields, callField)]
		a.mu.Unlock()
		if x.run == nil {
			x.write("HTTP/1.1 500 Nobody Expects This\r\nContent-Length: 0\r\n\r\n")
			return
		}
		x.serve()
		if x.over {
			return
		}
	}
}

// exchange is one call as the API sees it.
type exchange struct {
	conn   net.Conn
	br     *bufio.Reader
	run    *run
	fields []string // the request line and the fields, as they came
	over   bool     // the connection is of no further use

	mu    sync.Mutex
	notes []string
}

func (x *exchange) serve() {
	x.run.mu.Lock()
	x.run.exchanges = append(x.run.exchanges, x)
	x.run.pending.Add(1)
	x.run.mu.Unlock()
	defer x.run.pending.Done()
	_ = x.conn.SetDeadline(time.Now().Add(4 * patience))
	for _, f := range x.fields {
		x.note("got %s", f)
	}
	x.run.answer(x)
	_ = x.conn.SetDeadline(time.Time{})
}

// note adds a line to what is compared.
func (x *exchange) note(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}

func (x *exchange) noted() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]string(nil), x.notes...)
}

func (x *exchange) write(s string) {
	if _, err := io.WriteString(x.conn, s); err != nil {
		x.over = true
		x.note("could not write: %s", why(err))
	}
}

// await waits until the client's side lets the API go on.
func (x *exchange) await() bool {
	select {
	case <-x.run.toAPI:
		return true
	case <-time.After(patience):
		x.note("! the client did not let the API go on")
		return false
	}
}

// tell lets the client's side go on.
func (x *exchange) tell() { x.run.toClient <- struct{}{} }

// content gives the body as it is framed.
func (x *exchange) content() (io.Reader, func() []string) {
	none := func() []string { return nil }
	if strings.EqualFold(field(x.fields, "Transfer-Encoding"), "chunked") {
		return httputil.NewChunkedReader(x.br), func() []string {
			t, err := lines(x.br)
			if err != nil {
				x.over = true
			}
			return t
		}
	}
	n, err := strconv.ParseInt(field(x.fields, "Content-Length"), 10, 64)
	if err != nil {
		return bytes.NewReader(nil), none
	}
	return &whole{io.LimitedReader{R: x.br, N: n}}, none
}

// whole makes a body that ends early an error.
type whole struct{ io.LimitedReader }

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.LimitedReader.Read(p)
	if errors.Is(err, io.EOF) && w.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// body reads the body to its end and notes it.
func (x *exchange) body() []byte {
	r, trailer := x.content()
	b, err := io.ReadAll(r)
	x.note("body %s", text(b))
	if err != nil {
		x.over = true
		x.note("body broken: %s", why(err))
		return b
	}
	for _, f := range trailer() {
		x.note("trailer %s", f)
	}
	return b
}

// read notes the next n bytes of the body.
func (x *exchange) read(r io.Reader, n int) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		x.over = true
		x.note("! body ended early: %v", err)
		return
	}
	x.note("part %q", b)
}

// gone waits until the server hangs up on the API.
func (x *exchange) gone() {
	x.over = true
	_ = x.conn.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, x.br)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		x.note("! nobody told the API that the client went")
		return
	}
	x.note("the server hung up")
}

// answer sends a whole answer of known length.
func (x *exchange) answer(status, body string, fields ...string) {
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + status + "\r\n")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	x.write(b.String())
}

// chunk is a body's part in its frame.
func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
