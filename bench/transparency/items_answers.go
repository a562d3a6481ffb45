package main

import (
	"fmt"
	"net/http"
	"strings"
)

// Answers of unknown length name their type here. Where the API names none, it
// is a race of the proxy's own flush timer and its first write whether Caddy
// adds one: plain Caddy does so in some calls and not in others.

// loud is an answer with fields that proxies like to touch.
var loud = []string{
	"Content-Type: application/json", "Set-Cookie: a=1; Path=/", "set-cookie: b=2", "X-Request-Id: made-by-the-api",
	"X-Empty:", "Link: </a>; rel=preload", "Link: </b>; rel=preload", "Server: an API", "Vary: Origin", "Cache-Control: no-store",
	"X-lower-Case: kept", "Via: 1.1 before", "ETag: \"one\"", "Sb-Gateway-Version: 1",
}

func answers() []*item {
	return []*item{
		{name: "answer of known length", protos: always, want: "200"},
		{name: "fields of an answer", protos: always, want: "200", api: func(x *exchange) {
			x.answer("200 OK", `{"id":"x"}`, loud...)
		}},
		{
			name: "created, with a target in its body", protos: always, want: "201",
			run: func(c *call) {
				r := c.req("POST", "Content-Type: application/json", "Authorization: Bearer sbp_0123456789012345678901234567890123456789")
				r.path, r.body = "/v1/projects", `{"name":"n","organization_id":"o","db_pass":"p","region":"eu-west-1"}`
				c.get(r)
			},
			api: func(x *exchange) {
				x.body()
				x.answer("201 Created", `{"id":"zyxwvutsrqponmlkjihg","name":"n"}`, append([]string{"Location: /v1/projects/zyxwvutsrqponmlkjihg"}, loud...)...)
			},
		},
		{
			name: "every status", protos: always,
			want: "200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 409, 412, 418, 422, 429, 500, 501, 502, 503, 504, 599",
			run: func(c *call) {
				for _, s := range []int{
					200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308,
					400, 401, 402, 403, 404, 405, 409, 412, 418, 422, 429, 500, 501, 502, 503, 504, 599,
				} {
					c.get(c.req("GET", fmt.Sprintf("Want: %d", s)))
				}
			},
			api: func(x *exchange) {
				s := field(x.fields, "Want")
				switch s {
				case "204", "304":
					x.write("HTTP/1.1 " + s + " None\r\nETag: \"e\"\r\n\r\n")
				default:
					x.answer(s+" Some", "status "+s, "Location: /there", "Retry-After: 7", "WWW-Authenticate: Bearer")
				}
			},
		},
		{
			name: "every method", protos: always,
			want: "200, 200, 200, 200, 200, 200, 200, 200, 200, 200",
			run: func(c *call) {
				for _, m := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "BREW", "QUERY"} {
					r := c.req(m)
					if m == "PUT" || m == "PATCH" || m == "BREW" || m == "QUERY" {
						r.body = "content of " + m
					}
					c.get(r)
				}
			},
			api: func(x *exchange) {
				x.body()
				if strings.HasPrefix(x.fields[0], "HEAD ") {
					x.write("HTTP/1.1 200 OK\r\nContent-Length: 4711\r\nX-Of: HEAD\r\n\r\n")
					return
				}
				x.answer("200 OK", x.fields[0])
			},
		},
		{name: "unknown length", protos: always, want: "200", api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" +
				chunk("one ") + chunk(strings.Repeat("two ", 20000)) + chunk("three") + "0\r\n\r\n")
		}},
		{name: "length by closing", protos: always, want: "200", api: func(x *exchange) {
			x.write("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil I hang up")
			x.over = true
		}},
		{name: "empty and unknown length", protos: always, want: "200", api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
		}},
		{name: "announced trailers", protos: always, want: "200 trailer", api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum, State\r\n\r\n" +
				chunk("body") + "0\r\nChecksum: abc\r\nState: done\r\n\r\n")
		}},
		{name: "unannounced trailers", protos: always, api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("body") + "0\r\nChecksum: abc\r\n\r\n")
		}},
		{name: "more trailers than announced", protos: always, want: "200 trailer", api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n" +
				chunk("body") + "0\r\nChecksum: abc\r\nSecond: def\r\n\r\n")
		}},
		{name: "trailers after no body", protos: always, want: "200 trailer", api: func(x *exchange) {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n0\r\nChecksum: abc\r\n\r\n")
		}},
		{name: "early hints", protos: always, want: "103 103 200", api: func(x *exchange) {
			x.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" +
				"HTTP/1.1 103 Early Hints\r\nLink: </script.js>; rel=preload\r\nX-Hint: 2\r\n\r\n")
			x.answer("200 OK", "after the hints", "X-Own: 1")
		}},
		{name: "early hints before an error", protos: always, want: "103 404", api: func(x *exchange) {
			x.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
			x.answer("404 Not Found", "nothing here")
		}},
		{
			name: "early hints arrive early", protos: always, want: "103, 200",
			run: func(c *call) {
				s := c.send(c.req("POST"))
				e := s.next()
				c.sum("%d", e.status)
				c.goOn() // the API answers only now
				c.collect(s)
			},
			api: func(x *exchange) {
				x.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
				if x.await() {
					x.answer("200 OK", "after the hints")
				}
			},
		},
		{name: "large fields of an answer", protos: always, want: "200", api: func(x *exchange) {
			var fields []string
			for i := range 100 {
				fields = append(fields, fmt.Sprintf("X-Large-%02d: %s", i, strings.Repeat("v", 1500)))
			}
			x.answer("200 OK", "large", fields...)
		}},
		{
			name: "gzip by the server", protos: always, prefix: "gzip", want: "200, 200, 200",
			run: func(c *call) {
				c.get(c.req("GET", "Accept-Encoding: gzip"))
				c.get(c.req("POST", "Accept-Encoding: gzip, br;q=0.5"))
				c.get(c.req("GET", "Accept-Encoding: identity"))
			},
			api: func(x *exchange) {
				x.answer("200 OK", strings.Repeat("compress me ", 1000), "Content-Type: text/plain", "ETag: \"strong\"")
			},
		},
		{
			name: "gzip by the API", protos: always, want: "200", prefix: "gzip",
			run: func(c *call) { c.get(c.req("GET", "Accept-Encoding: gzip")) },
			api: func(x *exchange) {
				x.answer("200 OK", "\x1f\x8bnot really", "Content-Encoding: gzip", "Content-Type: text/plain")
			},
		},
	}
}

