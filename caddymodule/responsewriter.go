package caddymodule

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// responseWriter records the outcome before the first byte of the answer can
// leave, whichever way it leaves: WriteHeader, Write, ReadFrom, Flush or
// Hijack.
//
// The headers of a call's answer are on their way to the disk while its body is read:
// they leave with the first of it, or of whatever else wants to leave. So a proxy has read
// a short body, and given its connection to the API back, before it has to wait. Nothing of
// a body is held, but for the few answers whose target is born in them; see heldBody.
type responseWriter struct {
	*caddyhttp.ResponseWriterWrapper
	request *http.Request
	// trusted are taken away from everything that leaves.
	trusted answerHeaders
	// record has the answer's headers recorded.
	record func(h http.Header, status int)
	// settle waits until they are durable, before they leave. It reports false if the
	// answer must not leave. Nil: record has done all.
	settle func(h http.Header) bool
	// waiting are headers that have not left.
	waiting *waitingHeader
	// born reads the body of an answer whose target is born in it; nil for all
	// other calls.
	born func(body []byte)
	// held is the body behind waiting until born has read it; nil for all that are not held.
	held *heldBody
	// seen looks at the body as it passes; nil if nobody does.
	seen      *audit.Body
	committed bool
	withheld  bool // the client got our refusal instead
	hijacked  bool
	failed    bool // a write failed: the client has gone
	sent      atomic.Int64
}

// waitingHeader is what WriteHeader was told. What a handler changes in the headers
// afterwards has no effect on them.
type waitingHeader struct {
	status int
	header http.Header
}

func newResponseWriter(w http.ResponseWriter, r *http.Request, trusted answerHeaders, record func(http.Header, int)) *responseWriter {
	return &responseWriter{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, request: r, trusted: trusted, record: record,
	}
}

// errWithheld ends what would go on writing an answer that must not leave.
var errWithheld = errors.New("the answer is withheld, because it could not be recorded")

// begin has the answer recorded. It is called once.
func (w *responseWriter) begin(h http.Header, status int) {
	w.committed = true
	w.record(h, status)
}

// wait keeps the headers as they are until they may leave.
func (w *responseWriter) wait(status int) {
	w.waiting = &waitingHeader{status: status, header: maps.Clone(w.Header())}
}

// commit records the answer once, and waits for it, before its first byte. After
// errWithheld nothing of it may leave.
func (w *responseWriter) commit(status int) error {
	switch {
	case w.withheld:
		return errWithheld
	case w.committed:
		return w.letHeaderGo()
	case w.held != nil: // somebody takes the connection over
		return w.letGo()
	}
	w.begin(w.Header(), status)
	return w.conclude()
}

// conclude waits for the record. It answers by itself if the answer must not leave.
func (w *responseWriter) conclude() error {
	if w.settle != nil && !w.settle(w.Header()) {
		w.withheld = true
		id := w.Header().Get(auditIDHeader)
		clear(w.Header())
		w.Header().Set(auditIDHeader, id)
		_ = withhold(w.ResponseWriter) // never fails
		return errWithheld
	}
	w.trusted.strip(w.Header())
	return nil
}

// letHeaderGo sends the headers that wait, if there are any, as soon as they may leave.
func (w *responseWriter) letHeaderGo() error {
	waiting := w.waiting
	if waiting == nil {
		return nil
	}
	w.waiting = nil
	header := w.Header()
	var later http.Header // trailers may be among it
	if !maps.EqualFunc(header, waiting.header, slices.Equal) {
		later = maps.Clone(header)
		clear(header)
		maps.Copy(header, waiting.header)
	}
	if err := w.conclude(); err != nil {
		return err
	}
	w.ResponseWriter.WriteHeader(waiting.status)
	if later != nil {
		clear(header)
		maps.Copy(header, later)
	}
	return nil
}

// end lets go of whatever is left when the handler has returned or panicked.
func (w *responseWriter) end() error {
	if err := w.letGo(); err != nil {
		return err
	}
	return w.letHeaderGo()
}

// WriteHeader implements http.ResponseWriter. An informational status is not an
// answer, except for 101.
func (w *responseWriter) WriteHeader(status int) {
	switch {
	case w.waiting != nil: // there is one status
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.trusted.strip(w.Header())
	case w.hold(status):
		return
	case w.settle != nil && status >= 200 && !w.committed:
		w.begin(w.Header(), status)
		w.wait(status)
		return
	case w.commit(status) != nil:
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	if w.held != nil || w.hold(http.StatusOK) {
		return w.keep(b)
	}
	if err := w.commit(http.StatusOK); err != nil {
		return 0, err
	}
	n, err := w.ResponseWriter.Write(b)
	if w.seen != nil {
		_, _ = w.seen.Write(b[:n]) // never fails
	}
	w.wrote(int64(n), err)
	return n, err
}

// ReadFrom implements io.ReaderFrom, which lets the kernel copy a file.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.held != nil || w.hold(http.StatusOK) {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	if err := w.commit(http.StatusOK); err != nil {
		return 0, err
	}
	if w.seen != nil {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	n, err := w.ResponseWriterWrapper.ReadFrom(r)
	// An error may be the source's as well; only one that ends the request
	// is the client's.
	if w.request.Context().Err() == nil {
		w.wrote(n, nil)
	} else {
		w.wrote(n, err)
	}
	return n, err
}

// wrote counts what went into the answer's body. The answer to a HEAD has none,
// whatever was written, and a body that HTTP does not allow is refused by the
// server, not by the client.
func (w *responseWriter) wrote(n int64, err error) {
	if w.request.Method == http.MethodHead {
		return
	}
	w.sent.Add(n)
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && !errors.Is(err, http.ErrContentLength) {
		w.failed = true
	}
}

// FlushError lets http.ResponseController flush.
func (w *responseWriter) FlushError() error {
	if w.held != nil {
		return nil // it leaves when it is whole, which is soon
	}
	if err := w.commit(http.StatusOK); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack lets http.ResponseController take the connection over.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.commit(http.StatusSwitchingProtocols); err != nil {
		return nil, nil, err
	}
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = true
	counted := &countingConn{Conn: conn, sent: &w.sent}
	rw.Writer.Reset(counted)
	return counted, rw, nil
}

// countingConn counts what is sent over a connection that was taken over.
type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// CloseWrite lets a tunnel pass on that one side has said its last word, while
// the other still talks.
func (c *countingConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// ReadFrom keeps the connection's own way of copying.
func (c *countingConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.Conn, r)
	c.sent.Add(n)
	return n, err
}

// Interface guards
var (
	_ http.ResponseWriter = (*responseWriter)(nil)
	_ io.ReaderFrom       = (*responseWriter)(nil)
	_ http.Hijacker       = (*responseWriter)(nil)
)
