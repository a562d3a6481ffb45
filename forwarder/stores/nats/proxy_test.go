package natsstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func contextOf(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// proxy stands between a store and its server and knows where a message begins: it can
// hold messages up, break the connection behind some, and answer in the stream's place.
type proxy struct {
	t        testing.TB
	listener net.Listener
	to       string
	ended    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	// slow holds the next message up for that time, or until fast is closed.
	slow time.Duration
	fast chan struct{}
	// cut breaks the connection behind that many messages.
	cut int
	// answer gives the answer to a message in the place of the stream; "" lets it pass.
	answer func(subject string, payload []byte) string
	// mute lets no message through, and no answer.
	mute bool
	// lose is how many messages do not arrive, as at a leader that has just been elected.
	lose int
}

func startProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: l, to: to, conns: map[net.Conn]struct{}{}}
	p.ended.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) close() {
	p.listener.Close()
	p.reset()
	p.ended.Wait()
}

// reset breaks all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		p.set(func() { p.conns[client], p.conns[server] = struct{}{}, struct{}{} })
		c := &proxied{proxy: p, client: client, server: server, sids: map[string]string{}}
		end := sync.OnceFunc(func() {
			client.Close()
			server.Close()
			p.set(func() { delete(p.conns, client); delete(p.conns, server) })
		})
		p.ended.Go(func() {
			defer end()
			c.up()
		})
		p.ended.Go(func() {
			defer end()
			c.down()
		})
	}
}

// proxied is one connection.
type proxied struct {
	*proxy
	client, server net.Conn

	mu   sync.Mutex        // guards what is written to the client, and sids
	sids map[string]string // by subject
}

// frame reads a line, and what belongs to it.
func frame(r *bufio.Reader) (fields []string, whole, payload []byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, nil, nil, err
	}
	fields = strings.Fields(string(line))
	if len(fields) == 0 {
		return []string{""}, line, nil, nil
	}
	switch strings.ToUpper(fields[0]) {
	case "PUB", "HPUB", "MSG", "HMSG":
		n, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			return nil, nil, nil, err
		}
		payload = make([]byte, n+2)
		if _, err := io.ReadFull(r, payload); err != nil {
			return nil, nil, nil, err
		}
	}
	return fields, append(line, payload...), payload, nil
}

// up passes on what the store sends.
func (c *proxied) up() {
	for r := bufio.NewReader(c.client); ; {
		fields, whole, payload, err := frame(r)
		if err != nil {
			return
		}
		switch strings.ToUpper(fields[0]) {
		case "SUB":
			c.mu.Lock()
			c.sids[fields[1]] = fields[len(fields)-1]
			c.mu.Unlock()
		case "HPUB":
			if !c.message(fields, payload) {
				continue
			}
		}
		if _, err := c.server.Write(whole); err != nil {
			return
		}
	}
}

// message says whether one passes.
func (c *proxied) message(fields []string, payload []byte) bool {
	c.proxy.mu.Lock()
	slow, fast, answer, mute := c.slow, c.fast, c.answer, c.mute
	c.slow = 0
	if c.lose > 0 {
		c.lose--
		mute = true
	}
	broken := false
	if c.cut > 0 {
		c.cut--
		broken = c.cut == 0
	}
	c.proxy.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-fast:
		}
	}
	if broken {
		c.client.Close()
		c.server.Close()
		return false
	}
	if mute {
		return false
	}
	if answer == nil || len(fields) < 5 {
		return true
	}
	said := answer(fields[1], payload)
	if said == "" {
		return true
	}
	reply := fields[2]
	c.mu.Lock()
	defer c.mu.Unlock()
	for subject, sid := range c.sids {
		if prefix, ok := strings.CutSuffix(subject, "*"); ok && strings.HasPrefix(reply, prefix) {
			fmt.Fprintf(c.client, "MSG %s %s %d\r\n%s\r\n", reply, sid, len(said), said)
		}
	}
	return false
}

// down passes on what the server sends.
func (c *proxied) down() {
	for r := bufio.NewReader(c.server); ; {
		_, whole, _, err := frame(r)
		if err != nil {
			return
		}
		c.mu.Lock()
		_, err = c.client.Write(whole)
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// refusing answers what contains the text as a stream that takes no such size.
func refusing(text string) func(string, []byte) string {
	return func(_ string, payload []byte) string {
		if !bytes.Contains(payload, []byte(text)) {
			return ""
		}
		return `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"AUDIT_default","seq":0}`
	}
}
