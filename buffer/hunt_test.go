package buffer

import (
	"strings"
	"testing"
)

// letPass has n calls pass.
func letPass(t *testing.T, b *Buffer, n int) {
	t.Helper()
	for range n {
		c, err := b.Admit(100, Caller{Known: true})
		if err != nil || !c.Passed() {
			t.Fatalf("it does not pass: %v", err)
		}
		c.Release()
	}
}

// full is how a buffer is full whose disk works.
func full(told *gaps) Options {
	return Options{OnFault: Pass, MinFree: 1 << 60, Gap: told.entry}
}

func TestACloseTellsOfTheCallsThatHaveJustPassed(t *testing.T) {
	dir, told := newDir(t), &gaps{}
	b := open(t, dir, full(told))
	letPass(t, b, 7)
	shut(t, b)
	told.list = nil
	b = open(t, dir, Options{Gap: told.entry, MinFree: 1})
	recorded := 0
	for _, e := range entries(t, b, 1) {
		if strings.HasPrefix(e, "gap passed") {
			recorded++
		}
	}
	if recorded != 1 || b.Stats().Calls.Passed != 7 {
		t.Errorf("7 calls passed before an ordered end: %d gaps in the log, %+v", recorded, b.Stats().Calls)
	}
}

