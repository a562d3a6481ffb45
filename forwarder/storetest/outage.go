package storetest

import (
	"context"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// outageCases are about a destination that is down, slow or cut off.
var outageCases = []testCase{
	{"a store that is down refuses nothing, and goes on when it is back", func(s *subject) {
		s.need("Target.Break", s.Break != nil)
		s.write(records(s, 1, 5))
		s.disturbed = true
		batch := records(s, 6, 15)
		for range 2 {
			mend := s.Break()
			s.fail(batch)
			s.fail(batch)
			mend()
			s.deliver(batch)
		}
		s.disturbed = false
		s.write(records(s, 16, 20))
		s.check()
	}},
	{"a store that is opened while it is down goes on when it is up", func(s *subject) {
		s.need("Target.Break", s.Break != nil)
		s.write(records(s, 1, 5))
		s.close()
		s.disturbed = true
		batch := records(s, 6, 10)
		mend := s.Break()
		for range 2 {
			// It may find out at once, or with the first batch.
			if err := s.tryOpen(); err == nil {
				s.fail(batch)
				s.close()
			} else if isRefused(err) {
				s.Errorf("opening the store while it is down: this is no *forwarder.RefusedError: %v", err)
			}
		}
		mend()
		for deadline := time.Now().Add(s.o.patience); s.tryOpen() != nil; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				s.Fatalf("opening the store: it does not recover")
			}
		}
		s.deliver(batch)
		s.disturbed = false
		s.write(records(s, 11, 15))
		s.check()
	}},
	{"a slow destination is waited for", func(s *subject) {
		s.need("Target.Slow", s.Slow != nil)
		s.write(records(s, 1, 5))
		s.disturbed = true
		batch := records(s, 6, 10)
		fast := s.Slow(200 * time.Millisecond)
		s.deliver(batch)
		fast()
		s.disturbed = false
		s.write(records(s, 11, 15))
		s.check()
	}},
	{"a connection that is reset in the middle of a batch costs nothing", func(s *subject) {
		s.need("Target.Cut", s.Cut != nil)
		s.write(records(s, 1, 5))
		for n := 10; n < 40; n += 10 {
			s.disturbed = true
			batch := records(s, 100*n, 100*n+250)
			s.Cut()
			err := s.try(context.Background(), batch)
			if isRefused(err) {
				s.Errorf("writing %s: the connection was reset, and that is no *forwarder.RefusedError: %v", sequences(batch), err)
			}
			if err != nil {
				s.deliver(batch)
			}
			s.disturbed = false
			s.write(records(s, 100*n+300, 100*n+305))
		}
		s.check()
	}},
}

// fail makes one attempt while the store is down.
func (s *subject) fail(batch []forwarder.Record) {
	s.Helper()
	switch err := s.try(context.Background(), batch); {
	case err == nil:
		s.Fatalf("writing %s: it was acknowledged while the store is down", sequences(batch))
	case isRefused(err):
		s.Fatalf("writing %s: the store is down, and that is no *forwarder.RefusedError: %v", sequences(batch), err)
	}
}
