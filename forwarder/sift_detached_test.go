package forwarder

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A store that is detached while an entry of it is being put aside goes on as one of
// which nothing is suspected.
func TestADetachWhileSiftingLeavesNoSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 20)
		sink := &pickyStore{refuses: func(n uint64) bool { return n == 5 }}
		h := &detachingSource{fakeSource: source}
		f := New("main", h, sink, Options{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(time.Minute)
		source.add(t, 5)
		time.Sleep(time.Minute)
		stop()
		<-done
		if len(f.suspicion.ahead)+len(f.suspicion.suspects) > 0 {
			t.Errorf("of entries that the store is done with: %d ahead, %d suspects", len(f.suspicion.ahead), len(f.suspicion.suspects))
		}
	})
}

// detachingSource detaches its store while an entry is put into quarantine, and says
// then what a buffer says.
type detachingSource struct{ *fakeSource }

func (s *detachingSource) Quarantine(store string, _ uint64, _ string) error {
	s.detach(store)
	return errors.New("the store is done with it: an entry is put into quarantine before the position moves")
}
