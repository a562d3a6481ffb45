package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// host is what every call names: one host for both servers, so that nothing
// which is made from it can differ.
const host = "platform.example"

// patience is how long anything is waited for. Loopback needs far less.
const patience = 4 * time.Second

// The protocols that a client may speak.
const (
	h1  = "h1"
	h1s = "h1s" // HTTP/1.1 over TLS
	h2  = "h2"
	h2c = "h2c"
	h3  = "h3"
)

var (
	ones   = []string{h1, h1s}
	twos   = []string{h2, h2c}
	multi  = []string{h2, h2c, h3}
	always = []string{h1, h1s, h2, h2c, h3}
)

// request is a call in terms that every protocol has.
type request struct {
	method string
	path   string
	fields []string // "Name: value", in order
	body   string
	// length is announced instead of the body's; -1 announces none.
	length int64
	// open leaves the body to be sent by the item.
	open bool
	// connect is the protocol of an extended CONNECT.
	connect string
}

func (r request) announced() int64 {
	if r.length != 0 || r.open {
		return r.length
	}
	return int64(len(r.body))
}

// hasBody says whether there is a body, though it may come to be empty.
func (r request) hasBody() bool { return r.open || r.body != "" || r.length != 0 }

// stream is one call in progress.
type stream interface {
	// send sends a part of the body.
	send(p []byte) error
	// end ends the body, with a trailer if there are fields.
	end(trailer ...string) error
	// next waits for what comes from the server.
	next() event
	// cut goes away without a word.
	cut()
}

type kind int

const (
	head    kind = iota // a status and fields; any number of 1xx may come before the last
	data                // a part of the body
	trailer             // fields
	end                 // the answer is whole
	broken              // it will never be
)

// event is one thing that came from the server.
type event struct {
	kind   kind
	status int
	fields []string
	data   []byte
	// why says how an answer ended.
	why string
}

// ended says that there is nothing more to come.
func (e event) ended() bool { return e.kind == end || e.kind == broken }

// why says how a connection ended without what differs from run to run:
// whether a lost connection shows as an end or as a reset is a matter of
// timing.
func why(err error) string {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return "silence"
	}
	return "closed"
}

// target is where calls of one server go.
type target struct {
	plain string // HTTP/1.1 and h2c
	tls   string // HTTP/1.1, h2 and h3
	files string // HTTP/1.1 without write timeouts
	pool  *pool
}

func (t target) dial(proto string) (net.Conn, error) {
	switch proto {
	case h1, h2c:
		return net.DialTimeout("tcp", t.plain, patience)
	case h1s:
		return t.pool.dialTLS(t.tls, "http/1.1")
	}
	return t.pool.dialTLS(t.tls, "h2")
}

// open sends a request's head, and its body unless the item wants to.
func (t target) open(proto string, r request) (stream, error) {
	var s stream
	var err error
	switch proto {
	case h1, h1s:
		s, err = t.openOne(proto, r)
	case h2, h2c:
		s, err = t.openTwo(proto, r)
	case h3:
		s, err = t.openThree(r)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a call over %s: %w", proto, err)
	}
	if r.open || !r.hasBody() {
		return s, nil
	}
	if r.body != "" {
		if err := s.send([]byte(r.body)); err != nil {
			return nil, fmt.Errorf("sending the body over %s: %w", proto, err)
		}
	}
	return s, s.end()
}

// text shows a body: short ones as they are, long ones by length and hash.
func text(b []byte) string {
	if len(b) <= 160 {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%d bytes, SHA-256 %x", len(b), sha256.Sum256(b))
}

// field is the value of the first field of a name.
func field(fields []string, name string) string {
	for _, f := range fields {
		if n, v, ok := strings.Cut(f, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// reader reads a stream's data as bytes, for what comes after an upgrade.
type reader struct {
	stream
	rest []byte
	last event
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.last.ended() {
			if r.last.kind == broken {
				return 0, io.ErrUnexpectedEOF
			}
			return 0, io.EOF
		}
		r.last = r.next()
		r.rest = r.last.data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Write(p []byte) (int, error) { return len(p), r.send(p) }
