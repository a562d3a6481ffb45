package buffer

import (
	"testing"
)

// A configuration with another destination holds the store until the forwarder of the
// one before has ended. While that hangs, a detachable store must not become a required
// one: what is full of it refuses calls.
func TestADetachableStoreStaysOneWhileItsDestinationChanges(t *testing.T) {
	b := open(t, newDir(t), Options{})
	if err := b.Attach("s", Attachment{Destination: "host-a", MaxLag: 100_000}); err != nil {
		t.Fatal(err)
	}
	b.Hold("s") // as shared.attach does
	if b.Stats().MaxLag["s"] == 0 {
		t.Error("it has no bound any more")
	}
	shut(t, b)
}
