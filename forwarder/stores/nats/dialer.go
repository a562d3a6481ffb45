package natsstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// allowance is how much a server may send between two of our requests, in bytes. What
// it answers is some bytes for each message, and at most the largest message that it
// has. It bounds what the library can be made to keep.
const (
	allowance = 64 << 20
	// greeting is the same for what a server says before it is asked for anything.
	greeting = 1 << 20
)

var errFlood = errors.New("the server sends more than anybody asked for")

// dialer makes the library's connections, and ends them: the library gives no way to
// break off what it does on one. It is safe for concurrent use.
type dialer struct {
	mu  sync.Mutex
	ctx context.Context // ends all dialing
	on  map[*conn]struct{}
}

// during says what bounds dialing from now on.
func (d *dialer) during(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ctx = ctx
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	made, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: made, dialer: d}
	c.left.Store(greeting)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ctx.Err(); err != nil { // it ended in between, and so before abort
		made.Close()
		return nil, err
	}
	if d.on == nil {
		d.on = map[*conn]struct{}{}
	}
	d.on[c] = struct{}{}
	return c, nil
}

// abort breaks off what is under way on all connections.
func (d *dialer) abort() {
	for _, c := range d.all() {
		_ = c.Close() // what comes of it, whoever uses it is told
	}
}

// ask lets the servers send as much again.
func (d *dialer) ask() {
	for _, c := range d.all() {
		c.left.Store(allowance)
	}
}

func (d *dialer) all() (all []*conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.on {
		all = append(all, c)
	}
	return all
}

// conn is a connection that counts what it reads.
type conn struct {
	net.Conn
	dialer *dialer
	left   atomic.Int64
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(-int64(n)) < 0 {
		_ = c.Close() // there is an error already
		return 0, errFlood
	}
	return n, err
}

func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.on, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
