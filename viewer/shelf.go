package viewer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// shelf keeps the Log open between requests, and opens another one after an error.
type shelf struct {
	open   func(ctx context.Context) (Log, error)
	flight singleflight.Group

	mu      sync.Mutex
	current *book
	closed  bool
	// failed is why it could not be opened the last time, and when.
	failed   error
	failedAt time.Time
}

// failedFor is how long a store that cannot be opened is not tried again, so that those who
// wait do not try one after the other.
const failedFor = time.Second

// book is an open Log, and how many read it.
type book struct {
	log     Log
	readers int
	gone    bool // it is on the shelf no longer: the last reader closes it
}

// openWithin bounds how long it takes to open a store.
const openWithin = 10 * time.Second

// take returns the open Log, and opens it if it is not open: once for all who wait, and not
// under the lock. The caller gives it back, with the error that it met.
func (s *shelf) take(ctx context.Context) (*book, error) {
	for {
		b, err := s.taken()
		if b != nil || err != nil {
			return b, err
		}
		opened := s.flight.DoChan("", func() (any, error) {
			if s.tried() { // by somebody, between the look above and here
				return nil, nil
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openWithin)
			defer cancel()
			log, err := s.open(ctx)
			return nil, s.opened(log, err)
		})
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// taken takes what is open, if it is. With neither a book nor an error somebody has to open
// it.
func (s *shelf) taken() (*book, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, &unavailable{"opening the audit log", errClosed}
	case s.current != nil:
		s.current.readers++
		return s.current, nil
	case s.failing():
		return nil, &unavailable{"opening the audit log", s.failed}
	}
	return nil, nil
}

// failing reports whether opening it has failed lately. The caller holds mu.
func (s *shelf) failing() bool { return s.failed != nil && time.Since(s.failedAt) < failedFor }

// tried reports whether nobody has to open it, or may. A second Log would take the place of
// the first, which then nobody closes.
func (s *shelf) tried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.current != nil || s.failing()
}

var errClosed = errors.New("this configuration is not in force any more")

func (s *shelf) opened(log Log, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed, s.failedAt = err, time.Now()
		return err
	}
	s.failed = nil
	if s.closed {
		return log.Close()
	}
	s.current = &book{log: log}
	return nil
}

func (s *shelf) give(b *book, failed bool) {
	s.mu.Lock()
	b.readers--
	if failed && s.current == b {
		s.current, b.gone = nil, true
	}
	last := b.gone && b.readers == 0
	s.mu.Unlock()
	if last {
		_ = b.log.Close() // it was read only
	}
}

// close takes the Log off the shelf.
func (s *shelf) close() error {
	s.mu.Lock()
	b := s.current
	s.current, s.closed = nil, true
	if b != nil {
		b.gone = true
	}
	last := b != nil && b.readers == 0
	s.mu.Unlock()
	if last {
		return b.log.Close()
	}
	return nil
}

// slots bound how many of something there are at one time, over all and for each one who
// asks.
type slots struct {
	mu        sync.Mutex
	all, each int
	taken     map[string]int
	sum       int
}

func newSlots(all, each int) *slots { return &slots{all: all, each: each, taken: map[string]int{}} }

// admit is take for a visitor. The caller calls leave.
func (s *slots) admit(in *Visitor) (leave func(), err error) {
	who := in.Actor.Key()
	if !s.take(who) {
		return nil, errBusy
	}
	return func() { s.give(who) }, nil
}

// take reports false if there is none free.
func (s *slots) take(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum >= s.all || s.taken[who] >= s.each {
		return false
	}
	s.sum++
	s.taken[who]++
	return true
}

func (s *slots) give(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum--
	if s.taken[who]--; s.taken[who] == 0 {
		delete(s.taken, who)
	}
}
