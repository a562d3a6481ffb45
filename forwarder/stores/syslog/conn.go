package syslogstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
)

const (
	// maxHeard is what a receiver may say on one connection, in bytes. In syslog it says
	// nothing.
	maxHeard = 64 << 10
	// maxSaid bounds what an error shows of it.
	maxSaid = 200
	// ackPause is the longest pause between two looks at what the receiver's system has
	// acknowledged.
	ackPause = 10 * time.Millisecond
	// reasonTime is how long the reason of an end is waited for that is there already.
	reasonTime = 100 * time.Millisecond
	// keepAliveIdle is when an idle connection is asked whether it lives.
	keepAliveIdle = 10 * time.Second
	// keepAliveInterval and keepAliveCount are how often it is asked again.
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
)

// conn is a connection to the receiver. One goroutine of its own reads, to learn at once
// that the other side has closed; it ends with the connection. All else is used by who
// has the store's turn.
type conn struct {
	net.Conn          // what is written on, with TLS or without
	raw      net.Conn // the one below
	timeout  time.Duration
	// asked says that the receiver has asked for a certificate.
	asked *atomic.Bool

	// broken is closed when nothing can be read any more. Then the fields below are set,
	// and nobody changes them.
	broken chan struct{}
	err    error
	at     time.Time
	said   string // what the receiver said, fit for a log

	// proven says that it has lived for as long as a new one must.
	proven bool
	// acked is when the receiver's system last acknowledged what was written.
	acked time.Time
}

// dial makes a connection. It reads the files of certificates, so that renewed ones are
// found.
func (s *Store) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.c.Timeout, errTimeout)
	defer cancel()
	c := &conn{timeout: s.c.Timeout, asked: new(atomic.Bool), broken: make(chan struct{}), acked: time.Now()}
	var config *tls.Config
	if s.target.encrypted() {
		var err error
		if config, err = c.config(s.c.TLS, s.target.host); err != nil {
			return nil, err
		}
	}
	dial := s.c.dial
	if dial == nil {
		dial = (&net.Dialer{
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount},
			Control:         func(network, _ string, rc syscall.RawConn) error { return setUserTimeout(network, rc, s.c.Timeout) },
		}).DialContext
	}
	network, address := s.target.dial()
	raw, err := dial(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: check the host of its URL, and that the receiver runs and can be reached from here", err)
	}
	c.raw, c.Conn = raw, raw
	if config != nil {
		secured := tls.Client(raw, config)
		c.Conn = secured
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close() // it is of no use
			if errors.Is(context.Cause(ctx), errTimeout) {
				err = fmt.Errorf("the receiver has not agreed on TLS within %s: check that its port is one of TLS", s.c.Timeout)
			}
			return nil, fmt.Errorf("%w%s", err, c.cure(err))
		}
	}
	go c.read()
	return c, nil
}

// config reads the files, and notes when the receiver asks for a certificate.
func (c *conn) config(files TLS, host string) (*tls.Config, error) {
	config, err := files.Config()
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	shown := config.GetClientCertificate
	config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c.asked.Store(true)
		return shown(r)
	}
	return config, nil
}

// read waits for the end. What a receiver says is of no meaning but for an error.
func (c *conn) read() {
	b := make([]byte, 1<<10)
	var said []byte
	for heard := 0; ; {
		n, err := c.Read(b)
		heard += n
		said = append(said, b[:min(n, maxSaid-len(said))]...)
		if err == nil && heard > maxHeard {
			err = errors.New("the receiver sends data, which a syslog receiver does not: check what is behind its URL")
		}
		if err != nil {
			c.err, c.at, c.said = err, time.Now(), printable(said)
			close(c.broken)
			return
		}
	}
}

// printable makes what came from outside fit for a log.
func printable(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, string(b))
	return strings.Join(strings.Fields(s), " ")
}

// close ends the connection and its goroutine.
func (c *conn) close() {
	_ = c.raw.Close() // an error says that it has ended already
	<-c.broken
}

// alive returns why nothing can be written any more, nil if there is no sign of that.
func (c *conn) alive() error {
	select {
	case <-c.broken:
		return c.explain(c.err)
	default:
	}
	if _, open, known := socketState(c.raw); known && !open {
		return c.explain(io.EOF)
	}
	return nil
}

