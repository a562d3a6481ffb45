package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	// maxWait is more than the shipped Caddyfile's, so that a disk which others keep
	// busy only slows calls down: what refuses or delays one for longer is no disk.
	maxWait = 15 * time.Second
	// look is how often the build is asked for its numbers.
	look = time.Second
)

// The phases of a trial.
const (
	before   = "before"
	during   = "during"
	after    = "after"
	draining = "draining"
)

// stage is one build with its stores, its API and its callers.
type stage struct {
	options
	*result
	dir    string
	o      *oracle.Oracle
	site   *rig.Site
	proc   *rig.Process
	stores []store
	// expected says which gaps a trial is about; nil is none.
	expected func(rig.Entry) bool
	// from is the number of the first call.
	from uint64
	// refuses says that the second store refuses entries.
	refuses bool
	// overtakes says that the second store may have entries before earlier ones, which
	// is then counted and not judged.
	overtakes bool
	// maxSize is the buffer's; empty is the shipped one.
	maxSize string

	sampler *sampler
	mu      sync.Mutex // guards the figures while the sampler runs
}

// newStage sets nothing going yet. Its first store is the shipped one; the stage
// closes its stores.
func newStage(o options, r *result, dir string) (*stage, error) {
	s := &stage{options: o, result: r, dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the trial's directory: %w", err)
	}
	s.stores = []store{&sqliteStore{path: filepath.Join(dir, "site", "audit", "audit.db")}}
	return s, nil
}

// open adds a store of a kind.
func (s *stage) open(kind string) (store, error) {
	if kind == sqliteKind {
		return s.stores[0], nil
	}
	added, env, err := makers[kind](s.dir)
	if err != nil {
		return nil, fmt.Errorf("starting what is behind store %s: %w", kind, err)
	}
	s.Env = append(slices.Clone(s.Env), env...)
	s.stores = append(s.stores, added)
	return added, nil
}

func (s *stage) close() error {
	if s.proc != nil {
		s.proc.Kill()
	}
	var err error
	for _, st := range s.stores {
		err = errors.Join(err, st.close())
	}
	return err
}

// say tells people what goes on.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", s.Name, fmt.Sprintf(format, args...))
}

// play is a whole trial: act happens while clients call. Then everything is
// delivered, settle happens, the build is stopped, and what all stores have is
// compared with what happened. Both may be nil.
func (s *stage) play(ctx context.Context, act, settle func(context.Context) error) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	stopAPI, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer stopAPI()
	s.sampler = s.sample(ctx)
	defer s.sampler.stop()
	if err := s.load(ctx, act); err != nil {
		return err
	}
	s.phase(draining)
	began := time.Now()
	if _, err := s.until(ctx, s.Drain, rig.Status.Drained); err != nil {
		return fmt.Errorf("delivering what waits: %w", err)
	}
	s.DrainSeconds = seconds(time.Since(began))
	if settle != nil {
		if err := settle(ctx); err != nil {
			return err
		}
		if _, err := s.until(ctx, s.Drain, rig.Status.Drained); err != nil {
			return fmt.Errorf("delivering what waits: %w", err)
		}
	}
	s.sampler.stop()
	if err := s.proc.Stop(stopTimeout); err != nil {
		return err
	}
	return s.reckoning(ctx)
}

// configure writes the Caddyfile.
func (s *stage) configure() error {
	b, err := os.ReadFile(s.Caddyfile)
	if err != nil {
		return fmt.Errorf("reading the Caddyfile: %w", err)
	}
	text, err := caddyfile(string(b), s.stores, s.maxSize)
	if err != nil {
		return err
	}
	s.Caddyfile = filepath.Join(s.dir, "Caddyfile")
	if err := os.WriteFile(s.Caddyfile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the Caddyfile: %w", err)
	}
	s.Env = append(slices.Clone(s.Env), "OUTAGE_SECRET="+secret())
	return nil
}

