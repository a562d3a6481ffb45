package forwarder

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What is left of a backlog waits for more, as without one: a store with a BatchWait is one
// where a request costs more than what it holds.
func TestTheRestOfABacklogIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		source.add(t, 450)
		store := &fakeStore{hook: func(_ context.Context, attempt int) error {
			if attempt <= 2 { // more comes while the backlog is written
				source.add(t, 10)
			}
			return nil
		}}
		o := Options{Batching: Batching{BatchEntries: 200, MaxBatchEntries: 200, BatchWait: time.Second}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- New("s", source, store, o).Run(ctx) }()
		time.Sleep(5 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := store.sizes(); !slices.Equal(got, []int{200, 200, 70}) {
			t.Errorf("it went out in batches of %v", got)
		}
	})
}
