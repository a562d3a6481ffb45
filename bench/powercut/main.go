//go:build linux

// Powercut takes the power away from a running build's disk again and again,
// under load, and then asks whether all that was answered is still there.
package main

import (
	"context"
	"errors"
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

// maxWait is the product's, as the run sets it.
const maxWait = 2 * time.Second

type options struct {
	rig.Setup
	Cuts    int
	Method  string
	Clients int
	Reads   float64
	Pause   time.Duration
	Seed    uint64
	Size    int64
	Segment string
	Drain   time.Duration
	// Lies makes the disk lie about what it has flushed, by tests.
	Lies bool
}

func main() {
	var o options
	fs := flag.NewFlagSet("powercut", flag.ExitOnError)
	o.Register(fs)
	fs.IntVar(&o.Cuts, "cuts", 100, "how `many` times to cut the power")
	fs.StringVar(&o.Method, "method", "both", "how: `ioctl` shuts the filesystem down, copy goes on from a copy of the disk at that instant; or both in turn")
	fs.IntVar(&o.Clients, "clients", 48, "how `many` clients call")
	fs.Float64Var(&o.Reads, "reads", 0.25, "`share` of calls that only read")
	fs.DurationVar(&o.Pause, "pause", 5*time.Millisecond, "how `long` a client rests between two calls, in the mean")
	fs.Uint64Var(&o.Seed, "seed", 0, "seed of the choices (default: a random one)")
	fs.Int64Var(&o.Size, "size", 2<<10, "size of the disk in `MiB`; it lies in memory, which only what is written takes")
	fs.StringVar(&o.Segment, "segment-size", "1MiB", "seal the buffer's files at this `size`, so that cuts find them rotating")
	fs.DurationVar(&o.Drain, "drain", 3*time.Minute, "how `long` the last life may take to deliver everything")
	fs.Usage = func() {
		fmt.Fprint(fs.Output(), "Cuts the power of a running build's disk under load and compares what was answered with what is there afterwards.\n"+
			"Needs Linux, root, loop devices and FUSE.\n\n"+
			"  sudo go run ./bench/powercut\n  sudo go run ./bench/powercut -cuts 10 -seed 7 -method copy\n\n")
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // exits by itself
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := powercut(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
	}
	if err != nil || !v.held() {
		stop()
		os.Exit(1)
	}
}

// verdict is what a run found; it is the program's last line.
type verdict struct {
	Seed   uint64 `json:"seed"`
	Cuts   int    `json:"cuts"`
	Ioctl  int    `json:"ioctl"`
	Copies int    `json:"copies"`
	oracle.Verdict
}

func (v *verdict) held() bool { return v.Held() && v.Cuts > 0 }

func powercut(ctx context.Context, o options, w io.Writer) (v *verdict, err error) {
	v = &verdict{Seed: o.Seed}
	switch o.Method {
	case "both", string(byIoctl), string(byCopy):
	default:
		return v, fmt.Errorf("reading the options: -method %q: give ioctl, copy or both", o.Method)
	}
	if o.Cuts < 1 || o.Clients < 1 || o.Reads < 0 || o.Reads > 1 || o.Size < 64 {
		return v, errors.New("reading the options: -cuts and -clients must be at least 1, -reads between 0 and 1, -size at least 64")
	}
	if err := possible(); err != nil {
		return v, err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
		v.Seed = o.Seed
	}
	setup, dir, err := o.Complete(ctx, "powercut")
	if err != nil {
		return v, err
	}
	keep := func() bool { return o.Keep || err != nil || !v.held() }
	defer func() {
		if keep() {
			fmt.Fprintln(os.Stderr, "powercut: the evidence is in", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	fmt.Fprintf(os.Stderr, "seed: %d\n", o.Seed)
	if setup.Caddyfile, err = rig.WithBuffer(setup.Caddyfile, dir, "segment_size", o.Segment); err != nil {
		return v, err
	}
	if setup.Caddyfile, err = rig.WithBuffer(setup.Caddyfile, dir, "max_wait", maxWait.String()); err != nil {
		return v, err
	}
	orc := oracle.New(maxWait)
	api, stopAPI, err := rig.Serve(orc)
	if err != nil {
		return v, err
	}
	defer stopAPI()
	machine, onMachine, err := newMachine(dir, setup.Caddy)
	if err != nil {
		return v, err
	}
	setup.Caddy = onMachine
	site, err := rig.NewSite(setup, filepath.Join(dir, "site"), api)
	if err != nil {
		return v, err
	}
	// The buffer and the store lie on the disk that is cut, the log does not.
	d, err := newDisk(ctx, dir, site.AuditDir(), o.Size<<20, o.Seed, o.Lies)
	if err != nil {
		return v, err
	}
	defer func() {
		if derr := d.detach(); derr == nil && keep() {
			err = errors.Join(err, d.dev.keep(filepath.Join(dir, imageName)))
		}
		err = errors.Join(err, d.remove())
	}()
	c := &cutter{site: site, machine: machine, disk: d, oracle: orc, rnd: rand.New(rand.NewPCG(o.Seed, 1)), v: v}
	stop := orc.Start(ctx, site.Addr, oracle.Load{Clients: o.Clients, Reads: o.Reads, Pause: o.Pause, Seed: o.Seed})
	err = c.cuts(ctx, o)
	stop()
	if err == nil {
		err = c.reckoning(ctx, o.Drain)
	}
	v.Report(w)
	if err != nil {
		return v, err
	}
	return v, rig.PrintJSON(w, v)
}
