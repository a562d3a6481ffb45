package caddymodule

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
)

// Two operators at once: of an entry that a store has got, no gap may say that it was
// given up.
func TestAnEntryIsNotDroppedWhileItIsBeingRetried(t *testing.T) {
	var mu sync.Mutex
	var told []buffer.Gap
	b, err := buffer.Open(filepath.Join(t.TempDir(), "buffer"), buffer.Options{MaxWait: time.Minute, Gap: func(g buffer.Gap) []byte {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, g)
		return gapEntry(g)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	payload, err := audit.Event(audit.EventProbe, time.Now(), nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Append(payload); err != nil {
			t.Fatal(err)
		}
	}
	b.Hold("s")
	if err := b.Quarantine(buffer.Quarantined{Store: "s", Sequence: 1, Reason: "422", Payload: payload}); err != nil {
		t.Fatal(err)
	}
	b.Advance("s", 1, 0, 0, 1)
	sink := &closingStore{entered: make(chan struct{}), leave: make(chan struct{})}
	s := &shared{buf: b, leases: map[string]chan struct{}{}}
	n := &stores.Store{StoreConfig: new(stores.StoreConfig), Name: "s", Opener: sink}
	ctx, stop := context.WithCancel(t.Context())
	a := &App{stores: stores.List{n}}
	a.deliveries = []*delivery{startDelivery(ctx, s, n, retention{}, slog.New(slog.DiscardHandler), nil)}
	defer func() {
		stop()
		<-a.deliveries[0].done
	}()
	await(t, "delivery", func() bool { return b.Position("s") == 2 })
	sink.mu.Lock()
	sink.armed = true
	sink.mu.Unlock()
	retried := make(chan operator.ResolvedLine, 1)
	go func() {
		line, _ := a.resolve(t.Context(), s, &operator.QuarantineOrder{Store: "s", Do: operator.DoRetry}, 1)
		retried <- line
	}()
	<-sink.entered
	dropped := make(chan operator.ResolvedLine, 1)
	go func() {
		line, _ := a.resolve(t.Context(), s, &operator.QuarantineOrder{Store: "s", Do: operator.DoDrop, Reason: "too large"}, 1)
		dropped <- line
	}()
	time.Sleep(200 * time.Millisecond)
	sink.mu.Lock()
	sink.armed = false
	sink.mu.Unlock()
	close(sink.leave)
	first, second := <-retried, <-dropped
	mu.Lock()
	defer mu.Unlock()
	for _, g := range told {
		if g.Reason == buffer.GapDropped {
			t.Errorf("the store has the entry, and a gap says that it was dropped: retry %+v, drop %+v", first, second)
		}
	}
}
