package caddymodule

import (
	"context"
	"time"
)

// drainPoll is how often a drain looks whether it has ended.
const drainPoll = 100 * time.Millisecond

// drain goes on delivering what a buffer still holds when the last
// configuration that used it has gone and the process stays, because a reload
// named another directory or none, or has failed. It uses that configuration's
// stores and ends when the calls in flight have ended and the stores have
// everything, or when a configuration names the directory again.
func (s *shared) drain(a *App) {
	s.mu.Lock()
	if s.ended || s.stopDrain != nil {
		s.mu.Unlock()
		return
	}
	s.users++
	ctx, cancel := context.WithCancel(context.Background())
	s.stopDrain = cancel
	s.mu.Unlock()

	log := a.log.With("directory", s.dir)
	log.Warn("no configuration uses this audit buffer any longer; delivering what it holds", "entries", s.pending(a))
	stores := make([]*delivery, len(a.stores))
	for i, n := range a.stores {
		stores[i] = a.deliverTo(ctx, s, n, log)
	}
	go func() {
		defer s.release()
		if s.awaitDelivery(ctx, a) && s.stopped() {
			s.awaitDelivery(ctx, a) // the entry that says so
		}
		cancel()
		for _, d := range stores {
			<-d.done
		}
		left, aside := s.pending(a), asideIn(s.buf.Stats())
		switch {
		case left > 0:
			log.Info("the audit buffer is in use again", "entries", left)
		case aside > 0:
			log.Warn("the audit buffer is delivered, but for what is in its quarantine: keep its directory", "entries", aside)
		default:
			log.Info("the audit buffer is delivered; its directory can be removed")
		}
	}()
}

// awaitDelivery waits until nobody but the drain uses the buffer and nothing is
// pending. It reports false when ctx has ended before that.
func (s *shared) awaitDelivery(ctx context.Context, a *App) bool {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		s.mu.Lock()
		alone := s.users == 1
		s.mu.Unlock()
		if alone && s.pending(a) == 0 {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// pending is what the slowest of a configuration's stores has not taken.
func (s *shared) pending(a *App) (n uint64) {
	b := s.buf.Stats()
	for _, store := range a.stores {
		n = max(n, b.Head-b.Stores[store.Name].Position)
	}
	return n
}
