package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

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
		if p, err = startProxy(ctx, o.Toxiproxy, dir, fmt.Sprintf("%s:%d", ports.Host, of.server.Port)); err == nil {
			_, port, _ := strings.Cut(p.addr, ":")
			s.Env = append(slices.Clip(s.Env), of.env+"="+of.dsn(port))
		}
	case *syslogStore:
		if p, err = startProxy(ctx, o.Toxiproxy, dir, of.addr); err == nil {
			of.through = p.addr
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
			from, err := s.delivered(ctx, kind)
			if err != nil {
				return err
			}
			if err := p.add(ctx, t); err != nil {
				return err
			}
			if err := s.wait(ctx, o.Toxic); err != nil {
				return err
			}
			to, err := s.delivered(ctx, kind)
			if err != nil {
				return err
			}
			r.Toxics = append(r.Toxics, passage{t.Type, to - from})
			if err := p.remove(ctx, t); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err == nil {
		s.waited(kind)
	}
	return []*result{r}, err
}

// delivered is how many entries a store has by now.
func (s *stage) delivered(ctx context.Context, name string) (uint64, error) {
	st, err := s.site.Status(ctx)
	if err != nil {
		return 0, err
	}
	s.conserved(st, "in a bad network")
	for _, t := range st.Stores {
		if t.Name == name {
			return t.Delivered, nil
		}
	}
	return 0, fmt.Errorf("reading the status: it does not name store %s: %s", name, st.Raw)
}
