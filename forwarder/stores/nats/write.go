package natsstore

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// headerBytes is about what the headers and the subject of a message take.
const headerBytes = 512

// Write publishes the batch and waits until each message is acknowledged. Up to maxFlying
// of them are under way at a time, in order. After the first that fails nothing more is
// published; those behind it that were under way may be stored, and so before it. To a
// stream that has acknowledged nothing since the store was opened or since a failure, the
// first goes alone, so that those behind it do not overtake it if the stream is just coming
// up. Between streams there is no order.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	if len(batch) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := s.during(ctx)
	defer cancel()
	err := s.publish(ctx, batch)
	if err == nil {
		return nil
	}
	if !isRefusal(err) {
		for _, of := range s.streams {
			of.answers = false
		}
	}
	return s.writing(ctx, batch, err)
}

func (s *Store) publish(ctx context.Context, batch []forwarder.Record) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if !s.link.nc.IsConnected() {
		return &offlineError{s.link.reason()}
	}
	s.link.dialer.ask()
	highest, err := s.acquaint(ctx, batch)
	if err != nil {
		return err
	}
	f := newFlight()
	s.link.enter(f)
	defer func() {
		s.link.enter(nil)
		f.abandon()
	}()
	// A publish that blocks, since the server does not read, heeds no context.
	var sending atomic.Bool
	defer context.AfterFunc(ctx, func() {
		if sending.Load() {
			s.link.dialer.abort()
		}
	})()
	for _, r := range batch {
		instance := instanceOf(r)
		highest[instance] = max(highest[instance], r.Sequence)
		m := s.c.message(r, highest[instance])
		of := s.streams[classOf(r)]
		as := flying{id: m.Subject + " " + messageID(r), stream: of.name, domain: of.domain, bytes: len(r.JSON) + headerBytes}
		if err := f.launch(ctx, m, as); err != nil {
			return s.ended(ctx, f, err)
		}
		sending.Store(true)
		if ctx.Err() != nil { // and so it will not be broken off
			return context.Cause(ctx)
		}
		_, err := s.link.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
		sending.Store(false)
		if err != nil {
			f.failed(m, err)
		}
		if !of.answers {
			if err := f.landed(ctx); err != nil {
				return s.ended(ctx, f, err)
			}
			of.answers = true
		}
	}
	if err := f.landed(ctx); err != nil {
		return s.ended(ctx, f, err)
	}
	for instance, n := range highest {
		s.highest[instance] = max(s.highest[instance], n)
	}
	return nil
}

// ended waits, if a message was refused, for those that fly beside it: the batch is
// divided next, and a stream with replicas refuses a repeat of what it has not yet stored.
func (s *Store) ended(ctx context.Context, f *flight, err error) error {
	if isRefusal(err) {
		f.settle(ctx)
	}
	return err
}

// acquaint sees to all that must be known before the batch is published: its streams,
// and how far they are with each instance.
func (s *Store) acquaint(ctx context.Context, batch []forwarder.Record) (highest map[string]uint64, err error) {
	highest = map[string]uint64{}
	for _, r := range batch {
		if err := s.prepare(ctx, classOf(r)); err != nil {
			return nil, err
		}
		instance := instanceOf(r)
		if _, ok := highest[instance]; ok {
			continue
		}
		n, ok := s.highest[instance]
		if !ok {
			if n, err = s.ask(ctx, instance); err != nil {
				return nil, err
			}
			s.highest[instance] = n
		}
		highest[instance] = n
	}
	return highest, nil
}

// isRefusal reports whether a stream or the library has said that a message is too
// large, which is the one thing about an entry that it can dislike.
func isRefusal(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, errTooLarge) || errors.As(err, &refused) && answers[refused.ErrorCode].refused
}