// byCaddy are answers that Caddy gives itself, and its changes on the way.
func byCaddy() []*item {
	var items []*item
	for _, a := range []struct{ name, prefix, want string }{
		{"API that is down", "nowhere", "502, 502"},
		{"redirect by Caddy", "elsewhere", "308, 308"},
		{"text by Caddy", "given", "203, 203"},
		{"error by Caddy", "refused", "418, 418"},
		{"error route", "caught", "599, 599"},
		{"nobody answers", "nobody", "200, 200"},
		{"basic auth without credentials", "secured", "401, 401"},
		{"rewritten path", "moved", "200, 200"},
	} {
		items = append(items, &item{name: a.name, prefix: a.prefix, want: a.want, protos: always, run: func(c *call) {
			c.get(c.req("GET"))
			r := c.req("POST", "Content-Type: text/plain")
			r.body = "content"
			c.get(r)
		}})
	}
	return append(items,
		&item{name: "body beyond a limit", prefix: "limited", want: "413", protos: always, run: func(c *call) {
			r := c.req("POST")
			r.body = strings.Repeat("x", 3000)
			c.get(r)
		}},
		&item{name: "HEAD of what Caddy gives", prefix: "given", want: "203", protos: always, run: func(c *call) {
			c.get(c.req(http.MethodHead))
		}},
	)
}
