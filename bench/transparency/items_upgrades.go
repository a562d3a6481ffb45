package main

import (
	"bufio"
	"crypto/sha1" // the handshake of RFC 6455 is made of it
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	wsText  = 1
	wsBytes = 2
	wsClose = 8
	wsPing  = 9
	wsPong  = 10
)

var wsFields = []string{
	"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	"Sec-WebSocket-Protocol: chat, echo", "Sec-WebSocket-Extensions: permessage-deflate", "Origin: https://o.example",
}

// writeFrame sends a frame of RFC 6455; what a client sends is masked.
func writeFrame(w io.Writer, op byte, payload string, masked bool) error {
	b := []byte{0x80 | op}
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	p := []byte(payload)
	if masked {
		key := [4]byte{1, 2, 3, 4}
		b = append(b, key[:]...)
		for i := range p {
			p[i] ^= key[i%4]
		}
	}
	_, err := w.Write(append(b, p...))
	return err
}

func readFrame(r io.Reader) (op byte, payload string, err error) {
	var h [2]byte
	if _, err = io.ReadFull(r, h[:]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1] & 0x7f)
	more := map[uint64]int{126: 2, 127: 8}[n]
	if more > 0 {
		b := make([]byte, 8)
		if _, err = io.ReadFull(r, b[8-more:]); err != nil {
			return 0, "", err
		}
		n = binary.BigEndian.Uint64(b)
	}
	var key [4]byte
	if h[1]&0x80 != 0 {
		if _, err = io.ReadFull(r, key[:]); err != nil {
			return 0, "", err
		}
	}
	if n > 1<<20 {
		return 0, "", fmt.Errorf("reading a frame: %d bytes are more than any item sends", n)
	}
	p := make([]byte, n)
	if _, err = io.ReadFull(r, p); err != nil {
		return 0, "", err
	}
	for i := range p {
		p[i] ^= key[i%4]
	}
	return h[0] & 0xf, string(p), nil
}

// upgrade accepts, and sends first together with the head.
func (x *exchange) upgrade(protocol, first string) {
	x.over = true
	s := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\nX-Mine: kept\r\n"
	if key := field(x.fields, "Sec-WebSocket-Key"); key != "" {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		s += "Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\nSec-WebSocket-Protocol: echo\r\n"
	}
	x.write(s + "\r\n" + first)
}

// echoFrames is a WebSocket service that gives everything back.
func echoFrames(x *exchange) {
	x.upgrade("websocket", "")
	for {
		op, p, err := readFrame(x.br)
		if err != nil {
			x.note("frames ended: %s", why(err))
			return
		}
		x.note("frame %d %s", op, text([]byte(p)))
		if op == wsPing {
			op = wsPong
		}
		if err := writeFrame(x.conn, op, p, false); err != nil || op == wsClose {
			return
		}
	}
}

// chat is a WebSocket client: text, large frames, ping, then a close.
func chat(c *call, s stream) {
	e := s.next()
	c.sum("%d", e.status)
	for _, f := range e.fields {
		c.note("head %s", f)
	}
	rw := &reader{stream: s}
	for _, f := range []struct {
		op byte
		p  string
	}{{wsText, "hello"}, {wsBytes, strings.Repeat("large", 14000)}, {wsPing, "there?"}, {wsText, ""}, {wsClose, "\x03\xe8bye"}} {
		c.must(writeFrame(rw, f.op, f.p, true))
		op, p, err := readFrame(rw)
		c.must(err)
		c.note("frame %d %s", op, text([]byte(p)))
		if p != f.p {
			c.sum("frame changed")
		}
	}
	_, err := rw.Read(make([]byte, 1))
	c.sum("then %s", why(err))
}

