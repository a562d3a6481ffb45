package natsstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// dialTimeout is what connecting to one server may take, its handshakes included.
	dialTimeout = 5 * time.Second
	// pingInterval is how often a server is asked whether it lives. Two that are not
	// answered end the connection.
	pingInterval = 10 * time.Second
	// blocked is how long what has been told to end may take for that.
	blocked = time.Second
	// reconnectWait is the longest pause after all servers were tried.
	reconnectWait = time.Second

	clientName = "caddy-audit-log"
)

// link is a connection to the cluster, which the library makes anew for as long as the
// link is not closed. What it is told from outside it keeps for the next error.
type link struct {
	c      *Config
	nc     *nats.Conn
	js     jetstream.JetStream
	dialer dialer
	known  *secrets

	mu sync.Mutex
	// lost is why there is no connection, if there is none.
	lost error
	// onDenied is told of what the server does not let us do.
	onDenied func(error)
	// flight is what is under way.
	flight *flight
}

// connect connects to one of the servers. All that it does on the network ends with ctx;
// from then on it is bounded by living.
func connect(ctx, living context.Context, c *Config, servers []server, known *secrets) (l *link, err error) {
	l = &link{c: c, known: known}
	o, err := l.options(servers)
	if err != nil {
		return nil, err
	}
	l.dialer.during(ctx)
	stop := context.AfterFunc(ctx, l.dialer.abort)
	l.nc, err = o.Connect()
	if err != nil {
		stop()
		return nil, l.unconnected(err)
	}
	l.dialer.during(living)
	if !stop() { // its connection was broken off
		l.close()
		return nil, context.Cause(ctx)
	}
	l.js, err = l.jetStream()
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// unconnected says why there is no connection. The library forgets which server said
// what, and a credential that could not be read says more than that it was not taken.
func (l *link) unconnected(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return l.lost
	}
	return err
}

func (l *link) jetStream() (jetstream.JetStream, error) {
	options := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncTimeout(l.c.Timeout),
		jetstream.WithPublishAsyncMaxPending(1 << 20), // a flight has bounds of its own
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, ack *jetstream.PubAck) {
			if f := l.current(); f != nil {
				f.acknowledged(m, ack)
			}
		}),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			if f := l.current(); f != nil {
				f.failed(m, err)
			}
		}),
	}
	if l.c.Domain != "" {
		return jetstream.NewWithDomain(l.nc, l.c.Domain, options...)
	}
	return jetstream.New(l.nc, options...)
}

// options are the library's. Credentials and the files of TLS are read each time that
// it connects.
func (l *link) options(servers []server) (nats.Options, error) {
	o := nats.GetDefaultOptions()
	for _, s := range servers {
		o.Servers = append(o.Servers, s.url())
	}
	o.Name = clientName
	o.Timeout = dialTimeout
	o.CustomDialer = &l.dialer
	o.SkipHostLookup = true // the dialer does it, and ends with its context
	o.IgnoreDiscoveredServers = true
	// For ever, also if it is not let in: a person may mend that.
	o.MaxReconnect = -1
	o.IgnoreAuthErrorAbort = true
	o.CustomReconnectDelayCB = func(int) time.Duration {
		return reconnectWait/4 + rand.N(reconnectWait*3/4) //nolint:gosec // jitter needs no secrecy
	}
	// What cannot be sent at once is an error: the forwarder has a better memory.
	o.ReconnectBufSize = -1
	o.ReconnectOnFlusherError = true
	o.FlusherTimeout = min(l.c.Timeout, time.Minute)
	o.PingInterval = pingInterval
	o.MaxPingsOut = 2
	o.NoCallbacksAfterClientClose = true
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		if err == nil {
			err = errors.New("the server closed the connection")
		}
		l.lose(err)
	}
	o.ReconnectErrCB = func(_ *nats.Conn, err error) { l.lose(err) }
	o.ReconnectedCB = func(*nats.Conn) { l.lose(nil) }
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { l.hear(err) }
	if servers[0].tls {
		o.Secure = true
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: l.c.TLS.ServerName}
		o.TLSHandshakeFirst = l.c.TLS.First
		o.RootCAsCB = l.c.TLS.Authorities
		if l.c.TLS.Certificate != "" {
			o.TLSCertCB = l.c.TLS.Pair
		}
	}
	return o, l.signIn(&o)
}

