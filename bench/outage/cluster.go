package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// cluster kills the servers of a NATS cluster by SIGKILL, one at a time and each second
// time the stream's leader, and starts them again, for -down. Then it takes the quorum
// away for -quorum, and gives everything back.
func (o options) cluster(ctx context.Context, dir string) ([]*result, error) {
	r := &result{Name: trialCluster}
	s, err := newStage(o, r, dir)
	if err != nil {
		return []*result{r}, err
	}
	// A message that fails in the middle may be overtaken by those that are under way
	// behind it. How many were is reported.
	s.overtakes = true
	of, err := s.open(natsKind)
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	servers := of.(*natsStore)
	err = s.play(ctx, func(ctx context.Context) error {
		for began := time.Now(); time.Since(began) < o.Down; {
			if err := s.killOne(ctx, servers); err != nil {
				return err
			}
		}
		return s.away(ctx, servers, o.Quorum)
	}, nil)
	if err != nil {
		return []*result{r}, err
	}
	s.waited(natsKind)
	l := s.Stores[1]
	if l.Repeats > 0 { // all within the stream's duplicate window
		l.Note(&l.WrongRepeats, "%s: %d repeats are there, which the stream was to keep out", l.Store, l.Repeats)
	}
	return []*result{r}, nil
}

// killOne kills a server, leaves it dead for a half of -every and lets it catch up in the
// other half.
func (s *stage) killOne(ctx context.Context, of *natsStore) error {
	victim := s.result.Kills / 2 % of.cluster.Nodes()
	which := "in turn"
	if s.result.Kills%2 == 1 {
		leader, err := of.cluster.Leader(ctx, natsStream)
		if err == nil { // else there is none just now
			victim, which = leader, "the leader"
			s.Leaders++
		}
	}
	if err := s.wait(ctx, rand.N(time.Second)); err != nil { // at no special moment
		return err
	}
	if err := of.cluster.Kill(victim); err != nil {
		return err
	}
	s.result.Kills++
	s.say("SIGKILL %d, server %d, %s", s.result.Kills, victim+1, which)
	err := s.wait(ctx, s.Every/2)
	if err = errors.Join(err, of.cluster.Up(victim)); err != nil {
		return err
	}
	return s.wait(ctx, s.Every/2)
}