func upgrades() []*item {
	echoUpgrade := []string{"Connection: Upgrade", "Upgrade: echo"}
	return []*item{
		{name: "WebSocket", protos: ones, want: "101, then closed", api: echoFrames, run: func(c *call) {
			chat(c, c.send(c.req("GET", wsFields...)))
		}},
		{name: "WebSocket by extended CONNECT", protos: multi, want: "200, then closed", api: echoFrames, run: func(c *call) {
			r := c.req("CONNECT", wsFields[2], wsFields[4])
			r.connect, r.open, r.length = "websocket", true, -1
			chat(c, c.send(r))
		}},
		{name: "WebSocket closed by the API", protos: ones, want: "101, closed by the API", run: func(c *call) {
			s := c.send(c.req("GET", wsFields...))
			c.sum("%d", s.next().status)
			rw := &reader{stream: s}
			op, p, err := readFrame(rw)
			c.must(err)
			c.note("frame %d %q", op, p)
			c.must(writeFrame(rw, wsClose, p, true))
			_, err = rw.Read(make([]byte, 1))
			c.sum("%s by the API", why(err))
		}, api: func(x *exchange) {
			x.upgrade("websocket", "")
			_ = writeFrame(x.conn, wsClose, "\x03\xe9going away", false) // seen by the client, or missed
			op, p, err := readFrame(x.br)
			x.note("frame %d %q %v", op, p, err)
		}},
		{name: "WebSocket whose client vanishes", protos: ones, want: "101, gone", run: func(c *call) {
			s := c.send(c.req("GET", wsFields...))
			c.sum("%d", s.next().status)
			s.cut()
			c.sum("gone")
		}, api: func(x *exchange) {
			x.upgrade("websocket", "")
			x.gone()
		}},
		{name: "WebSocket whose API vanishes", protos: ones, want: "101, then closed", run: func(c *call) {
			s := c.send(c.req("GET", wsFields...))
			c.sum("%d", s.next().status)
			_, err := (&reader{stream: s}).Read(make([]byte, 1))
			c.sum("then %s", why(err))
		}, api: func(x *exchange) { x.upgrade("websocket", "") }},
		{name: "first words with the upgrade", protos: ones, want: "101, ", run: func(c *call) {
			s := c.connect()
			r := c.req("POST", echoUpgrade...)
			c.must(s.request(r))
			c.until(s, "first words")
			c.must(s.send([]byte("answered")))
			c.collect(s)
		}, api: func(x *exchange) {
			x.upgrade("echo", "first words")
			x.read(x.br, 8)
		}},
		{name: "client closes its half", protos: ones, want: "101, ", run: func(c *call) {
			s := c.connect()
			c.must(s.request(c.req("GET", echoUpgrade...)))
			c.until(s, "welcome")
			c.must(s.send([]byte("all I have to say")))
			c.must(s.closeWrite())
			c.collect(s) // the API answers only after our end
		}, api: func(x *exchange) {
			x.upgrade("echo", "welcome")
			b, err := io.ReadAll(x.br)
			x.note("heard %q %v", b, err)
			x.write("heard you to the end")
		}},
		{name: "API closes its half", protos: ones, want: "101", run: func(c *call) {
			s := c.connect()
			c.must(s.request(c.req("GET", echoUpgrade...)))
			c.collect(s) // to the API's end
			// A server that ends both halves gets the time to do so.
			time.Sleep(200 * time.Millisecond)
			if err := s.send([]byte("late words")); err != nil {
				c.note("late words: %s", why(err))
			}
			c.must(s.closeWrite())
			c.hear()
		}, api: func(x *exchange) {
			x.upgrade("echo", "all I have to say")
			if w, ok := x.conn.(interface{ CloseWrite() error }); ok {
				_ = w.CloseWrite()
			}
			b, err := io.ReadAll(x.br)
			x.note("heard %q %v", b, err)
			x.tell()
		}},
		{name: "client of h2 or h3 closes its half", protos: multi, want: "200, ", run: func(c *call) {
			r := c.req("CONNECT", wsFields[2])
			r.connect, r.open, r.length = "websocket", true, -1
			s := c.send(r)
			c.until(s, "welcome")
			c.must(s.send([]byte("all I have to say")))
			c.must(s.end())
			c.collect(s)
		}, api: func(x *exchange) {
			x.upgrade("websocket", "welcome")
			b, err := io.ReadAll(x.br)
			x.note("heard %q %v", b, err)
			x.write("heard you to the end")
		}},
		{name: "much data after an upgrade", protos: ones, want: "101, 8 MiB whole", run: func(c *call) {
			s := c.connect()
			c.must(s.request(c.req("GET", echoUpgrade...)))
			c.sum("%d", s.next().status)
			failed := make(chan error, 1)
			go func() {
				err := pour(s.nc, 8<<20)
				if err == nil {
					err = s.closeWrite()
				}
				failed <- err
			}()
			c.must(drain(s.br, 8<<20))
			c.must(<-failed)
			c.sum("8 MiB whole")
		}, api: func(x *exchange) {
			x.upgrade("echo", "")
			_, err := io.CopyN(x.conn, x.br, 8<<20)
			x.note("echoed %v", err)
		}},
		{name: "upgrade refused", protos: ones, want: "426, 200", run: func(c *call) {
			s := c.connect()
			c.must(s.request(c.req("GET", wsFields...)))
			c.collect(s)
			c.must(s.request(c.req("GET"))) // the connection is still good
			c.collect(s)
		}, api: func(x *exchange) {
			if field(x.fields, "Upgrade") == "" {
				x.answer("200 OK", "without")
				return
			}
			x.answer("426 Upgrade Required", "not like this", "Upgrade: other", "Connection: Upgrade")
		}},
		{name: "extended CONNECT refused", protos: multi, want: "403", run: func(c *call) {
			r := c.req("CONNECT", wsFields[2])
			r.connect, r.open, r.length = "websocket", true, -1
			c.collect(c.send(r))
		}, api: func(x *exchange) { x.answer("403 Forbidden", "not you") }},
		{name: "another upgrade than asked for", protos: ones, run: func(c *call) {
			c.get(c.req("GET", echoUpgrade...))
		}, api: func(x *exchange) {
			x.upgrade("something", "")
			_, _ = bufio.NewReader(x.br).ReadByte() // to the end
		}},
	}
}