// lastAlive is when the connection, which is closed, lived for certain. Where the other
// side has ended it that is when it did so; a machine that is gone has said nothing since
// it last acknowledged.
func (c *conn) lastAlive() time.Time {
	if errors.Is(c.err, io.EOF) || errors.Is(c.err, syscall.ECONNRESET) || errors.Is(c.err, syscall.EPIPE) {
		return c.at
	}
	return c.acked
}

// send writes bytes and, where the system tells, waits until the receiver's has
// acknowledged them. After an error a part may have been written.
func (c *conn) send(ctx context.Context, b []byte) error {
	deadline := time.Now().Add(c.timeout)
	_ = c.raw.SetWriteDeadline(deadline) // else it is closed, and so is what follows
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.raw.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	defer func() {
		if !stop() {
			<-interrupted // or it would interrupt the next one
		}
	}()
	if _, err := c.Write(b); err != nil {
		return timely(ctx, err)
	}
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, ackPause) {
		unsent, open, known := socketState(c.raw)
		switch {
		case !known:
			c.acked = time.Now()
			return nil
		case !open:
			return io.EOF
		case unsent == 0:
			c.acked = time.Now()
			return nil
		case !time.Now().Before(deadline):
			return errTimeout
		}
		if err := c.wait(ctx, pause); err != nil {
			return err
		}
	}
}

// timely says of an error whether the time was over.
func timely(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTimeout
	}
	return err
}

// prove lets a time pass in which the receiver may break the connection off.
func (c *conn) prove(ctx context.Context, d time.Duration) error {
	err := c.wait(ctx, d)
	if err == nil {
		err = c.alive()
	}
	c.proven = err == nil
	return err
}

// wait returns nil after a time, or why that was not waited for.
func (c *conn) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.broken:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish ends what is written and waits until the receiver ends its side, which it does
// when it has read everything. Nil says that it has.
func (c *conn) finish(ctx context.Context) error {
	if err := c.alive(); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	_ = c.raw.SetWriteDeadline(deadline) // else it is closed, and so is what follows
	if secured, ok := c.Conn.(*tls.Conn); ok {
		if err := secured.CloseWrite(); err != nil {
			return c.explain(err)
		}
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return c.explain(err)
		}
	}
	select {
	case <-c.broken:
	case <-ctx.Done():
		return errors.New("the receiver has not closed the connection in time: check that it keeps up")
	}
	if errors.Is(c.err, io.EOF) {
		return nil
	}
	return c.explain(c.err)
}

// explain says what an error of the connection is about, and what to do.
func (c *conn) explain(err error) error {
	cause, said := err, ""
	over := !errors.Is(err, errTimeout) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	if over { // and why will be read now
		select {
		case <-c.broken:
		case <-time.After(reasonTime):
		}
	}
	select {
	case <-c.broken:
		said = c.said
		// The receiver's own words, such as an alert of TLS, say more than that nothing can
		// be written.
		if over {
			cause = c.err
		}
	default:
	}
	switch {
	case errors.Is(cause, errTimeout):
		return fmt.Errorf("the receiver has not taken them within %s: check that it keeps up, or give it a longer timeout: %w", c.timeout, errTimeout)
	case errors.Is(cause, io.EOF):
		cause = errors.New("the receiver has closed the connection")
		if said != "" {
			return fmt.Errorf("%w and said %q, which is no syslog: check what is behind its URL", cause, said)
		}
	}
	return fmt.Errorf("%w%s", cause, c.cure(cause))
}

// cure is what to do about an error, as the end of a message.
func (c *conn) cure(err error) string {
	var unverified *tls.CertificateVerificationError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &hostname):
		return ": check the host of its URL, or name what the certificate has by tls server_name"
	case errors.As(err, &unverified):
		return ": check the receiver's certificate, or name the file of its issuer's by tls ca"
	case c.asked.Load() && !c.proven:
		return ": the receiver asks for a certificate: check that it takes that of tls client_certificate, and see its log; " +
			"one that is given a longer message than it takes may end a connection too: see max_message"
	}
	return ": see the receiver's log for why; one that is given a longer message than it takes may end a connection: see max_message"
}
