package forwarder

import (
	"testing"
	"testing/synctest"
	"time"
)

// A store that refuses its only entry because it is misconfigured must be asked again:
// somebody mends it, and nothing else has happened on the platform since.
func TestASuspectAloneIsDeliveredOnceTheStoreIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 3)
		broken := true
		sink := &pickyStore{refuses: func(uint64) bool { return broken }}
		h := startPicky(t, source, sink, Options{})
		time.Sleep(10 * time.Minute)
		sink.mu.Lock()
		broken = false
		before := sink.writes
		sink.mu.Unlock()
		time.Sleep(24 * time.Hour)
		h.end()
		if source.positions["main"] != 3 || len(sink.stored) != 3 {
			t.Errorf("a day after the store was mended the position is %d of 3, and it was asked %d times: %s", source.positions["main"], sink.writes-before, h.Status().LastError)
		}
	})
}
