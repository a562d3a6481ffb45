// Package syslogstore is the audit store behind a syslog receiver: each entry is sent as
// one RFC 5424 message, octet-counted, over TLS (RFC 5425).
//
// Its delivery is unacknowledged: in syslog nobody says that anything has arrived. What
// the store wrote last is kept in memory and written again when a connection breaks.
package syslogstore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// closeGrace is what a Write that is under way gets when Close is called, before it
	// is broken off. The forwarder calls Close when there is none.
	closeGrace = 2 * time.Second
	// closeTime is how long Close waits for the receiver to have read everything.
	closeTime = 5 * time.Second
)

// Store writes messages to one receiver. It is a forwarder.Store, with delivery
// unacknowledged.
//
// What Write has returned nil for was taken by the operating system and, on Linux,
// acknowledged by the receiver's: it is in the memory of that machine, and no syslog
// receiver says more. So it is kept, and written again on the next connection if this
// one breaks within Config.Resend.
type Store struct {
	c      Config
	target target
	format format
	log    *slog.Logger

	// stop ends a Write that is under way when Close has waited for it long enough.
	stop   context.CancelFunc
	closed context.Context
	// turn is held by who uses what follows.
	turn    chan struct{}
	closing bool
	conn    *conn // nil while there is none
	kept    kept
}

var _ forwarder.Store = (*Store)(nil)

// Open checks the configuration. It connects to nothing: a receiver that is down shows
// at the first batch. A nil logger discards.
//
// What a store of this process left that wrote to the same receiver before, as at a
// reload, becomes this one's.
func Open(c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c = c.withDefaults()
	t, err := c.check()
	if err != nil {
		return nil, err
	}
	if !t.encrypted() && !t.local() {
		log.Warn("audit entries travel unencrypted to this store", "location", t.location())
	}
	s := &Store{c: c, target: t, format: c.format(), log: log, turn: make(chan struct{}, 1)}
	s.closed, s.stop = context.WithCancel(context.Background())
	s.kept = legacies.take(t.location())
	s.kept.span = c.Resend
	s.kept.forget(time.Now())
	if given := s.kept.without(c.MaxMessage); given > 0 {
		log.Error("entries that were written to the receiver and not kept by it will not be written again: they are larger than max_message",
			"location", t.location(), "entries", given)
	}
	return s, nil
}

// Describe names the receiver.
func (s *Store) Describe() forwarder.Description { return s.c.describe(s.target) }

// Close ends the connection and waits until the receiver has read all that was written
// and has closed its side too. If the connection has broken since the last batch, what is
// kept is written once more on another one. Both together take up to five seconds. The
// error says that the receiver has not read all, so that what was written last may be
// lost with this process.
func (s *Store) Close() error {
	select {
	case s.turn <- struct{}{}:
	case <-time.After(closeGrace):
		s.stop()
		s.turn <- struct{}{}
	}
	defer func() { <-s.turn }()
	s.stop()
	s.closing = true
	err := s.finish()
	left := s.kept
	s.kept = kept{}
	switch {
	case left.empty() && err != nil && left.span <= 0:
		return fmt.Errorf("closing audit store %q: the receiver has not confirmed that it has read all: %w", s.target.location(), err)
	case left.empty():
		return nil // all that was written is old
	}
	legacies.leave(s.target.location(), left)
	if err == nil {
		return nil
	}
	first, last := left.bounds()
	return fmt.Errorf("closing audit store %q: the receiver has not confirmed that it has read all, so that entries %d to %d may not have arrived: "+
		"a reload writes them again, a new process does not: look for them at the receiver: %w", s.target.location(), first, last, err)
}

// finish lets the receiver read to the end. What is owed then is what it has not.
func (s *Store) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.c.closeTime)
	defer cancel()
	var err error
	if s.conn != nil {
		err = s.conn.finish(ctx)
		s.lose(err)
	}
	if err == nil && !s.kept.owed || ctx.Err() != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	// An end that comes by itself is none of a receiver that has read all.
	if err = s.conn.prove(ctx, s.c.probation); err == nil {
		err = s.conn.finish(ctx)
	}
	s.kept.owed = false
	s.lose(err)
	return err
}

// lose gives the connection up. All that is kept is owed from now on, unless the
// receiver has read it: then err is nil.
func (s *Store) lose(err error) {
	c := s.conn
	s.conn = nil
	c.close()
	s.kept.forget(c.lastAlive())
	if err != nil {
		s.kept.owed = !s.kept.empty()
	}
}
