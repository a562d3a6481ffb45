package main

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// sampler asks the build for its numbers each second, and stores for what they
// have received.
type sampler struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	phase string
	// most waited for a store in a phase.
	most map[string]map[string]uint64
	// wrong are by store the moments at which what it had received had a hole.
	wrong map[string]int
}

func (p *sampler) enter(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

// stop may be called again.
func (p *sampler) stop() {
	p.cancel()
	<-p.ended
}

func (s *stage) sample(ctx context.Context) *sampler {
	ctx, cancel := context.WithCancel(ctx)
	p := &sampler{cancel: cancel, ended: make(chan struct{}), most: map[string]map[string]uint64{}, wrong: map[string]int{}}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.look(ctx, p)
			}
		}
	}()
	return p
}

// look is one sample.
func (s *stage) look(ctx context.Context, p *sampler) {
	p.mu.Lock()
	phase := p.phase
	p.mu.Unlock()
	st, err := s.site.Status(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.mu.Lock()
		s.Note(&s.NotConserved, "asking for the status failed: %v", err)
		s.mu.Unlock()
		return
	}
	s.conserved(st, phase)
	p.mu.Lock()
	for _, t := range st.Stores {
		if p.most[t.Name] == nil {
			p.most[t.Name] = map[string]uint64{}
		}
		p.most[t.Name][phase] = max(p.most[t.Name][phase], t.Pending)
	}
	p.mu.Unlock()
	for _, of := range s.stores {
		r, ok := of.(ranger)
		if !ok {
			continue
		}
		short, cancel := context.WithTimeout(ctx, 3*look)
		ranges, err := r.ranges(short)
		cancel()
		// One that is down, or is only being made, says nothing.
		if own := ranges[st.Instance]; err == nil && (len(own) > 1 || len(own) == 1 && own[0][0] != 1) {
			s.mu.Lock()
			s.Add("%s: %s it has received %v", of.name(), phase, own)
			s.mu.Unlock()
			p.mu.Lock()
			p.wrong[of.name()]++
			p.mu.Unlock()
		}
	}
}

// conserved does the sums of a status.
func (s *stage) conserved(st rig.Status, when string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Samples++
	for _, b := range st.Broken() {
		s.Note(&s.NotConserved, "not conserved %s: %s: %s", when, b, st.Raw)
	}
}
