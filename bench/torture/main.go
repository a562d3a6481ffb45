// Torture is the outside oracle of the promise: it kills a running build
// again and again under load and then asks whether what it saw happen is what
// was stored.
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
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// maxWait is the shipped Caddyfile's; a reload makes it a little longer.
const maxWait = 2 * time.Second

type options struct {
	rig.Setup
	Kills   int
	Clients int
	Reads   float64
	Seed    uint64
	Drain   time.Duration
	Segment string
	Hold    time.Duration
	Reloads bool
}

func main() {
	var o options
	fs := flag.NewFlagSet("torture", flag.ExitOnError)
	o.Register(fs)
	fs.IntVar(&o.Kills, "kills", 50, "how `many` times to kill the build; now and then it is stopped in an orderly way besides")
	fs.IntVar(&o.Clients, "clients", 64, "how `many` clients call at full speed")
	fs.Float64Var(&o.Reads, "reads", 0.5, "`share` of calls that only read")
	fs.BoolVar(&o.Reloads, "reloads", true, "reload the configuration every 100 to 400 ms, and aim some kills at it")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of the choices (default: a random one)")
	fs.DurationVar(&o.Drain, "drain", 2*time.Minute, "how `long` the last life may take to deliver everything")
	fs.StringVar(&o.Segment, "segment-size", "", "seal the buffer's files at this `size`, as in 1MiB, so that kills find them rotating (default: as configured)")
	fs.DurationVar(&o.Hold, "hold", 0, "add a life with calls that take this `long`; above 30s they become pending (default: none)")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Kills a running build under load and compares what happened with what it stored.\n\n"+
			"  go run ./bench/torture\n  go run ./bench/torture -kills 500\n  go run ./bench/torture -kills 10 -seed 7 -segment-size 1MiB -hold 33s\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := torture(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	}
	if err != nil || !v.held() {
		stop()
		os.Exit(1)
	}
}

func torture(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	if o.Kills < 1 || o.Clients < 1 || o.Reads < 0 || o.Reads > 1 {
		return &verdict{}, fmt.Errorf("reading the options: -kills and -clients must be at least 1, -reads between 0 and 1")
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	v = &verdict{Seed: o.Seed}
	setup, dir, err := o.Complete(ctx, "torture")
	if err != nil {
		return v, err
	}
	defer func() {
		if o.Keep || err != nil || !v.held() {
			fmt.Fprintln(os.Stderr, "torture: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	fmt.Fprintf(os.Stderr, "seed: %d\n", o.Seed)
	orc := oracle.New(maxWait)
	api, stopAPI, err := rig.Serve(orc)
	if err != nil {
		return v, err
	}
	defer stopAPI()
	if setup.Caddyfile, err = rig.WithBuffer(setup.Caddyfile, dir, "segment_size", o.Segment); err != nil {
		return v, err
	}
	site, err := rig.NewSite(setup, filepath.Join(dir, "site"), api)
	if err != nil {
		return v, err
	}
	t := &tormentor{site: site, rnd: rand.New(rand.NewPCG(o.Seed, 1)), v: v}
	if o.Reloads {
		if t.reloader, err = newReloader(site, o.Seed); err != nil {
			return v, err
		}
	}
	if err := t.lives(ctx, o, orc); err != nil {
		v.Report(w)
		return v, err
	}
	if o.Hold > 0 {
		if err := t.held(ctx, orc, o.Hold); err != nil {
			v.Report(w)
			return v, err
		}
	}
	entries, st, err := t.reckoning(ctx, o.Drain)
	if err != nil {
		v.Report(w)
		return v, err
	}
	v.Compare(orc, entries, st, oracle.Rules{Deaths: true})
	v.Conserved, v.CountersAgree = v.Unconserved == 0, v.CountersWrong == 0
	v.Report(w)
	return v, rig.PrintJSON(w, v)
}

// lives runs the lives that end while clients call.
func (t *tormentor) lives(ctx context.Context, o options, orc *oracle.Oracle) error {
	defer orc.Start(ctx, t.site.Addr, oracle.Load{Clients: o.Clients, Reads: o.Reads, Seed: o.Seed})()
	bar := rig.NewProgress("kills")
	for n := 1; t.v.Kills < o.Kills; n++ {
		if err := t.life(ctx, n); err != nil {
			return err
		}
		bar.Step(t.v.Kills, o.Kills, fmt.Sprintf("%s, %d calls sent", t.note, orc.Sent()))
	}
	return nil
}
