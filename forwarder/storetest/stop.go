package storetest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// stopCases are about an end in the middle of things, and about many at a time.
var stopCases = []testCase{
	{"a context that ends lets Write return", func(s *subject) {
		s.need("Target.Slow", s.Slow != nil)
		s.write(records(s, 1, 5))
		s.disturbed, s.loose = true, true
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		early := s.giveUp(ended, records(s, 6, 10))
		batch := records(s, 11, 15)
		fast := s.Slow(2 * s.o.patience)
		short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		late := s.giveUp(short, batch)
		fast()
		if early != nil {
			s.deliver(records(s, 6, 10))
		}
		if late != nil {
			s.deliver(batch)
		}
		s.check()
	}},
	{"closing during a write returns and loses nothing that was acknowledged", func(s *subject) {
		s.loose = true
		s.closeDuringWrites(0)
		s.closeDuringWrites(10_000)
		if s.Slow != nil {
			fast := s.Slow(200 * time.Millisecond)
			s.closeDuringWrites(20_000)
			fast()
		}
		s.write(records(s, 30_000, 30_010))
		s.check()
	}},
	{"Describe and Read may be called during a write", func(s *subject) {
		stop, readers := make(chan struct{}), s.readers()
		done := make(chan struct{}, 1+len(readers))
		store := s.store
		repeat := func(f func()) {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					f()
				}
			}
		}
		go repeat(func() {
			store.Describe()
			s.Opener.Describe()
		})
		for _, r := range readers {
			go repeat(func() {
				for _, err := range r.Read(context.Background(), forwarder.Query{}) {
					if err != nil {
						s.Errorf("reading during a write: %v", err)
					}
				}
			})
		}
		for n := range 20 {
			s.write(records(s, 10*n+1, 10*n+10))
		}
		close(stop)
		s.within("reading", s.o.patience, func() {
			for range cap(done) {
				<-done
			}
		})
		s.check()
	}},
	{"two instances in one store keep apart", func(s *subject) {
		n := 0
		next := func(from string, sequence int) forwarder.Record {
			n++
			b, err := entry(n, audit.RevisionAnswer).Encode()
			if err != nil {
				s.Fatal(err)
			}
			return payload(s, from, sequence, b)
		}
		for sequence := 1; sequence <= 20; sequence += 2 {
			s.write([]forwarder.Record{next(instance, sequence), next(instance, sequence+1)})
			s.write([]forwarder.Record{next(otherInstance, sequence), next(otherInstance, sequence+1)})
		}
		s.write([]forwarder.Record{next(instance, 21), next(otherInstance, 21)})
		s.check()
	}},
}

// giveUp writes with a context that ends before the destination answers.
func (s *subject) giveUp(ctx context.Context, batch []forwarder.Record) error {
	s.Helper()
	err := s.try(ctx, batch)
	if isRefused(err) {
		s.Errorf("writing %s: its context ended, and that is no *forwarder.RefusedError: %v", sequences(batch), err)
	}
	return err
}

// closeDuringWrites closes the store while a goroutine writes to it, and opens it
// again.
func (s *subject) closeDuringWrites(first int) {
	s.Helper()
	store, begun, ended := s.store, make(chan struct{}), make(chan struct{})
	var closed atomic.Bool
	go func() {
		defer close(ended)
		for n := 1; ; n += 5 {
			if n == 16 {
				close(begun)
			}
			last := closed.Load() // one more, so that each store is written to when it is closed
			if s.attempt(context.Background(), store, records(s, first+n, first+n+4)) != nil || last {
				return
			}
		}
	}()
	select {
	case <-begun:
	case <-ended:
		s.Fatal("the store fails before it is closed")
	case <-time.After(s.o.patience):
		s.Fatal("the store takes no batches")
	}
	s.close()
	closed.Store(true)
	s.within("a write that was under way when the store was closed", s.o.patience, func() { <-ended })
	s.open()
	s.check()
}
