package main

import "strings"

// failures are calls that one side does not bring to an end.
func failures() []*item {
	const chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
	// half sends a part that the client is seen to have, and then ends.
	half := func(text string) func(*exchange) {
		return func(x *exchange) {
			x.body()
			x.write(text)
			x.await()
			x.over = true
		}
	}
	take := func(method string) func(*call) {
		return func(c *call) {
			s := c.send(c.req(method))
			c.until(s, "half an ")
			c.goOn()
			c.collect(s)
		}
	}
	cutShort := func(text string) func(*exchange) {
		return func(x *exchange) {
			x.body()
			x.write(text)
			x.over = true
		}
	}
	// Over HTTP/3 a reset may overtake what was sent before it.
	reliable := []string{h1, h1s, h2, h2c}
	return []*item{
		{name: "API dies in a chunked answer", protos: always, want: "200, broken", run: take("GET"), api: half(chunked + chunk("half an "))},
		{name: "API dies in a chunked answer to a POST", protos: always, want: "200, broken", run: take("POST"), api: half(chunked + chunk("half an "))},
		{
			name: "API dies in an answer of known length", prefix: "flush", protos: always, want: "200, broken", run: take("POST"),
			api: half("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf an "),
		},
		{
			name: "API dies in an answer that was not flushed", protos: reliable,
			api: cutShort("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf an "),
		},
		{name: "API dies before its trailer", protos: reliable, api: cutShort(
			"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n" + chunk("half an ") + "0\r\nChecks")},
		{
			name: "API dies after early hints", protos: always, want: "103 502",
			api: cutShort("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"),
		},
		{name: "API dies before its answer", protos: always, want: "502", run: func(c *call) { c.get(c.req("POST")) }, api: cutShort("")},
		{
			name: "API answers nonsense", protos: always, want: "502", run: func(c *call) { c.get(c.req("POST")) },
			api: cutShort("I speak no HTTP\r\n\r\n"),
		},
		{
			name: "client goes before the answer", protos: always, want: "gone",
			run: func(c *call) {
				s := c.send(c.req("POST"))
				c.hear()
				s.cut()
				c.sum("gone")
			},
			api: func(x *exchange) {
				x.tell()
				x.gone()
			},
		},
		{
			name: "client goes in the answer", protos: always, want: "200, gone",
			run: func(c *call) {
				s := c.send(c.req("GET"))
				c.until(s, "half an ")
				s.cut()
				c.sum("gone")
			},
			api: func(x *exchange) {
				x.write(chunked + chunk("half an "))
				x.gone()
			},
		},
		{
			name: "client goes in its body", protos: always, want: "gone",
			run: func(c *call) {
				r := c.req("POST")
				r.open, r.length = true, 1000
				s := c.send(r)
				c.must(s.send([]byte("beginning ")))
				c.hear()
				s.cut()
				c.sum("gone")
			},
			api: func(x *exchange) {
				b, _ := x.content()
				x.read(b, 10)
				x.tell()
				x.gone()
			},
		},
		{
			name: "client gives up one stream", protos: twos, want: "200, given up",
			run: func(c *call) {
				s := c.send(c.req("POST"))
				c.until(s, "half an ")
				c.must(s.(*twoStream).reset())
				c.hear()
				c.sum("given up")
			},
			api: func(x *exchange) {
				x.write(chunked + chunk("half an "))
				x.gone()
				x.tell()
			},
		},
		{
			name: "answer that nobody reads", protos: ones, want: "200, gone",
			run: func(c *call) {
				s := c.send(c.req("GET"))
				e := s.next()
				c.sum("%d", e.status)
				c.goOn()
				s.cut()
				c.sum("gone")
			},
			api: func(x *exchange) {
				x.write(chunked + chunk("half an "))
				x.await()
				part := chunk(strings.Repeat("x", 64<<10))
				for range 2000 { // much more than any socket holds
					if x.over {
						return
					}
					x.write(part)
				}
				x.note("! 128 MiB went to a client that was gone")
				x.over = true
			},
		},
	}
}
