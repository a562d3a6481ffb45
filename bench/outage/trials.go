package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
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
	err = s.wait(ctx, d)
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

// network lets a store be reached through a network that is bad in several ways, one
// after the other.
func (o options) network(ctx context.Context, kind, dir string) ([]*result, error) {
	r := &result{Name: "network " + kind}
	s, err := newStage(o, r, dir)
	if err != nil {
		return []*result{r}, err
	}
	of, err := s.open(kind)
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	var p *proxy
	switch of := of.(type) {
	case *httpStore:
		if p, err = startProxy(ctx, o.Toxiproxy, dir, of.addr); err == nil {
			of.through = p.addr
		}
	case *postgresStore:
		if p, err = startProxy(ctx, o.Toxiproxy, dir, fmt.Sprintf("%s:%d", rig.Host, of.server.Port)); err == nil {
			_, port, _ := strings.Cut(p.addr, ":")
			s.Env = append(slices.Clip(s.Env), of.env+"="+of.dsn(port))
		}
	default:
		err = fmt.Errorf("store %s has no network", kind)
	}
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	defer p.close()
	err = s.play(ctx, func(ctx context.Context) error {
		for _, t := range toxics {
			s.say("%s for %s", t.Type, o.Toxic)
			if err := p.add(ctx, t); err != nil {
				return err
			}
			if err := s.wait(ctx, o.Toxic); err != nil {
				return err
			}
			if err := p.remove(ctx, t); err != nil {
				return err
			}
			r.Toxics = append(r.Toxics, t.Type)
		}
		return nil
	}, nil)
	if err == nil {
		s.waited(kind)
	}
	return []*result{r}, err
}