// signIn sets what the store is known by.
func (l *link) signIn(o *nats.Options) error {
	switch {
	case l.c.Credentials != "":
		return nats.UserCredentials(l.c.Credentials)(o)
	case l.c.NKey != "":
		return l.signByKey(o)
	case l.c.User != "":
		if _, err := l.secret(l.c.User); err != nil {
			return err
		}
		if _, err := l.secret(l.c.Password); err != nil {
			return err
		}
		o.UserInfo = func() (string, string) { return l.reread(l.c.User), l.reread(l.c.Password) }
	case l.c.Token != "":
		if _, err := l.secret(l.c.Token); err != nil {
			return err
		}
		o.TokenHandler = func() string { return l.reread(l.c.Token) }
	}
	return nil
}

// signByKey takes the file's name out of its placeholder: the library reads the seed
// itself, for each signature. It wants to know the public key from the beginning, so
// that a seed that is replaced is found when the store is opened again.
func (l *link) signByKey(o *nats.Options) error {
	if _, err := l.secret(l.c.NKey); err != nil {
		return err
	}
	sign, err := nats.NkeyOptionFromSeed(fileOf(l.c.NKey))
	if err != nil {
		return fmt.Errorf("reading the nkey %s: it is no seed of a user, which begins with SU: %w", l.c.NKey, err)
	}
	return sign(o)
}

// secret returns what a placeholder stands for.
func (l *link) secret(placeholder string) (string, error) {
	value, err := l.c.Resolve(placeholder)
	value = strings.TrimSpace(value) // a secret's file often ends with a line break
	l.known.add(value)
	if err == nil && value == "" {
		err = fmt.Errorf("reading %s: it is empty", placeholder)
	}
	return value, err
}

// reread is secret for the library, which takes no error; the server then says that it
// does not know us, and we say why.
func (l *link) reread(placeholder string) string {
	value, err := l.secret(placeholder)
	if err != nil {
		l.lose(err)
	}
	return value
}

// lose takes note of why there is no connection; nil is that there is one. A server that
// does not let us in closes the connection right behind that, which says less.
func (l *link) lose(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isSignIn(l.lost) && errors.Is(err, io.EOF) {
		return
	}
	l.lost = err
}

// hear takes note of what the server says unasked.
func (l *link) hear(err error) {
	if isSignIn(err) {
		l.lose(err)
	}
	if !errors.Is(err, nats.ErrPermissionViolation) && !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		return
	}
	l.mu.Lock()
	f, tell := l.flight, l.onDenied
	l.mu.Unlock()
	if f != nil {
		f.fail(err)
	}
	if tell != nil {
		tell(err)
	}
}

// reason is why there is no connection.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		return errors.New("there is no connection")
	}
	return l.lost
}

func (l *link) current() *flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flight
}

func (l *link) enter(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flight = f
}

// request lets f ask the server something, for as long as an answer may take. What the
// server does not let us do gets no answer, so that it ends f.
func (l *link) request(ctx context.Context, f func(ctx context.Context) error) error {
	if !l.nc.IsConnected() {
		return &offlineError{l.reason()}
	}
	l.dialer.ask()
	bounded, cancel := context.WithTimeoutCause(ctx, l.c.Timeout, errNoAnswer)
	defer cancel()
	bounded, deny := context.WithCancelCause(bounded)
	defer deny(nil)
	l.mu.Lock()
	l.onDenied = deny
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.onDenied = nil
	}()
	// A write that blocks heeds no context: it is broken off if it does not end by itself.
	ended := make(chan struct{})
	defer close(ended)
	defer context.AfterFunc(bounded, func() {
		select {
		case <-ended:
		case <-time.After(blocked):
			l.dialer.abort()
		}
	})()
	err := f(bounded)
	if err != nil && bounded.Err() != nil {
		return context.Cause(bounded)
	}
	return err
}

// close ends the link. What is under way on it is broken off.
func (l *link) close() {
	l.dialer.abort()
	l.nc.Close()
}
