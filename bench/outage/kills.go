package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// kills ends the server of a store by SIGKILL, again and again.
func (o options) kills(ctx context.Context, dir string) ([]*result, error) {
	r := &result{Name: "kills"}
	s, err := newStage(o, r, dir)
	if err != nil {
		return []*result{r}, err
	}
	of, err := s.open(postgresKind)
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	server := of.(*postgresStore).server
	err = s.play(ctx, func(ctx context.Context) error {
		for range o.Kills {
			if err := s.wait(ctx, time.Duration(200+rand.IntN(1800))*time.Millisecond); err != nil {
				return err
			}
			if err := server.Kill(); err != nil {
				return err
			}
			r.Kills++
			s.say("SIGKILL %d of %d", r.Kills, o.Kills)
			err := s.wait(ctx, time.Duration(rand.IntN(1000))*time.Millisecond)
			if err = errors.Join(err, server.Up()); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err == nil {
		s.waited(postgresKind)
	}
	return []*result{r}, err
}
