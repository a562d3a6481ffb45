package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// worker harms one reference again and again, at one site.
type worker struct {
	place
	name  string
	ref   *reference
	seed  uint64
	drain time.Duration
	calls int // given out so far

	mu *sync.Mutex
	v  *verdict // all workers'; guarded by mu
}

// plan is what happens in a round.
type plan struct {
	rnd     *rand.Rand
	harmed  map[string][]byte
	what    []string
	running bool
	killed  bool
	copied  bool
}

// plan draws a round's damages. The same seed, round and reference give the
// same ones.
func (w *worker) plan(n, damages int) *plan {
	p := &plan{rnd: rand.New(rand.NewPCG(w.seed, uint64(n))), harmed: map[string][]byte{}}
	p.running, p.killed = p.rnd.IntN(4) == 0, p.rnd.IntN(3) == 0
	for range damages {
		// The newest file is harmed as often as all others together. When a
		// process has started, it is a sealed one too.
		i := len(w.ref.segments) - 1
		if p.rnd.IntN(2) == 0 {
			i = p.rnd.IntN(i)
		}
		s := w.ref.segments[i]
		b, ok := p.harmed[s.name]
		if !ok {
			b = bytes.Clone(w.ref.files[s.name])
		}
		b, what := harm(p.rnd, b, s.used)
		p.harmed[s.name] = b
		p.what = append(p.what, s.name+": "+what)
	}
	return p
}

// crash is an end of the build that nobody asked for.
type crash struct{ error }

// round harms the reference and lets builds deliver what is left of it.
func (w *worker) round(ctx context.Context, n int, p *plan) error {
	name := fmt.Sprintf("%s, round %d", w.name, n)
	s := &shown{ref: w.ref, harmed: p.harmed, running: p.running, copied: p.copied}
	err := w.lives(ctx, p, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.v
	v.round = name
	v.Rounds++
	v.Damages += len(p.what)
	for _, what := range p.what {
		_, kind, _ := strings.Cut(what, ": ")
		kind, _, _ = strings.Cut(kind, " at ")
		v.Kinds[kind]++
	}
	if p.running && len(p.what) > 0 {
		v.Running++
	}
	if p.killed {
		v.Killed++
	}
	before, noted := v.bad(), len(v.problems)
	var c crash
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &c):
		v.problem(&v.Crashes, "%v", err)
	case errors.Is(err, errStuck):
		v.problem(&v.Stuck, "%v", err)
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	default:
		v.compare(s)
	}
	if v.bad() > before {
		v.problems = append(v.problems, fmt.Sprintf("%s: harmed were, running %t, killed %t: %s", name, p.running, p.killed, strings.Join(p.what, "; ")))
		return w.evidence(n, v.problems[noted:], p.harmed)
	}
	return nil
}

// evidence keeps a round that showed something: its files as they were harmed,
// and what the builds left.
func (w *worker) evidence(n int, problems []string, harmed map[string][]byte) error {
	dir := filepath.Join(filepath.Dir(w.Dir), fmt.Sprintf("evidence-%s-%d", w.name, n))
	if err := os.MkdirAll(filepath.Join(dir, "buffer"), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"export.ndjson", "caddy.log"} {
		if b, err := os.ReadFile(filepath.Join(w.Dir, name)); err == nil {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "problems.txt"), []byte(strings.Join(problems, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return w.ref.write(filepath.Join(dir, "buffer"), harmed)
}

var errStuck = errors.New("not everything is delivered")

// lives are those of a round: one that may be killed, one that delivers what
// is left, and one more that must find nothing new.
func (w *worker) lives(ctx context.Context, p *plan, s *shown) error {
	// The log is the round's own.
	if err := os.RemoveAll(w.LogPath()); err != nil {
		return err
	}
	if p.copied {
		if err := w.copyBuffer(); err != nil {
			return err
		}
	}
	atRest := p.harmed
	if p.running {
		atRest = nil
	}
	if err := w.restore(w.ref, atRest); err != nil {
		return fmt.Errorf("restoring the reference: %w", err)
	}
	if p.running {
		if err := w.block(); err != nil {
			return err
		}
	}
	if p.killed {
		if err := w.life(ctx, s, func(proc *rig.Process) error {
			if err := w.harmRunning(p); err != nil {
				return err
			}
			select {
			case <-time.After(time.Duration(p.rnd.IntN(600)) * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := proc.Crashed(); err != nil {
				return crash{err}
			}
			proc.Kill()
			return nil
		}); err != nil {
			return err
		}
	}
	for i, st := range []*rig.Status{&s.first, &s.last} {
		err := w.life(ctx, s, func(proc *rig.Process) error {
			if i == 0 && !p.killed {
				if err := w.harmRunning(p); err != nil {
					return err
				}
			}
			return w.deliver(ctx, proc)
		})
		if err != nil {
			return err
		}
		if *st, err = w.Status(ctx); err != nil {
			return err
		}
	}
	return w.export(ctx, s)
}

// life starts a build, which must work, and does something with it.
func (w *worker) life(ctx context.Context, s *shown, do func(*rig.Process) error) error {
	proc, err := w.Start(ctx)
	if err != nil {
		return err
	}
	defer proc.Kill()
	if err := proc.Ready(ctx, readyTimeout); err != nil {
		return crash{err}
	}
	if err := w.use(s); err != nil {
		return crash{errors.Join(err, proc.Crashed())}
	}
	return do(proc)
}

// use sends a few calls. Once one is answered the buffer is open for certain.
func (w *worker) use(s *shown) error {
	conn, err := rig.Dial(w.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 3 {
		w.calls++
		target, err := w.call(conn, 10_000_000+w.calls)
		if err != nil {
			return err
		}
		s.calls = append(s.calls, target)
	}
	return nil
}

// harmRunning harms the files under a running build, which could not deliver
// anything so far, and lets it.
func (w *worker) harmRunning(p *plan) error {
	if !p.running {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.harmed)) {
		if err := overwrite(filepath.Join(w.buffer(), name), p.harmed[name]); err != nil {
			return fmt.Errorf("harming %s: %w", name, err)
		}
	}
	return w.unblock()
}

// deliver waits until everything is delivered and ends the build.
func (w *worker) deliver(ctx context.Context, proc *rig.Process) error {
	if _, err := w.Drain(ctx, w.drain); err != nil {
		if crashed := proc.Crashed(); crashed != nil {
			return crash{crashed}
		}
		return errors.Join(errStuck, err)
	}
	if err := proc.Stop(stopTimeout); err != nil {
		return crash{err}
	}
	return nil
}

// export reads what is stored.
func (w *worker) export(ctx context.Context, s *shown) error {
	entries, err := w.Export(ctx, "export")
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(w.Dir, "export.ndjson"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for _, e := range entries {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		_, c, err := read(line)
		if err != nil {
			return err
		}
		s.stored = append(s.stored, stored{e, c})
	}
	return nil
}

// copyBuffer makes the directory a copy, as another machine would have it. It
// is put back by the next call of restore, but for the lock, so that this is a
// worker's last round.
func (w *worker) copyBuffer() error {
	if err := os.RemoveAll(w.buffer()); err != nil {
		return err
	}
	if err := os.MkdirAll(w.buffer(), 0o700); err != nil {
		return err
	}
	// Something else is put where the lock was, so that the copy cannot get
	// its number again by chance.
	if err := os.WriteFile(filepath.Join(w.AuditDir(), "between"), nil, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.buffer(), lockName), nil, 0o600)
}
