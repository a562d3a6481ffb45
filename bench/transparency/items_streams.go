package main

import (
	"fmt"
	"strings"
)

// events sends parts, each only after the client has the one before it.
func events(start string, frame func(string) string, tail string) func(*exchange) {
	return func(x *exchange) {
		x.body()
		x.write(start)
		for i := range 5 {
			x.write(frame(fmt.Sprintf("data: event %d\n\n", i)))
			if !x.await() {
				x.over = true
				return
			}
		}
		if tail == "" {
			x.over = true
			return
		}
		x.write(tail)
	}
}

// oneByOne takes the parts as they come. Were they held back, the client would
// wait for one that the API sends only after it has let it go on.
func oneByOne(method string, fields ...string) func(*call) {
	return func(c *call) {
		s := c.send(c.req(method, fields...))
		for i := range 5 {
			c.until(s, fmt.Sprintf("data: event %d\n\n", i))
			c.goOn()
		}
		c.collect(s)
	}
}

func streams() []*item {
	const (
		sse     = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		plain   = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
		chunked = "Transfer-Encoding: chunked\r\n\r\n"
	)
	as := func(s string) string { return s }
	return []*item{
		{name: "server-sent events, one by one", protos: always, want: "200, ", run: oneByOne("GET"), api: events(sse+chunked, chunk, "0\r\n\r\n")},
		{name: "events of a POST", protos: always, want: "200, ", run: oneByOne("POST"), api: events(sse+chunked, chunk, "0\r\n\r\n")},
		{name: "events until the API hangs up", protos: always, want: "200, ", run: oneByOne("GET"), api: events(sse+"\r\n", as, "")},
		{name: "parts of any type, one by one", protos: always, want: "200, ", run: oneByOne("POST"), api: events(plain+chunked, chunk, "0\r\n\r\n")},
		{
			name: "parts of known length, flushed", prefix: "flush", protos: always, want: "200, ", run: oneByOne("POST"),
			api: events(plain+"Content-Length: 75\r\n\r\n", as, "!!!!!"),
		},
		{
			name: "events through gzip", prefix: "gzip", protos: always, want: "200, ", run: oneByOne("GET", "Accept-Encoding: identity"),
			api: events(sse+chunked, chunk, "0\r\n\r\n"),
		},
		{
			name: "head before any body", protos: always, want: "200, ",
			run: func(c *call) {
				s := c.send(c.req("POST"))
				e := s.next()
				c.sum("%d", e.status)
				c.goOn()
				c.collect(s)
			},
			api: func(x *exchange) {
				x.write(sse + chunked)
				if x.await() {
					x.write(chunk("late") + "0\r\n\r\n")
				}
			},
		},
		{
			name: "both ways at once", protos: multi, want: "200, ",
			run: func(c *call) { talk(c, "back: line ") },
			api: func(x *exchange) {
				b, trailer := x.content()
				x.write(plain + chunked)
				for i := range 4 {
					x.read(b, 6)
					x.write(chunk(fmt.Sprintf("back: line %d", i)))
				}
				x.read(b, 0)
				rest := make([]byte, 1)
				n, err := b.Read(rest)
				x.note("then %d %v", n, err)
				trailer()
				x.write("0\r\n\r\n")
			},
		},
		{name: "both ways at once, h2c behind", prefix: "h2c", protos: multi, want: "200, trailer", run: func(c *call) {
			r := c.req("POST", "Te: trailers", "Content-Type: application/grpc", "Trailer: Client-Trailer")
			r.open, r.length = true, -1
			s := c.send(r)
			for i := range 4 {
				c.must(s.send(fmt.Appendf(nil, "line %d\n", i)))
				c.until(s, fmt.Sprintf("echo line %d\n", i))
			}
			c.must(s.end("Client-Trailer: given"))
			c.collect(s)
		}},
		{name: "many streams at once", protos: twos, want: "200, 8 answered meanwhile, ", run: manyStreams, api: func(x *exchange) {
			if field(x.fields, "X-Slow") == "" {
				x.answer("200 OK", "at once")
				return
			}
			x.write(sse + chunked + chunk("first"))
			if x.await() {
				x.write(chunk("last") + "0\r\n\r\n")
			}
		}},
		{name: "settings of the connection", protos: twos, run: func(c *call) {
			conn, err := c.dialTwo(c.proto)
			c.must(err)
			conn.mu.Lock()
			c.sum("%s", strings.Join(conn.settings, " "))
			conn.mu.Unlock()
			c.must(conn.nc.Close())
		}},
	}
}

// talk sends lines, and each only after the answer to the one before it.
func talk(c *call, prefix string) {
	r := c.req("POST")
	r.open, r.length = true, -1
	s := c.send(r)
	for i := range 4 {
		c.must(s.send(fmt.Appendf(nil, "line %d", i)))
		c.until(s, fmt.Sprintf("%s%d", prefix, i))
	}
	c.must(s.end())
	c.collect(s)
}

// manyStreams sees that an open stream holds up no other of its connection.
func manyStreams(c *call) {
	conn, err := c.dialTwo(c.proto)
	c.must(err)
	scheme := "http"
	if c.proto == h2 {
		scheme = "https"
	}
	slow, err := conn.open(scheme, c.req("POST", "X-Slow: 1"))
	c.must(err)
	c.opens = append(c.opens, slow)
	c.until(slow, "first")
	answered := 0
	for range 8 {
		s, err := conn.open(scheme, c.req("POST"))
		c.must(err)
		e := s.next()
		for ; !e.ended(); e = s.next() {
			if e.status == 200 {
				answered++
			}
		}
	}
	c.sum("%d answered meanwhile", answered)
	c.goOn()
	c.collect(slow)
}
