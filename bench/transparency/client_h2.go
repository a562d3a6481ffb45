package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// two is a connection that speaks HTTP/2 frame by frame, so that it is seen
// how an answer ended and in which order fields came.
type two struct {
	nc      net.Conn
	fr      *http2.Framer
	mu      sync.Mutex // of all below, and of writing
	enc     *hpack.Encoder
	block   bytes.Buffer
	last    uint32
	streams map[uint32]*twoStream
	// settings are what the server announced.
	settings []string
	ready    chan struct{}
}

type twoStream struct {
	c      *two
	id     uint32
	events chan event
	over   event
}

// window is more than any item receives, so that it is never asked for.
const window = 1 << 30

func (t target) dialTwo(proto string) (*two, error) {
	nc, err := t.dial(proto)
	if err != nil {
		return nil, err
	}
	c := &two{nc: nc, fr: http2.NewFramer(nc, nc), streams: map[uint32]*twoStream{}, ready: make(chan struct{})}
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		return nil, err
	}
	if err := c.fr.WriteWindowUpdate(0, window); err != nil {
		return nil, err
	}
	go c.readAll()
	select {
	case <-c.ready:
		return c, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("waiting for the settings of an HTTP/2 server: none came in %s", patience)
	}
}

func (t target) openTwo(proto string, r request) (*twoStream, error) {
	c, err := t.dialTwo(proto)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if proto == h2 {
		scheme = "https"
	}
	return c.open(scheme, r)
}

func (c *two) open(scheme string, r request) (*twoStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.block.Reset()
	put := func(name, value string) {
		_ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // into memory
	}
	put(":method", r.method)
	put(":authority", host)
	put(":scheme", scheme)
	put(":path", r.path)
	if r.connect != "" {
		put(":protocol", r.connect)
	}
	for _, f := range r.fields {
		name, value, _ := strings.Cut(f, ": ")
		put(strings.ToLower(name), value)
	}
	if n := r.announced(); r.hasBody() && n >= 0 {
		put("content-length", strconv.FormatInt(n, 10))
	}
	s := &twoStream{c: c, id: c.last + 1, events: make(chan event, 4096)}
	c.last += 2
	c.streams[s.id] = s
	return s, c.writeHead(s.id, !r.hasBody())
}

// writeHead sends what is in block, in as many frames as it takes.
func (c *two) writeHead(id uint32, last bool) error {
	const size = 16 << 10
	b := c.block.Bytes()
	n := min(len(b), size)
	p := http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:n], EndHeaders: n == len(b), EndStream: last}
	err := c.fr.WriteHeaders(p)
	for b = b[n:]; len(b) > 0 && err == nil; b = b[n:] {
		n = min(len(b), size)
		err = c.fr.WriteContinuation(id, n == len(b), b[:n])
	}
	return err
}

func (s *twoStream) send(p []byte) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), 16<<10)
		if err := s.c.fr.WriteData(s.id, false, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (s *twoStream) end(fields ...string) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if len(fields) == 0 {
		return s.c.fr.WriteData(s.id, true, nil)
	}
	s.c.block.Reset()
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		_ = s.c.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(name), Value: value}) // into memory
	}
	return s.c.writeHead(s.id, true)
}

func (s *twoStream) cut() { _ = s.c.nc.Close() }

// reset gives up this call and keeps the connection.
func (s *twoStream) reset() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.fr.WriteRSTStream(s.id, http2.ErrCodeCancel)
}

func (s *twoStream) next() event {
	if s.over.ended() {
		return s.over
	}
	select {
	case e := <-s.events:
		if e.ended() {
			s.over = e
		}
		return e
	case <-time.After(patience):
		return event{kind: broken, why: "silence"}
	}
}

// readAll hands out what comes until the connection ends.
func (c *two) readAll() {
	for {
		f, err := c.fr.ReadFrame()
		c.mu.Lock()
		if err != nil {
			for _, s := range c.streams {
				s.events <- event{kind: broken, why: why(err)}
			}
			clear(c.streams)
			c.mu.Unlock()
			return
		}
		c.handle(f)
		c.mu.Unlock()
	}
}

func (c *two) handle(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return
		}
		_ = f.ForeachSetting(func(s http2.Setting) error {
			c.settings = append(c.settings, s.String())
			return nil
		})
		_ = c.fr.WriteSettingsAck() // if it fails, so will the next read
		select {
		case <-c.ready:
		default:
			close(c.ready)
		}
		return
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.fr.WritePing(true, f.Data)
		}
		return
	}
	s := c.streams[f.Header().StreamID]
	if s == nil {
		return
	}
	last := f.Header().Flags.Has(http2.FlagDataEndStream) // the same bit as that of HEADERS
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		e := event{kind: trailer}
		for _, h := range f.Fields {
			if h.Name == ":status" {
				e.kind = head
				e.status, _ = strconv.Atoi(h.Value)
			}
			e.fields = append(e.fields, h.Name+": "+h.Value)
		}
		s.events <- e
	case *http2.DataFrame:
		if len(f.Data()) > 0 {
			s.events <- event{kind: data, data: bytes.Clone(f.Data())}
		}
	case *http2.RSTStreamFrame:
		s.events <- event{kind: broken, why: "RST_STREAM " + f.ErrCode.String()}
		delete(c.streams, s.id)
		return
	default:
		return
	}
	if last {
		s.events <- event{kind: end}
		delete(c.streams, s.id)
	}
}
