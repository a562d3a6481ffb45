package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// two lets two builds write into one database, whose server is away once.
func (o options) two(ctx context.Context, dir string) ([]*result, error) {
	server, err := newPostgres()
	if err != nil {
		return nil, err
	}
	var results []*result
	var stages []*stage
	for i := range 2 {
		r := &result{Name: fmt.Sprintf("two, build %d", i+1)}
		results = append(results, r)
		s, err := newStage(o, r, filepath.Join(dir, fmt.Sprint(i+1)))
		if err != nil {
			return results, errors.Join(err, server.close())
		}
		s.stores = append(s.stores, &sharedStore{server, s})
		s.Env = append(slices.Clip(s.Env), server.env+"="+server.dsn(""))
		s.from = uint64(i) * 1_000_000_000
		stages = append(stages, s)
	}
	// One of them takes the server away, while both have calls.
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, s := range stages {
		both.Go(func() {
			errs[i] = s.play(ctx, func(ctx context.Context) error {
				if i == 0 {
					return s.away(ctx, server, min(o.Down, 10*time.Second))
				}
				return s.wait(ctx, min(o.Down, 10*time.Second))
			}, nil)
		})
	}
	both.Wait()
	err = errors.Join(errs...)
	if err == nil {
		err = foreign(ctx, server, stages)
	}
	return results, errors.Join(err, server.close())
}

// sharedStore is a store that several builds write to: of it a stage has what is of its own
// build.
type sharedStore struct {
	*postgresStore
	of *stage
}

func (s *sharedStore) close() error { return nil } // it is not the stage's

func (s *sharedStore) arrivals(ctx context.Context) ([]rig.Entry, error) {
	all, err := s.postgresStore.arrivals(ctx)
	if err != nil {
		return nil, err
	}
	st, err := s.of.site.Status(ctx)
	if err != nil {
		return nil, err
	}
	var own []rig.Entry
	for _, e := range all {
		if e.Origin != nil && e.Origin.Instance == st.Instance {
			own = append(own, e)
		}
	}
	return own, nil
}

// foreign looks for entries of neither build.
func foreign(ctx context.Context, server *postgresStore, stages []*stage) error {
	ranges, err := server.ranges(ctx)
	if err != nil {
		return err
	}
	all, err := server.arrivals(ctx)
	if err != nil {
		return err
	}
	r, own := stages[0].result, 0
	for _, s := range stages {
		own += s.result.Stores[1].Stored
	}
	if len(ranges) != len(stages) || len(all) != own {
		r.Stores[1].Note(&r.Stores[1].Strange, "the database has %d entries of %d instances, and the builds have %d of %d", len(all), len(ranges), own, len(stages))
	}
	return nil
}
