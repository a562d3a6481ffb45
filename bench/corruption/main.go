// Corruption is an outside oracle of what becomes of a buffer whose files are
// harmed: it harms them at random, lets a build deliver what is left, and
// compares that with what can be read of the files.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// maxPerRound is how many damages a round has at most.
const maxPerRound = 8

type options struct {
	rig.Setup
	Damages int
	Seed    uint64
	Drain   time.Duration
}

func main() {
	var o options
	fs := flag.NewFlagSet("corruption", flag.ExitOnError)
	o.Register(fs)
	fs.IntVar(&o.Damages, "damages", 1000, "how `many` times to harm a file; a round has one to eight of them")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of the damages (default: a random one)")
	fs.DurationVar(&o.Drain, "drain", 30*time.Second, "how `long` a life may take to deliver everything")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Harms the files of a buffer and compares what is delivered and told with what can still be read of them.\n\n"+
			"  go run ./bench/corruption\n  go run ./bench/corruption -damages 40 -seed 7\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := corruption(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "corruption:", err)
	}
	if err != nil || !v.held() {
		stop()
		os.Exit(1)
	}
}

func corruption(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{Kinds: map[string]int{}}
	if o.Damages < 1 || o.Drain <= 0 {
		return v, fmt.Errorf("reading the options: -damages and -drain must be above zero")
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	v.Seed = o.Seed
	setup, dir, err := o.Complete(ctx, "corruption")
	if err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.held() {
			fmt.Fprintln(os.Stderr, "corruption: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	fmt.Fprintf(os.Stderr, "seed: %d\n", o.Seed)
	if setup.Caddyfile, err = smallSegments(setup.Caddyfile, dir); err != nil {
		return v, err
	}
	stub := new(api)
	addr, stop, err := rig.Serve(stub)
	if err != nil {
		return v, err
	}
	defer stop()
	// One reference is of a build that was killed under load, the other of one
	// that was stopped. Both are harmed at the same time, since a round waits
	// more than it computes.
	var workers []*worker
	var mu sync.Mutex
	for i, name := range []string{"killed", "stopped"} {
		site, err := rig.NewSite(setup, filepath.Join(dir, name), addr)
		if err != nil {
			return v, err
		}
		w := &worker{
			place: place{site, stub}, name: name, seed: o.Seed + uint64(i), drain: o.Drain, mu: &mu, v: v,
		}
		if w.ref, err = w.build(ctx, name == "killed"); err != nil {
			return v, err
		}
		fmt.Fprintf(os.Stderr, "%s: %d segments, %d entries, %d calls in flight, %d entries behind the head\n",
			name, len(w.ref.segments), w.ref.head, len(w.ref.open), len(w.ref.uncommitted))
		workers = append(workers, w)
	}
	err = run(ctx, workers, o)
	for _, p := range v.problems {
		fmt.Fprintln(w, "problem:", p)
	}
	if err != nil {
		return v, err
	}
	return v, rig.PrintJSON(w, v)
}

// run has the workers share the damages. Each begins with a round without any,
// which must show nothing, and ends with one whose directory is a copy.
func run(ctx context.Context, workers []*worker, o options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	left := &budget{left: o.Damages, of: o.Damages, bar: rig.NewProgress("damages")}
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			if err := w.run(ctx, left); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (w *worker) run(ctx context.Context, left *budget) error {
	if err := w.round(ctx, 0, &plan{}); err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(w.seed, 0))
	n := 1
	for ; ; n++ {
		damages := left.take(1 + rnd.IntN(maxPerRound))
		if damages == 0 {
			break
		}
		if err := w.round(ctx, n, w.plan(n, damages)); err != nil {
			return err
		}
		w.mu.Lock()
		left.step(w.v)
		w.mu.Unlock()
	}
	return w.round(ctx, n, &plan{copied: true})
}

// budget is how many damages are left to do.
type budget struct {
	mu       sync.Mutex
	left, of int
	bar      *rig.Progress
}

func (b *budget) take(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.left)
	b.left -= n
	return n
}

// step reports how far the run is.
func (b *budget) step(v *verdict) {
	b.bar.Step(v.Damages, b.of, fmt.Sprintf("%d rounds, %d entries lost, %d problems", v.Rounds, v.Lost, v.bad()))
}
