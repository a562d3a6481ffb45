package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// item is one thing that a client, or the API behind, might see us by.
type item struct {
	name   string
	protos []string
	// prefix chooses a route of the Caddyfile.
	prefix string
	// api is what the API does; nil answers with a short text.
	api func(*exchange)
	// run is what the client does; nil sends a GET and reads the answer.
	run func(*call)
	// want is the summary that a plain server must show: an item that shows
	// nothing cannot show a difference either.
	want string
}

// call is one run of an item against one server, seen from the client.
type call struct {
	target
	item  *item
	proto string
	id    string
	api   *run
	pid   int // of the server

	notes []string
	sums  []string
	opens []stream
}

// transcript is all that was seen in one run.
type transcript struct {
	summary string
	lines   []string
}

// errGiveUp ends an item's run; what went wrong is in the notes.
var errGiveUp = errors.New("giving up")

// note adds a line to what is compared.
func (c *call) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// sum adds to the summary, and so to what is compared.
func (c *call) sum(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	c.sums = append(c.sums, s)
	c.note("= %s", s)
}

// must gives the run up after an error.
func (c *call) must(err error) {
	if err != nil {
		c.note("! %s", why(err))
		c.sum("failed")
		panic(errGiveUp)
	}
}

// path is where the item's calls go: a known route of the platform, unless
// the item needs a route of the Caddyfile.
func (c *call) path() string {
	if c.item.prefix != "" {
		return "/" + c.item.prefix + "/" + c.item.slug()
	}
	return "/v1/projects/abcdefghijklmnopqrst/" + c.item.slug()
}

func (i *item) slug() string {
	return strings.ReplaceAll(strings.ReplaceAll(i.name, " ", "-"), ",", "")
}

// req is a request of this item.
func (c *call) req(method string, fields ...string) request {
	return request{method: method, path: c.path(), fields: append([]string{callField + ": " + c.id}, fields...)}
}

// send opens a stream; it is cut when the run ends.
func (c *call) send(r request) stream {
	s, err := c.open(c.proto, r)
	c.must(err)
	c.opens = append(c.opens, s)
	return s
}

// connect opens a connection of HTTP/1.1.
func (c *call) connect() *one {
	s, err := c.dialOne(c.proto)
	c.must(err)
	c.opens = append(c.opens, s)
	return s
}

// get sends a request and collects its answer.
func (c *call) get(r request) { c.collect(c.send(r)) }

// collect notes an answer to its end.
func (c *call) collect(s stream) {
	var status []string
	var body []byte
	for {
		e := s.next()
		switch e.kind {
		case head:
			status = append(status, fmt.Sprint(e.status))
			for _, f := range e.fields {
				c.note("head %s", f)
			}
		case data:
			body = append(body, e.data...)
		case trailer:
			status = append(status, "trailer")
			for _, f := range e.fields {
				c.note("trailer %s", f)
			}
		case end, broken:
			c.note("body %s", text(body))
			if e.kind == broken {
				c.note("broken: %s", e.why)
				status = append(status, "broken")
			} else {
				c.note("end %s", e.why)
			}
			c.sum("%s", strings.Join(status, " "))
			if e.why == "silence" {
				c.note("! nothing came for %s", patience)
				panic(errGiveUp) // the rest of the item would be as long
			}
			return
		}
	}
}

// until reads until the body's part is there, and notes what comes before it.
func (c *call) until(s stream, part string) {
	got := ""
	for got != part {
		switch e := s.next(); e.kind {
		case head:
			c.sum("%d", e.status)
			for _, f := range e.fields {
				c.note("head %s", f)
			}
		case data:
			if got += string(e.data); !strings.HasPrefix(part, got) {
				c.note("! got %q instead of %q", got, part)
				c.sum("other data")
				panic(errGiveUp)
			}
		default:
			c.note("! %d %s before %q", e.kind, e.why, part)
			c.sum("no %q", part)
			panic(errGiveUp)
		}
	}
	c.note("part %q", part)
}

// goOn lets the API go on.
func (c *call) goOn() { c.api.toAPI <- struct{}{} }

// hear waits until the API lets the client go on.
func (c *call) hear() {
	select {
	case <-c.api.toClient:
	case <-time.After(patience):
		c.note("! the API did not let the client go on")
		c.sum("API silent")
		panic(errGiveUp)
	}
}

// settle waits until the API is done with what it got.
func (c *call) settle() {
	done := make(chan struct{})
	go func() {
		c.api.pending.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * patience):
		c.note("! the API is still busy")
	}
}

// play runs an item once against a server.
func (s *server) play(it *item, proto string) transcript {
	c := &call{target: s.target, item: it, proto: proto, id: it.slug() + "-" + proto, pid: s.proc.PID}
	answer := it.api
	if answer == nil {
		answer = func(x *exchange) {
			x.body()
			x.answer("200 OK", "an answer", "Content-Type: text/plain")
		}
	}
	c.api = newRun(answer)
	s.api.expect(c.id, c.api)
	c.perform()
	for _, o := range c.opens {
		o.cut()
	}
	c.settle()
	t := transcript{summary: strings.Join(c.sums, ", "), lines: s.normalize(c.notes)}
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	for i, x := range c.api.exchanges {
		for _, line := range s.normalize(x.noted()) {
			t.lines = append(t.lines, fmt.Sprintf("API %d: %s", i+1, line))
		}
	}
	return t
}

// perform does the client's part.
func (c *call) perform() {
	defer func() {
		if p := recover(); p != nil && p != errGiveUp { //nolint:errorlint // the very value
			panic(p)
		}
	}()
	if c.item.run == nil {
		c.get(c.req("GET"))
		return
	}
	c.item.run(c)
}
