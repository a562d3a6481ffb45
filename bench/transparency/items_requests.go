package main

import (
	"fmt"
	"strings"
)

// echo gives back what came, so that the client would see a change as well.
func echo(x *exchange) {
	b := x.body()
	x.answer("200 OK", string(b), "Content-Type: application/octet-stream")
}

// octets is n bytes of every value.
func octets(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return string(b)
}

func requests() []*item {
	return []*item{
		{name: "fields of a request", protos: always, want: "200", run: func(c *call) {
			c.get(c.req("POST", "X-Twice: one", "X-Twice: two", "X-lower: kept", "Accept: */*", "User-Agent: client/1.0 (test)",
				"Authorization: Bearer sbp_0123456789012345678901234567890123456789", "Apikey: anon", "Cookie: a=1; b=2",
				"X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: forged.example", "Forwarded: for=203.0.113.7",
				"X-Http-Method-Override: DELETE", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
				"X_under_score: dropped", "Accept-Encoding: zstd", "Range: bytes=0-3", "If-None-Match: \"e\"", "Origin: https://o.example",
				"Te: trailers", "X-Request-Id: from-the-client", "Priority: u=1", "Early-Data: 1", "X-Empty: "))
		}},
		{name: "fields of one hop", protos: ones, want: "200", run: func(c *call) {
			c.get(c.req("GET", "Connection: X-Mine, keep-alive", "X-Mine: for you alone", "Keep-Alive: 5", "Proxy-Authorization: Basic eDp5",
				"Proxy-Connection: keep-alive", "TE: gzip"))
		}},
		{name: "body of known length", protos: always, want: "200", api: echo, run: func(c *call) {
			r := c.req("POST")
			r.body = octets(40000)
			c.get(r)
		}},
		{name: "body of unknown length", protos: always, want: "200", api: echo, run: func(c *call) {
			r := c.req("PUT")
			r.length, r.body = -1, octets(40000)
			c.get(r)
		}},
		{name: "body of a GET", protos: always, want: "200", api: echo, run: func(c *call) {
			r := c.req("GET")
			r.body = "a GET with a body"
			c.get(r)
		}},
		{name: "POST without a body", protos: always, want: "200, 200", api: echo, run: func(c *call) {
			c.get(c.req("POST"))
			c.get(c.req("POST", "Content-Length: 0"))
		}},
		{name: "unknown length of nothing", protos: always, want: "200", api: echo, run: func(c *call) {
			r := c.req("POST")
			r.length = -1
			c.get(r)
		}},
		{name: "request trailers, announced", protos: always, want: "200", api: echo, run: func(c *call) {
			r := c.req("POST", "Trailer: Checksum, State")
			r.open, r.length = true, -1
			s := c.send(r)
			c.must(s.send([]byte("body")))
			c.must(s.end("Checksum: abc", "State: done"))
			c.collect(s)
		}},
		{name: "request trailers, unannounced", protos: []string{h1, h1s, h2, h2c}, want: "200", api: echo, run: func(c *call) {
			r := c.req("POST")
			r.open, r.length = true, -1
			s := c.send(r)
			c.must(s.send([]byte("body")))
			c.must(s.end("Checksum: abc"))
			c.collect(s)
		}},
		{name: "targets", protos: always, api: echo, run: func(c *call) {
			for _, p := range []string{
				"/v1/projects/a%2Fb", "/v1//projects", "/v1/projects/./x/../y", "/v1/%70rojects/%e4", "/v1/projects?a=1&a=2;b=%00",
				"/v1/projects?", "/v1/projects/" + strings.Repeat("long", 1000), "/v1/projects/a+b%20c", "/", "/v1/projects/*:@!$&'()",
			} {
				r := c.req("GET")
				r.path = p
				c.get(r)
			}
		}},
		{name: "target of another form", protos: ones, run: func(c *call) {
			for _, p := range []string{"http://other.example/v1/projects?x=1", "*"} {
				r := c.req("OPTIONS")
				r.path = p
				c.get(r)
			}
			r := c.req("CONNECT")
			r.path = "other.example:443"
			c.get(r)
		}},
		{name: "large fields of a request", protos: always, want: "200", run: func(c *call) {
			c.get(c.req("POST", "X-Large: "+strings.Repeat("l", 8<<10), "User-Agent: "+strings.Repeat("u", 1000),
				"Authorization: Bearer "+strings.Repeat("t", 2000)))
		}},
		{name: "too large fields of a request", protos: ones, want: "431", run: func(c *call) {
			c.get(c.req("GET", "X-Large: "+strings.Repeat("l", 1100<<10)))
		}},
		{
			name: "100 before the body", protos: []string{h1, h1s, h2, h2c}, want: "100, 200",
			run: func(c *call) {
				r := c.req("POST", "Expect: 100-continue")
				r.open, r.length = true, 9
				s := c.send(r)
				c.sum("%d", s.next().status)
				c.must(s.send([]byte("only then")))
				c.must(s.end())
				c.collect(s)
			},
			api: echo,
		},
		{
			// Caddy sends its 100 as soon as the proxy asks for the body, and over
			// HTTP/1.1 then waits for that body, with or without us.
			name: "refusal after 100", protos: twos, want: "100, 413",
			run: func(c *call) {
				r := c.req("POST", "Expect: 100-continue")
				r.open, r.length = true, 1<<30
				s := c.send(r)
				c.sum("%d", s.next().status)
				c.goOn()
				c.collect(s)
			},
			api: func(x *exchange) {
				x.await()
				x.answer("413 Content Too Large", "too much", "Connection: close")
				x.over = true
			},
		},
		{
			name: "refusal by Caddy instead of 100", prefix: "secured", protos: multi, want: "401",
			run: func(c *call) {
				r := c.req("POST", "Expect: 100-continue")
				r.open, r.length = true, 1<<30
				c.collect(c.send(r))
			},
		},
		{
			name: "answer before the body's end, then the rest", protos: ones, want: "403",
			run: func(c *call) {
				r := c.req("POST")
				r.open, r.length = true, 20
				s := c.send(r)
				c.must(s.send([]byte("beginning ")))
				c.hear()
				c.must(s.send([]byte("and an end")))
				c.collect(s)
			},
			api: func(x *exchange) {
				b, _ := x.content()
				x.read(b, 10)
				x.answer("403 Forbidden", "I have seen enough", "Connection: close")
				x.tell()
				x.gone()
			},
		},
		{
			name: "answer before the body's end", protos: multi, want: "403",
			run: func(c *call) {
				r := c.req("POST")
				r.open, r.length = true, 1<<30
				s := c.send(r)
				c.must(s.send([]byte("beginning ")))
				c.collect(s)
			},
			api: func(x *exchange) {
				b, _ := x.content()
				x.read(b, 10)
				x.answer("403 Forbidden", "I have seen enough", "Connection: close")
				x.over = true
			},
		},
		{
			name: "answer before the body's end, unknown length", protos: multi, want: "403",
			run: func(c *call) {
				r := c.req("POST")
				r.open, r.length = true, -1
				s := c.send(r)
				c.must(s.send([]byte("beginning ")))
				c.collect(s)
			},
			api: func(x *exchange) {
				b, _ := x.content()
				x.read(b, 10)
				x.answer("403 Forbidden", "I have seen enough", "Connection: close")
				x.over = true
			},
		},
		{
			name: "body arrives in time", protos: always, want: "200",
			run: func(c *call) {
				r := c.req("POST")
				r.open, r.length = true, -1
				s := c.send(r)
				for i := range 3 {
					c.must(s.send(fmt.Appendf(nil, "part %d", i)))
					c.hear() // the API has it, before there is more
				}
				c.must(s.end())
				c.collect(s)
			},
			api: func(x *exchange) {
				b, trailer := x.content()
				for range 3 {
					x.read(b, 6)
					x.tell()
				}
				x.read(b, 0)
				trailer()
				x.over = true // what is left of the body's frame is not read
				x.answer("200 OK", "in time", "Connection: close")
			},
		},
	}
}

