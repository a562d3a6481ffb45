package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// detachable lets a store be dead until it is detached, and then some.
func (o options) detachable(ctx context.Context, dir string) ([]*result, error) {
	const name = "siem"
	r := &result{Name: "detachable"}
	s, err := newStage(o, r, dir)
	if err != nil {
		return []*result{r}, err
	}
	// A thirtieth of what the shipped configuration has, so that it is soon reached.
	s.maxSize = "16MiB"
	of, err := newReceiver(filepath.Join(dir, "received.ndjson"), name, "detachable 20%")
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	s.stores = append(s.stores, of)
	s.expected = func(e rig.Entry) bool { g, ok := gapOf(e); return ok && g.Reason == reasonDetached && g.Store == name }
	err = s.play(ctx, func(ctx context.Context) error {
		// Whoever has an answer knows that it was taken: then the gap is exact.
		began := time.Now()
		if err := of.leave(ctx); err != nil {
			return err
		}
		s.say("down until it is detached")
		_, err := s.until(ctx, o.Drain, func(st rig.Status) bool {
			for _, t := range st.Stores {
				if t.Name == name {
					return t.Skipped > 0
				}
			}
			return false
		})
		if err == nil {
			err = s.wait(ctx, o.Down)
		}
		r.DownSeconds = seconds(time.Since(began))
		return errors.Join(err, of.up(ctx))
	}, nil)
	if err != nil {
		return []*result{r}, err
	}
	return []*result{r}, s.gaps(ctx, name)
}

// gaps holds what gaps tell of a detached store against its status.
func (s *stage) gaps(ctx context.Context, name string) error {
	st, err := s.site.Status(ctx)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for _, e := range s.result.Stores[0].latest {
		g, ok := gapOf(e)
		if !ok {
			continue
		}
		if g.Reason != reasonDetached || g.Store != name || g.First == 0 || g.Last < g.First || g.Count != g.Last-g.First+1 {
			s.Note(&s.WrongGaps, "gap %s says %s", e.ID, e.Action.Metadata)
			continue
		}
		s.Detached++
		for n := g.First; n <= g.Last; n++ {
			if seen[n] {
				s.Note(&s.WrongGaps, "two gaps tell of sequence %d", n)
			}
			seen[n] = true
		}
	}
	s.Given = uint64(len(seen))
	for _, t := range st.Stores {
		if t.Name == name && (t.Skipped != s.Given || s.Given == 0) {
			s.Note(&s.WrongGaps, "gaps tell of %d entries, and the status of %d skipped", s.Given, t.Skipped)
		}
	}
	return nil
}
