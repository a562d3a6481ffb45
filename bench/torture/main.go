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
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

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
	v = &verdict{Seed: o.Seed, Conserved: true}
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
	orc := oracle.New()
	api, stopAPI, err := rig.Serve(orc)
	if err != nil {
		return v, err
	}
	defer stopAPI()
	if setup.Caddyfile, err = smallSegments(setup.Caddyfile, o.Segment, dir); err != nil {
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
	v.Hangs, v.Strangers = orc.Timeouts(), orc.Unasked()
	reach := st.Delivered()
	if st.Head-reach > 1 {
		v.Note(&v.SequenceErrors, "the head is %d and only %d entries were delivered before the end", st.Head, reach)
	}
	v.compare(orc.Snapshot(), entries, reach)
	v.counters(entries, st)
	v.Report(w)
	return v, rig.PrintJSON(w, v)
}

// smallSegments writes the configuration with another segment_size.
func smallSegments(caddyfile, size, dir string) (string, error) {
	if size == "" {
		return caddyfile, nil
	}
	b, err := os.ReadFile(caddyfile)
	if err != nil {
		return "", fmt.Errorf("reading the Caddyfile: %w", err)
	}
	line := regexp.MustCompile(`(?m)^(\s*)buffer .*\{$`)
	if len(line.FindAll(b, 2)) != 1 {
		return "", fmt.Errorf("setting segment_size: %s does not have exactly one buffer block; name a file that has its own with -caddyfile", caddyfile)
	}
	path := filepath.Join(dir, "Caddyfile")
	b = line.ReplaceAll(b, []byte("$0\n$1\tsegment_size "+size))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return "", fmt.Errorf("setting segment_size: %w", err)
	}
	return path, nil
}

// lives runs the lives that end while clients call.
func (t *tormentor) lives(ctx context.Context, o options, orc *oracle.Oracle) error {
	calling, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for i := range o.Clients {
		rnd := rand.New(rand.NewPCG(o.Seed, uint64(i)+2))
		clients.Go(func() { orc.Client(calling, t.site.Addr, o.Reads, rnd) })
	}
	defer clients.Wait()
	defer stop()
	bar := rig.NewProgress("kills")
	for n := 1; t.v.Kills < o.Kills; n++ {
		if err := t.life(ctx, n); err != nil {
			return err
		}
		bar.Step(t.v.Kills, o.Kills, fmt.Sprintf("%s, %d calls sent", t.note, orc.Sent()))
	}
	return nil
}

// counters holds the product's own count against its export. A refused call
// may have an entry too, and is counted as refused.
func (v *verdict) counters(entries []rig.Entry, st rig.Status) {
	recorded := uint64(0)
	for _, e := range entries {
		if !e.Event() && e.Outcome != "refused" {
			recorded++
		}
	}
	v.CountersAgree = st.Calls.Recorded == recorded
	if !v.CountersAgree {
		v.Add("the product counts %d recorded calls and exports %d: %s", st.Calls.Recorded, recorded, st.Raw)
	}
}
