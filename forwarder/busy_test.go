package forwarder

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// come has entries come at a pace to a store that takes as long as a database does.
func come(t *testing.T, each time.Duration, n int) []int {
	t.Helper()
	source, store := newFakeSource(), &fakeStore{hook: func(context.Context, int) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- New("s", source, store, Options{}).Run(ctx) }()
	for range n {
		time.Sleep(each)
		source.add(t, 1)
	}
	time.Sleep(time.Second)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := store.got(); !slices.Equal(got, sequence(1, uint64(n))) {
		t.Errorf("%d of %d entries were delivered", len(got), n)
	}
	return store.sizes()
}

func TestManyEntriesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if sizes := come(t, time.Second/2000, 4000); len(sizes) > 20 {
			t.Errorf("what came in two seconds went out in %d batches: %v", len(sizes), sizes)
		}
	})
}

func TestAFewEntriesAreNotKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if sizes := come(t, 25*time.Millisecond, 100); slices.Max(sizes) > 1 {
			t.Errorf("entries that come one by one went out in batches of %v", sizes)
		}
	})
}
