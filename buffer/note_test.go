package buffer

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestANoteOutlivesADeathAndGoesWithItsDestination(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	if err := b.Attach("s", Attachment{Destination: "bucket-a"}); err != nil {
		t.Fatal(err)
	}
	if got := b.Note("s"); got != nil {
		t.Fatalf("a note nobody has kept: %s", got)
	}
	for n := range 3 {
		if err := b.SetNote("s", fmt.Appendf(nil, `{"first":%d}`, n)); err != nil {
			t.Fatal(err)
		}
	}
	// Rotation takes it along.
	grow(t, b, 1)
	// A copy of the files is what a death of the process leaves behind.
	b2 := open(t, killed(t, dir), Options{})
	if got := string(b2.Note("s")); got != `{"first":2}` {
		t.Errorf("after a death: %q", got)
	}
	shut(t, b2)

	if err := b.Attach("s", Attachment{Destination: "bucket-b", From: FromNow}); err != nil {
		t.Fatal(err)
	}
	if got := b.Note("s"); got != nil {
		t.Errorf("another destination has the note of the one before: %s", got)
	}
	if err := b.SetNote("s", []byte(`"b"`)); err != nil {
		t.Fatal(err)
	}
	if err := b.Attach("s", Attachment{Destination: "bucket-a"}); err != nil {
		t.Fatal(err)
	}
	if got := string(b.Note("s")); got != `{"first":2}` {
		t.Errorf("back at its destination: %q", got)
	}
	checkConserved(t, b)
	shut(t, b)
}

func TestANoteIsBounded(t *testing.T) {
	b := open(t, newDir(t), Options{})
	b.Hold("s")
	for what, note := range map[string]string{
		"no JSON": "{", "nothing": "", "too much": `"` + strings.Repeat("x", MaxNote) + `"`,
	} {
		if err := b.SetNote("s", []byte(note)); err == nil || !strings.Contains(err.Error(), `"s"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := b.SetNote("nobody", []byte("1")); err == nil {
		t.Error("a store that the buffer does not know keeps a note")
	}
	if b.Note("s") != nil || b.Note("nobody") != nil {
		t.Error("something was kept")
	}
	// What the caller does with its bytes afterwards changes nothing.
	mine := []byte(`"mine"`)
	if err := b.SetNote("s", mine); err != nil {
		t.Fatal(err)
	}
	mine[1] = 'X'
	b.Note("s")[1] = 'Y'
	if got := string(b.Note("s")); got != `"mine"` {
		t.Errorf("the note is now %s", got)
	}
	shut(t, b)
	if err := b.SetNote("s", mine); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
