package caddymodule

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// aheadStore has seen more of a buffer than the buffer has.
type aheadStore struct {
	watchedStore
	took []forwarder.Record
}

func (s *aheadStore) Open(context.Context, *slog.Logger) (forwarder.Store, error) { return s, nil }

func (*aheadStore) Highest(context.Context, string) (uint64, error) { return 1000, nil }

func (s *aheadStore) Write(_ context.Context, batch []forwarder.Record) error {
	s.took = append(s.took, batch...)
	return nil
}

// What a buffer records after it was put back to a time before has a new origin, in the
// batch that showed it too: the store has other entries under the old one.
func TestTheBatchThatShowsThatABufferIsBehindHasTheNewOrigin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	event, err := audit.Event(audit.EventHeartbeat, time.Now(), nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	var b *buffer.Buffer
	for range 2 {
		if b, err = buffer.Open(dir, buffer.Options{MaxWait: time.Minute, Gap: gapEntry}); err != nil {
			t.Fatal(err)
		}
		if err := b.Append(event); err != nil {
			t.Fatal(err)
		}
		if b.Stats().Head == 1 {
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer b.Close(context.Background())
	store := new(aheadStore)
	late := newLateStore(store, "ahead", b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- forwarder.New("ahead", source{b, nil}, late, forwarder.Options{}).Run(ctx) }()
	await(t, "delivery", func() bool { return b.Position("ahead") >= 2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b.Instance(1) == b.Instance(2) {
		t.Fatal("there is no new origin")
	}
	for _, r := range store.took {
		doc, err := audit.Decode(r.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if want := b.Instance(r.Sequence); r.Entry.Origin.Instance != want || doc.Origin.Instance != want || doc.Origin.Sequence != r.Sequence {
			t.Errorf("entry %d went to the store as %+v, and is of %s", r.Sequence, doc.Origin, want)
		}
	}
}

func TestAStopDoesNotWaitForAStoreThatHangs(t *testing.T) {
	reached, heal := make(chan struct{}), make(chan struct{})
	var once sync.Once
	watchedHangs.Store(&watchedHang{func() {
		once.Do(func() { close(reached) })
		<-heal
	}})
	defer watchedHangs.Store(nil)
	r := newRig(t, ok)
	r.load(strings.Replace(rigCaddyfile, "store sqlite %STORE%", "store watched", 1), proxy)
	<-reached // with the start's own event
	defer close(heal)
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for ever")
	}
}
