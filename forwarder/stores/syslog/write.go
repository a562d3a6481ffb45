package syslogstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var (
	errClosed  = errors.New("it is closed")
	errTimeout = errors.New("the time is over")
)

// Write writes the batch, whole messages only. A connection that turns out to be broken
// is replaced once; what is kept is written on a new one before the batch is, in order.
// After an error the connection is given up, since a part of a message may be on it.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	if len(batch) == 0 {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("writing to audit store %q: it was broken off: %w", s.target.location(), context.Cause(ctx))
	}
	defer func() { <-s.turn }()
	if s.closing {
		return fmt.Errorf("writing to audit store %q: it is closed", s.target.location())
	}
	p, err := s.encode(batch)
	if err != nil {
		return err
	}
	broken, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()
	if err := s.write(broken, p); err != nil {
		switch {
		case s.closed.Err() != nil:
			err = errClosed
		case ctx.Err() != nil:
			err = fmt.Errorf("it was broken off: %w", context.Cause(ctx))
		}
		return fmt.Errorf("writing entries %d to %d to audit store %q: %w", p.first, p.last, s.target.location(), err)
	}
	p.at = time.Now()
	s.kept.add(p)
	return nil
}

// encode makes the messages of a batch. It refuses one that is larger than the receiver
// takes before anything is written.
func (s *Store) encode(batch []forwarder.Record) (part, error) {
	p := part{entries: len(batch), first: batch[0].Sequence, last: batch[0].Sequence}
	size := 0
	for i := range batch {
		size += len(batch[i].JSON) + 512
	}
	p.frames = make([]byte, 0, size)
	var message []byte
	for i := range batch {
		r := &batch[i]
		p.first, p.last = min(p.first, r.Sequence), max(p.last, r.Sequence)
		message = s.format.append(message[:0], r)
		if s.c.MaxMessage > 0 && len(message) > s.c.MaxMessage {
			return part{}, &forwarder.RefusedError{Err: fmt.Errorf("writing entry %d to audit store %q: its message has %d bytes, and max_message is %d: "+
				"raise what the receiver takes, and then max_message", r.Sequence, s.target.location(), len(message), s.c.MaxMessage)}
		}
		p.frames = frame(p.frames, message)
	}
	return p, nil
}

// write writes a part, on a new connection if there is none that lives.
func (s *Store) write(ctx context.Context, p part) error {
	for {
		if s.conn != nil {
			if err := s.conn.alive(); err != nil {
				s.lose(err)
			}
		}
		fresh := s.conn == nil
		if fresh {
			if err := s.connect(ctx); err != nil {
				return err
			}
		}
		err := s.conn.send(ctx, p.frames)
		if err == nil && fresh {
			err = s.conn.prove(ctx, s.c.probation)
		}
		if err == nil {
			if fresh {
				s.kept.owed = false
			}
			s.kept.forget(time.Now())
			return nil
		}
		err = s.conn.explain(err)
		s.lose(err)
		if fresh || ctx.Err() != nil || errors.Is(err, errTimeout) {
			return err
		}
		// The connection was an old one, and what broke it may be over: a receiver that was
		// started again.
	}
}

// connect makes a connection and writes on it what is owed.
func (s *Store) connect(ctx context.Context) error {
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	s.conn = c
	if !s.kept.owed {
		return nil
	}
	again := 0
	for i := range s.kept.parts {
		p := &s.kept.parts[i]
		if err := c.send(ctx, p.frames); err != nil {
			err = fmt.Errorf("writing again what was written before the connection broke: %w", c.explain(err))
			s.lose(err)
			return err
		}
		p.at = time.Now()
		again += p.entries
		if s.c.wrote != nil {
			s.c.wrote(c.raw.LocalAddr().String(), again)
		}
	}
	first, last := s.kept.bounds()
	s.log.Info("entries were written again because the connection had broken; they repeat where the receiver had them",
		"location", s.target.location(), "entries", again, "first", first, "last", last)
	return nil
}
