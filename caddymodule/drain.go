package caddymodule

import (
	"context"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// drainPoll is how often a drain looks whether it has ended.
const drainPoll = 100 * time.Millisecond

// drain goes on delivering what a buffer still holds when the last
// configuration that used it has gone and the process stays, because a reload
// named another directory or none. It uses that configuration's stores and ends
// when they have everything, or when a configuration names the directory again.
func (s *shared) drain(a *App) {
	pending := s.pending(a)
	if pending == 0 || !s.hold() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	s.stopDrain = cancel
	s.mu.Unlock()
	log := a.log.With("directory", s.dir)
	log.Warn("no configuration uses this audit buffer any longer; delivering what it holds", "entries", pending)
	stores := make([]*delivery, len(a.stores))
	for i, n := range a.stores {
		stores[i] = startDelivery(ctx, s, n, log, forwarder.Options{Logger: log})
	}
	go func() {
		defer s.release()
		tick := time.NewTicker(drainPoll)
		defer tick.Stop()
		for s.pending(a) > 0 && ctx.Err() == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		cancel()
		for _, d := range stores {
			<-d.done
		}
		if left := s.pending(a); left > 0 {
			log.Info("the audit buffer is in use again", "entries", left)
		} else {
			log.Info("the audit buffer is delivered; its directory can be removed")
		}
	}()
}

// pending is what the slowest of a configuration's stores has not taken.
func (s *shared) pending(a *App) (n uint64) {
	b := s.buf.Stats()
	for _, store := range a.stores {
		n = max(n, b.Head-b.Stores[store.name].Position)
	}
	return n
}