// connections are what only HTTP/1.1 has.
func connections() []*item {
	raw := func(c *one, s string) error { return c.send([]byte(s)) }
	return []*item{
		{name: "pipelined calls", protos: ones, want: "200, 200, 200, 200", api: echo, run: func(c *call) {
			s := c.connect()
			one := "GET " + c.path() + " HTTP/1.1\r\nHost: " + host + "\r\n" + callField + ": " + c.id + "\r\nUser-Agent: %d\r\n\r\n"
			post := "POST " + c.path() + " HTTP/1.1\r\nHost: " + host + "\r\n" + callField + ": " + c.id + "\r\nContent-Length: 4\r\n\r\nbody"
			c.must(raw(s, fmt.Sprintf(one, 1)+post+fmt.Sprintf(one, 2)+fmt.Sprintf(one, 3)))
			for _, m := range []string{"GET", "POST", "GET", "GET"} {
				s.method, s.framing, s.over = m, noAnswer, event{}
				c.collect(s)
			}
		}},
		{name: "kept connection", protos: ones, want: "200, 200, 200, kept", api: echo, run: func(c *call) {
			s := c.connect()
			for _, m := range []string{"GET", "POST", "GET"} {
				r := c.req(m)
				if m == "POST" {
					r.body = "content"
				}
				c.must(s.request(r))
				if m == "POST" {
					c.must(raw(s, r.body))
				}
				c.collect(s)
			}
			c.sum("kept")
		}},
		{name: "connection: close", protos: ones, want: "200, closed", api: echo, run: func(c *call) {
			s := c.connect()
			c.must(s.request(c.req("POST", "Connection: close")))
			c.collect(s)
			c.closed(s)
		}},
		{name: "connection: close by the API", protos: ones, run: func(c *call) {
			s := c.connect()
			for range 2 { // it is the API's connection, not the client's
				c.must(s.request(c.req("GET")))
				c.collect(s)
			}
		}, api: func(x *exchange) {
			x.answer("200 OK", "bye", "Connection: close")
			x.over = true
		}},
		{name: "HTTP/1.0", protos: ones, want: "200, closed", api: echo, run: func(c *call) {
			s := c.connect()
			c.must(raw(s, "GET "+c.path()+" HTTP/1.0\r\nHost: "+host+"\r\n"+callField+": "+c.id+"\r\n\r\n"))
			s.method = "GET"
			c.collect(s)
			c.closed(s)
		}},
		{name: "HTTP/1.0, unknown length", protos: ones, want: "200, closed", run: func(c *call) {
			s := c.connect()
			c.must(raw(s, "GET "+c.path()+" HTTP/1.0\r\nHost: "+host+"\r\n"+callField+": "+c.id+"\r\n\r\n"))
			s.method = "GET"
			c.collect(s)
			c.closed(s)
		}, api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("in chunks") + "0\r\n\r\n")
		}},
		{name: "nonsense", protos: ones, run: func(c *call) {
			for _, text := range []string{
				"GET\r\nX-Long: as long as what h2c begins with\r\n\r\n", "GET / HTTP/1.1\r\nX-Host: none of that name\r\n\r\n", "GET / HTTP/3.1\r\nHost: x\r\n\r\n",
				"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
			} {
				s := c.connect()
				c.must(raw(s, text))
				s.method = "GET"
				c.collect(s)
			}
		}},
	}
}

// closed says whether the server has closed the connection.
func (c *call) closed(s *one) {
	if _, err := s.br.ReadByte(); err != nil {
		c.sum("%s", why(err))
		return
	}
	c.sum("more data")
}
