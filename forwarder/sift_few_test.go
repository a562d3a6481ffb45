package forwarder

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// A filter that takes few leaves nothing to compare with among the entries that one
// batch covers.
func TestARefusedEntryOfAStoreThatGetsFewIsComparedWithTheNextOneHoweverFarThatIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 2*maxScan+10)
		last := int64(len(source.payloads))
		sink := &pickyStore{refuses: func(n uint64) bool { return n == 1 }}
		h := startPicky(t, source, sink, Options{Filter: func(e *audit.Entry) bool { return e.Timestamp == 1 || e.Timestamp > last-5 }})
		time.Sleep(2 * time.Minute)
		h.end()
		if source.positions["main"] != uint64(last) || len(source.quarantined) != 1 {
			t.Errorf("after two minutes the position is %d of %d, in quarantine %v: %s", source.positions["main"], last, source.quarantined, h.Status().LastError)
		}
	})
}
