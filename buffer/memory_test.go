package buffer

import (
	"runtime"
	"testing"
	"weak"
)

// What a call has given is let go of when it has ended, although calls overlap all the time:
// each commit has the intent of one and the outcome of the one before.
func TestACallThatHasEndedIsNotKeptInMemory(t *testing.T) {
	b := open(t, newDir(t), Options{})
	begin := func(payload []byte) *Call {
		c, err := b.Admit(1<<10, Caller{Known: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Begin(payload); err != nil {
			t.Fatal(err)
		}
		return c
	}
	last, first := func() (*Call, weak.Pointer[byte]) {
		payload := make([]byte, 1<<10)
		return begin(payload), weak.Make(&payload[0])
	}()
	for range 50 {
		if err := last.AppendLater(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
		next := begin(make([]byte, 1<<10)) // with the same commit
		last.Release()
		last = next
	}
	for range 3 {
		runtime.GC()
	}
	if first.Value() != nil {
		t.Error("the first call's intent is in memory still")
	}
	if err := last.Append([]byte("end")); err != nil {
		t.Error(err)
	}
	last.Release()
}
