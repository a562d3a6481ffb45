package main

import (
	"context"
	"errors"
	"time"
)

// outage takes one store away for a while, beside another that goes on.
func (o options) outage(ctx context.Context, kind, dir string) ([]*result, error) {
	r := &result{Name: "outage " + kind}
	s, err := newStage(o, r, dir)
	if err != nil {
		return []*result{r}, err
	}
	of, err := s.open(kind)
	if err == nil && kind == sqliteKind {
		_, err = s.open(fileKind)
	}
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	err = s.play(ctx, func(ctx context.Context) error { return s.away(ctx, of, o.Down) }, nil)
	if err != nil {
		return []*result{r}, err
	}
	s.tells(kind)
	s.waited(kind)
	return []*result{r}, nil
}

// away takes a store away for a time, and gives it back whatever happens.
func (s *stage) away(ctx context.Context, of store, d time.Duration) (err error) {
	s.say("down for %s", d)
	began := time.Now()
	if err := of.down(ctx); err != nil {
		return err
	}
	if err = s.wait(ctx, d); err == nil {
		// However busy the machine is, and however short the outage, somebody has looked meanwhile.
		s.look(ctx, s.sampler)
	}
	s.DownSeconds += seconds(time.Since(began))
	err = errors.Join(err, of.up(ctx))
	s.say("up again")
	return err
}

// waited notes what waited, which must be something for the store that was away.
func (s *stage) waited(kind string) {
	s.Waiting = s.sampler.most
	if s.Waiting[kind][during] == 0 {
		s.Note(&s.NoOutage, "nothing ever waited for store %s, so that nothing was shown", kind)
	}
}
