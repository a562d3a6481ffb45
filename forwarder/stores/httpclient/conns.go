package httpclient

import (
	"context"
	"net"
	"sync"
)

// conns knows a transport's connections, so that all of them can be closed. The
// transport itself closes those that it takes for idle, which one of HTTP/2 may not be
// for a moment after its last request.
type conns struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// conn is one of them.
type conn struct {
	net.Conn
	of *conns
}

func (c *conns) dial(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		raw.Close()
		return nil, net.ErrClosed
	}
	c.open[raw] = struct{}{}
	return &conn{Conn: raw, of: c}, nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for raw := range c.open {
		raw.Close()
	}
	clear(c.open)
}
