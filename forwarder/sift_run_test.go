package forwarder

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Whoever can make entries that a store refuses must not be able to hold it for ever by
// making many of them in a row: the entries behind them are accepted.
func TestARunOfRefusedEntriesThatIsLongerThanABatchDoesNotHoldAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 400)
		sink := &pickyStore{refuses: func(n uint64) bool { return n <= 300 }}
		h := startPicky(t, source, sink, Options{})
		for range 24 * 60 { // a day of heartbeats
			time.Sleep(time.Minute)
			source.add(t, 1)
		}
		time.Sleep(time.Minute)
		h.end()
		if head := uint64(len(source.payloads)); source.positions["main"] != head || len(source.quarantined) != 300 {
			t.Errorf("after a day the position is %d of %d, %d in quarantine, %d stored: %s",
				source.positions["main"], head, len(source.quarantined), len(sink.stored), h.Status().LastError)
		}
	})
}

// The same by size: what is read at least is bounded by bytes too. All sizes are an eighth
// of what they are elsewhere, since the race detector takes long to read large entries.
func TestARunOfLargeRefusedEntriesDoesNotHoldAStore(t *testing.T) {
	defer func(was int) { siftBytes = was }(siftBytes)
	siftBytes /= 8
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		for n := range 12 {
			e := audit.Entry{
				ID: fmt.Sprintf("entry-%d", n+1), Revision: audit.RevisionAnswer, Timestamp: int64(n + 1), SchemaVersion: audit.SchemaVersion,
				Action: audit.Action{Metadata: map[string]any{"body": strings.Repeat("x", 1_020_000/8)}},
			}
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			source.append(b)
		}
		sink := &pickyStore{refuses: func(n uint64) bool { return n <= 12 }}
		h := startPicky(t, source, sink, Options{Batching: Batching{BatchBytes: DefaultBatchBytes / 8}})
		for range 60 {
			time.Sleep(time.Minute)
			source.add(t, 1)
		}
		sink.mu.Lock()
		before := sink.writes
		sink.mu.Unlock()
		time.Sleep(time.Hour)
		h.end()
		if source.positions["main"] != uint64(len(source.payloads)) {
			t.Errorf("after two hours the position is %d of %d; asked %d times in the last hour: %s",
				source.positions["main"], len(source.payloads), sink.writes-before, h.Status().LastError)
		}
	})
}
