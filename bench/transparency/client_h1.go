package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// one is a connection that speaks HTTP/1.1 by hand, so that every byte of a
// head is seen as it was sent.
type one struct {
	nc      net.Conn
	br      *bufio.Reader
	chunked bool   // how the request's body is sent
	method  string // of the request whose answer is read
	framing framing
	left    int64
	over    event
}

type framing int

const (
	noAnswer framing = iota
	byLength
	byChunks
	byClose
	nothing
)

func (t target) dialOne(proto string) (*one, error) {
	nc, err := t.dial(proto)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return nil, err
	}
	return &one{nc: nc, br: bufio.NewReader(nc)}, nil
}

func (t target) openOne(proto string, r request) (*one, error) {
	c, err := t.dialOne(proto)
	if err != nil {
		return nil, err
	}
	return c, c.request(r)
}

// request sends a head.
func (c *one) request(r request) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.method, r.path, host)
	for _, f := range r.fields {
		b.WriteString(f + "\r\n")
	}
	c.method, c.framing, c.over, c.chunked = r.method, noAnswer, event{}, false
	switch n := r.announced(); {
	case !r.hasBody():
	case n >= 0:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", n)
	default:
		b.WriteString("Transfer-Encoding: chunked\r\n")
		c.chunked = true
	}
	b.WriteString("\r\n")
	_, err := c.nc.Write(b.Bytes())
	return err
}

func (c *one) send(p []byte) error {
	if c.chunked {
		p = fmt.Appendf(nil, "%x\r\n%s\r\n", len(p), p)
	}
	_, err := c.nc.Write(p)
	return err
}

func (c *one) end(fields ...string) error {
	if !c.chunked {
		return nil
	}
	lines := append([]string{"0"}, fields...)
	_, err := io.WriteString(c.nc, strings.Join(lines, "\r\n")+"\r\n\r\n")
	return err
}

func (c *one) cut() { _ = c.nc.Close() }

// closeWrite ends what we send, and goes on reading.
func (c *one) closeWrite() error {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("closing half of a %T: it has no halves", c.nc)
	}
	return w.CloseWrite()
}

func (c *one) next() event {
	if c.over.ended() {
		return c.over
	}
	e := c.read()
	if e.ended() {
		c.over = e
	}
	return e
}

func (c *one) read() event {
	switch c.framing {
	case noAnswer:
		return c.head()
	case nothing:
		return event{kind: end}
	case byChunks:
		return c.chunk()
	case byClose:
		return c.part(64 << 10)
	case byLength:
		if c.left == 0 {
			return event{kind: end}
		}
		return c.part(c.left)
	}
	return event{kind: broken, why: "unknown framing"}
}

// line reads a line without its end.
func (c *one) line() (string, error) {
	s, err := c.br.ReadString('\n')
	return strings.TrimSuffix(s, "\r\n"), err
}

// lines reads fields up to the empty line.
func lines(br *bufio.Reader) ([]string, error) {
	var fields []string
	for {
		s, err := br.ReadString('\n')
		if err != nil {
			return fields, err
		}
		if s = strings.TrimSuffix(s, "\r\n"); s == "" {
			return fields, nil
		}
		fields = append(fields, s)
	}
}

func (c *one) head() event {
	status, err := c.line()
	if err != nil {
		return event{kind: broken, why: why(err)}
	}
	fields, err := lines(c.br)
	if err != nil {
		return event{kind: broken, why: why(err)}
	}
	e := event{kind: head, fields: append([]string{status}, fields...)}
	if words := strings.Fields(status); len(words) > 1 {
		e.status, _ = strconv.Atoi(words[1])
	}
	length := field(fields, "Content-Length")
	switch {
	case e.status == http.StatusSwitchingProtocols:
		c.framing, c.chunked = byClose, false
	case e.status < 200: // another head will come
	case c.method == http.MethodHead, e.status == http.StatusNoContent, e.status == http.StatusNotModified:
		c.framing = nothing
	case strings.EqualFold(field(fields, "Transfer-Encoding"), "chunked"):
		c.framing = byChunks
	case length != "":
		c.framing = byLength
		if c.left, err = strconv.ParseInt(length, 10, 64); err != nil {
			return event{kind: broken, why: "Content-Length: " + length}
		}
	default:
		c.framing = byClose
	}
	return e
}

func (c *one) part(limit int64) event {
	b := make([]byte, min(limit, 64<<10))
	n, err := c.br.Read(b)
	switch {
	case n > 0:
		c.left -= int64(n)
		return event{kind: data, data: b[:n]}
	case c.framing == byClose && err == io.EOF:
		return event{kind: end, why: "closed"}
	}
	return event{kind: broken, why: why(err)}
}

func (c *one) chunk() event {
	s, err := c.line()
	if err != nil {
		return event{kind: broken, why: why(err)}
	}
	n, err := strconv.ParseInt(s, 16, 32)
	if err != nil {
		return event{kind: broken, why: "chunk size " + s}
	}
	if n == 0 {
		fields, err := lines(c.br)
		if err != nil {
			return event{kind: broken, why: why(err)}
		}
		c.framing = nothing
		if len(fields) == 0 {
			return event{kind: end}
		}
		return event{kind: trailer, fields: fields}
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c.br, b); err != nil {
		return event{kind: broken, why: why(err)}
	}
	return event{kind: data, data: b[:n]}
}
