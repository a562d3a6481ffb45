package buffer

import (
	"testing"
)

// What waited for the destination before goes to neither. Nothing is lost in silence.
func TestWhatAStoreGivesUpWithItsDestinationIsToldByAGap(t *testing.T) {
	var g gaps
	b := open(t, newDir(t), Options{Gap: g.entry})
	if err := b.Attach("s", Attachment{Destination: "host-a"}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := b.Append([]byte("entry")); err != nil {
			t.Fatal(err)
		}
	}
	b.Advance("s", 4, 4, 0, 0)
	if err := b.Attach("s", Attachment{Destination: "host-b", From: FromNow}); err != nil {
		t.Fatal(err)
	}
	var got uint64
	g.mu.Lock()
	for _, x := range g.list {
		if x.Store == "s" {
			got += x.Count
		}
	}
	g.mu.Unlock()
	if got != 6 {
		t.Errorf("6 entries go to neither destination, and gaps tell of %d: %+v", got, b.Stats().Stores["s"])
	}
	checkConserved(t, b)
	shut(t, b)
}
