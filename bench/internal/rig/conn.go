package rig

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"time"
)

// Conn is one keep-alive connection of a plain HTTP/1.1 client.
//
// The client of net/http sends a GET again by itself when a kept connection
// breaks; the same id would then arrive twice and look like a duplicate of
// the product's making. This one sends what it is given, once. It also costs
// little, which the load generator needs.
type Conn struct {
	nc   net.Conn
	br   *bufio.Reader
	head []byte
	body []byte
	// arrived says that a byte came since the last call was sent.
	arrived bool
}

// Answer is a complete answer. It is valid until the next call of Do.
type Answer struct {
	Status int
	Body   []byte
	head   []byte
	// Close says that the server closes the connection.
	Close bool
}

// errTooLarge bounds what is read into memory.
var errTooLarge = errors.New("an answer of more than 1 MiB")

const maxAnswer = 1 << 20

// Dial opens a connection.
func Dial(addr string) (*Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	c := &Conn{nc: nc}
	c.br = bufio.NewReaderSize(arrivals{c}, 16<<10)
	return c, nil
}

// arrivals reads from a connection and notes whether something came.
type arrivals struct{ c *Conn }

func (a arrivals) Read(b []byte) (int, error) {
	n, err := a.c.nc.Read(b)
	a.c.arrived = a.c.arrived || n > 0
	return n, err
}

// Began says whether any byte of an answer to the last call arrived.
func (c *Conn) Began() bool { return c.arrived }

// Rest leaves the connection idle for a while and reports whether it can carry
// another call. A server may close an idle connection at any time, so that a
// client that does not look sends its next call to nobody.
func (c *Conn) Rest(d time.Duration) bool {
	if err := c.nc.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false
	}
	_, err := c.br.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// Close closes the connection.
func (c *Conn) Close() { _ = c.nc.Close() }

// Request is a request ready to be sent. A header is given as "Name: value".
func Request(method, target, host, body string, header ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	} else if method == "POST" || method == "PUT" || method == "PATCH" {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// Do sends a request and reads the whole answer. After an error the
// connection is of no more use.
func (c *Conn) Do(request []byte, timeout time.Duration) (Answer, error) {
	if err := c.nc.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Answer{}, err
	}
	c.arrived = false
	if _, err := c.nc.Write(request); err != nil {
		return Answer{}, err
	}
	for {
		a, err := c.readHead()
		if err != nil {
			return Answer{}, err
		}
		if a.Status < 200 && a.Status != 101 {
			continue // an interim answer is none
		}
		err = c.readBody(&a, bytes.HasPrefix(request, []byte("HEAD ")))
		return a, err
	}
}

func (c *Conn) readHead() (Answer, error) {
	c.head = c.head[:0]
	for {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return Answer{}, err
		}
		if c.head = append(c.head, line...); len(c.head) > maxAnswer {
			return Answer{}, errTooLarge
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
	}
	a := Answer{head: c.head}
	if len(c.head) < 12 || !bytes.HasPrefix(c.head, []byte("HTTP/1.")) {
		return a, fmt.Errorf("reading an answer: %.40q is no status line", c.head)
	}
	status, err := strconv.Atoi(string(c.head[9:12]))
	if err != nil {
		return a, fmt.Errorf("reading an answer: %.40q is no status line", c.head)
	}
	a.Status = status
	a.Close = strings.EqualFold(a.Header("Connection"), "close")
	return a, nil
}

func (c *Conn) readBody(a *Answer, head bool) error {
	if head || a.Status == 204 || a.Status == 304 || a.Status == 101 {
		return nil
	}
	var err error
	switch n := a.Header("Content-Length"); {
	case strings.EqualFold(a.Header("Transfer-Encoding"), "chunked"):
		c.body, err = readAll(c.body[:0], httputil.NewChunkedReader(c.br))
		if err == nil {
			_, err = c.br.ReadSlice('\n') // the empty line after the last chunk
		}
	case n != "":
		length, perr := strconv.Atoi(n)
		if perr != nil || length < 0 || length > maxAnswer {
			return fmt.Errorf("reading an answer: Content-Length %.40q", n)
		}
		if cap(c.body) < length {
			c.body = make([]byte, length)
		}
		c.body = c.body[:length]
		_, err = io.ReadFull(c.br, c.body)
	default:
		// The body ends with the connection, so that its end proves nothing.
		return errors.New("reading an answer: it has no length")
	}
	a.Body = c.body
	return err
}

func readAll(b []byte, r io.Reader) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	n, err := buf.ReadFrom(io.LimitReader(r, maxAnswer))
	if err == nil && n == maxAnswer {
		err = errTooLarge
	}
	return buf.Bytes(), err
}

// Header is the first value of a header, or nothing.
func (a Answer) Header(name string) string {
	for rest := a.head; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return ""
		}
		line := rest[:i]
		rest = rest[i+1:]
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			return string(bytes.TrimSpace(line[len(name)+1:]))
		}
	}
}
