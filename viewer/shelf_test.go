package viewer

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

// countedLog counts how often it is closed.
type countedLog struct {
	Log
	closed *atomic.Int32
}

func (l *countedLog) Close() error {
	l.closed.Add(1)
	return nil
}

// What is opened for many who come at one moment is opened once, and each Log that was
// opened is closed.
func TestALogIsOpenedOnceForAllWhoComeAtOneMoment(t *testing.T) {
	for range 300 {
		var opened, closed atomic.Int32
		s := &shelf{open: func(context.Context) (Log, error) {
			opened.Add(1)
			return &countedLog{closed: &closed}, nil
		}}
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				<-start
				b, err := s.take(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				s.give(b, false)
			})
		}
		close(start)
		all.Wait()
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if o, c := opened.Load(), closed.Load(); o != 1 || c != 1 {
			t.Fatalf("opened %d times and closed %d times", o, c)
		}
	}
}
