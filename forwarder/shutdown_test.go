package forwarder

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStoppingWhenIdleReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, newFakeSource(), &fakeStore{}, Options{})
		if !h.Status().Running {
			t.Error("status does not say running")
		}
		begun := time.Now()
		if err := h.end(); err != nil || time.Since(begun) != 0 {
			t.Errorf("stopped after %v with %v", time.Since(begun), err)
		}
		if h.Status().Running {
			t.Error("status says running")
		}
	})
}

func TestStoppingLetsTheBatchInHandFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		sink := &fakeStore{hook: func(ctx context.Context, _ int) error {
			select {
			case <-time.After(4 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		source.add(t, 5)
		h := start(t, source, sink, Options{Batching: Batching{BatchEntries: 2, MaxBatchEntries: 2}})
		begun := time.Now()
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d != 4*time.Second {
			t.Errorf("stopped after %v, want 4s", d)
		}
		if diff := cmp.Diff(sequence(1, 2), sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		if p := source.Position("main"); p != 2 {
			t.Errorf("position %d, want 2", p)
		}
	})
}

func TestStoppingAbandonsASlowBatchAndTheNextRunDeliversIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		stuck := &fakeStore{hook: func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		source.add(t, 5)
		h := start(t, source, stuck, Options{FlushTimeout: 2 * time.Second})
		begun := time.Now()
		err := h.end()
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "entries 1 to 5") {
			t.Errorf("stopped with %v", err)
		}
		if d := time.Since(begun); d != 2*time.Second {
			t.Errorf("stopped after %v, want 2s", d)
		}
		if p := source.Position("main"); p != 0 {
			t.Errorf("position %d, want 0", p)
		}
		if h.log.Len() > 0 {
			t.Errorf("an error that is returned was logged too:\n%s", h.log)
		}

		sink := &fakeStore{}
		h = start(t, source, sink, Options{})
		if err := h.end(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sequence(1, 5), sink.got()); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
	})
}

func TestStoppingWhileTheStoreFailsDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newFakeSource()
		down := errors.New("down")
		sink := &fakeStore{hook: func(context.Context, int) error { return busyFor(down) }}
		source.add(t, 1)
		h := start(t, source, sink, Options{})
		begun := time.Now()
		if err := h.end(); !errors.Is(err, down) || time.Since(begun) != 0 {
			t.Errorf("stopped after %v with %v", time.Since(begun), err)
		}
	})
}

// busyFor wraps an error so that the pause after it is long.
func busyFor(err error) error { return errors.Join(err, busy{time.Minute}) }