// start makes the configuration and starts everything.
func (s *stage) start(ctx context.Context) (stopAPI func(), err error) {
	if err := s.configure(); err != nil {
		return nil, err
	}
	s.o = oracle.New(maxWait)
	s.o.From(s.from)
	api, stop, err := rig.Serve(s.o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	if s.site, err = rig.NewSite(s.Setup, filepath.Join(s.dir, "site"), api); err != nil {
		return nil, err
	}
	if s.proc, err = s.site.Start(ctx); err != nil {
		return nil, err
	}
	if err = s.proc.Ready(ctx, readyTimeout); err != nil {
		return nil, err
	}
	return stop, s.introduce()
}

// introduce lets the API accept the credential that all calls have. Callers of
// whom nothing is known share a part of the buffer.
func (s *stage) introduce() error {
	conn, err := rig.Dial(s.site.Addr)
	if err != nil {
		return fmt.Errorf("connecting to the build: %w", err)
	}
	defer conn.Close()
	for range 3 {
		if _, keep := s.o.Send(conn, s.site.Addr, &oracle.ReadKind, 0); !keep {
			return errors.New("sending the first calls: one got no answer")
		}
	}
	return nil
}

// load calls before, while and after act.
func (s *stage) load(ctx context.Context, act func(context.Context) error) error {
	defer s.o.Start(ctx, s.site.Addr, oracle.Load{Clients: s.Clients, Reads: s.Reads, Pause: s.Pause, Seed: rand.Uint64()})()
	s.phase(before)
	if err := s.wait(ctx, s.Warm); err != nil {
		return err
	}
	s.phase(during)
	if act != nil {
		if err := act(ctx); err != nil {
			return err
		}
	}
	s.phase(after)
	return s.wait(ctx, s.After)
}

func (s *stage) phase(name string) {
	s.o.Phase(name)
	s.sampler.enter(name)
}

// wait lets a time pass, and notices a build that ends by itself.
func (s *stage) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.proc.Done():
		return errors.Join(s.proc.Crashed(), errors.New("the build ended"))
	case <-time.After(d):
		return nil
	}
}

// until waits for a status.
func (s *stage) until(ctx context.Context, timeout time.Duration, is func(rig.Status) bool) (rig.Status, error) {
	for deadline := time.Now().Add(timeout); ; {
		st, err := s.site.Status(ctx)
		if err != nil {
			return st, errors.Join(err, s.proc.Crashed())
		}
		s.conserved(st, "while something was awaited")
		if is(st) {
			return st, nil
		}
		if time.Now().After(deadline) {
			return st, fmt.Errorf("it took longer than %s: %s", timeout, st.Raw)
		}
		if err := s.wait(ctx, 200*time.Millisecond); err != nil {
			return st, err
		}
	}
}

// reckoning compares what the stores of the stopped build have with what
// happened.
func (s *stage) reckoning(ctx context.Context) error {
	st, err := s.site.Status(ctx)
	if err != nil {
		return err
	}
	s.conserved(st, "stopped")
	s.callers()
	var first *ledger
	lost := map[string]map[uint64]string{}
	for _, of := range s.stores {
		entries, err := of.arrivals(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(st.Stores, func(t rig.StoreStatus) bool { return t.Name == of.name() })
		if i < 0 {
			return fmt.Errorf("comparing: the status does not name store %s: %s", of.name(), st.Raw)
		}
		t := st.Stores[i]
		if first == nil {
			lost = given(entries)
		}
		l := &ledger{Store: of.name(), once: of.once()}
		s.Stores = append(s.Stores, l)
		l.arrived(entries, span{st.Instance, t.Start, t.Position, lost[l.Store], (s.refuses || s.overtakes) && of != s.stores[0], of.kind() == natsKind || of.kind() == s3Kind})
		if r, ok := of.(ranger); ok {
			ranges, err := r.ranges(ctx)
			if err != nil {
				return err
			}
			l.received(ranges[st.Instance], t.Start, t.Position, "at the end")
			l.WrongRanges += s.sampler.wrong[l.Store]
		}
		if len(lost[l.Store]) == 0 {
			v := l.calls(s.o, st, s.isExpected)
			s.Acked = v.Acked
		}
		if h, ok := of.(*httpStore); ok {
			s.Forged, s.Reused = h.figures()
		}
		if first == nil {
			first = l
			continue
		}
		l.agrees(first, lost[l.Store])
	}
	return s.logged()
}

func (s *stage) isExpected(e rig.Entry) bool { return s.expected != nil && s.expected(e) }

func seconds(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }
